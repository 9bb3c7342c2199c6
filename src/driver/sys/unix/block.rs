//! Requests carried out on a thread that may wait for them.
//!
//! # Why this file has `unsafe`
//! It makes system calls with memory that a request names.

use std::os::fd::RawFd;

use super::attempt::{read, readv, write, writev};
use super::{SigPipe, retry};
use crate::driver::Request;
use crate::os;

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
            Call { call, args, .. } => call.perform(args.as_ref()),
            Statx { dir, path, flags, out } => stat(dir, path, flags, out),
            Nop
            | Accept { .. }
            | Connect { .. }
            | Recv { .. }
            | RecvProvided { .. }
            | Send { .. }
            | Recvmsg { .. }
            | Sendmsg { .. }
            | Poll { .. }
            | Sendfile { .. } => unreachable!("{request:?} is not for threads"),
            #[cfg(target_os = "linux")]
            Splice { .. } => unreachable!("{request:?} is not for threads"),
        }
    }
}

#[cfg(target_os = "linux")]
unsafe fn stat(dir: RawFd, path: *const libc::c_char, flags: i32, out: *mut os::Stat) -> i32 {
    let mask = libc::STATX_BASIC_STATS | libc::STATX_BTIME;
    // SAFETY: what the caller of `block` promises.
    retry(|| unsafe { libc::statx(dir, path, flags, mask, out) as isize })
}

#[cfg(not(target_os = "linux"))]
unsafe fn stat(dir: RawFd, path: *const libc::c_char, flags: i32, out: *mut os::Stat) -> i32 {
    // SAFETY: what the caller of `block` promises.
    unsafe {
        if flags & os::AT_EMPTY_PATH != 0 && *path == 0 {
            return retry(|| libc::fstat(dir, out) as isize);
        }
        retry(|| libc::fstatat(dir, path, out, flags) as isize)
    }
}
