//! Requests carried out on a thread that may wait for them.
//!
//! # Why this file has `unsafe`
//! It makes system calls with memory that a request names.

use super::attempt::{read, readv, write, writev};
use super::{SigPipe, retry};
use crate::driver::Request;

/// Carries a request out, however long that takes: its result, or a negated error number.
///
/// # Safety
/// All memory that the request names is there, and not used otherwise.
pub(in crate::driver) unsafe fn block(request: Request, sigpipe: SigPipe) -> i32 {
    use Request::*;
    // SAFETY: in all of these, what the caller promises.
    unsafe {
        match request {
            Read { fd, ptr, len, offset } => read(fd.fd, ptr, len, offset),
            Write { fd, ptr, len, offset } => sigpipe.without(|| write(fd.fd, ptr, len, offset)),
            Readv { fd, iov, count, offset } => readv(fd.fd, iov, count, offset),
            Writev { fd, iov, count, offset } => {
                sigpipe.without(|| writev(fd.fd, iov, count, offset))
            }
            Open { dir, path, flags, mode } => {
                retry(|| libc::openat(dir, path, flags, mode) as isize)
            }
            Close { fd } => {
                // Never again after a signal: the fd is gone by then.
                if libc::close(fd) < 0 { -super::errno() } else { 0 }
            }
            Fsync { fd, data_only: false } => retry(|| libc::fsync(fd.fd) as isize),
            Fsync { fd, data_only: true } => retry(|| libc::fdatasync(fd.fd) as isize),
            Fallocate { fd, mode, offset, len } => match (offset.try_into(), len.try_into()) {
                (Ok(offset), Ok(len)) => {
                    retry(|| libc::fallocate64(fd.fd, mode, offset, len) as isize)
                }
                _ => -libc::EINVAL,
            },
            Ftruncate { fd, len } => match len.try_into() {
                Ok(len) => retry(|| libc::ftruncate64(fd.fd, len) as isize),
                Err(_) => -libc::EINVAL,
            },
            Statx { dir, path, flags, mask, out } => {
                retry(|| libc::statx(dir, path, flags, mask, out) as isize)
            }
            _ => unreachable!("{request:?} does not block"),
        }
    }
}
