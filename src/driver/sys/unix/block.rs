//! Requests carried out on a thread that may block.

// # Why this file has `unsafe`
// It makes system calls with memory that a request names.

use std::os::fd::RawFd;

use super::attempt::{read, readv, write, writev};
use super::{SigPipe, large, retry};
use crate::driver::Request;
use crate::os;

/// Carries a request out, and blocks for as long as that takes; returns its result, or a negated
/// error number.
///
/// # Safety
/// Clauses 1 and 2 of the [contract](crate::driver) hold for all memory that the request points to.
pub(in crate::driver) unsafe fn block(request: Request, sigpipe: SigPipe) -> i32 {
    use Request::*;
    // SAFETY: in every arm the call gets only pointers of the request, with the lengths that belong
    // to them: by clause 1 that memory is in place, by clause 2 the call may use it.
    unsafe {
        match request {
            Read { fd, ptr, len, offset } => read(fd.fd, ptr, len, offset),
            Write { fd, ptr, len, offset } => sigpipe.without(|| write(fd.fd, ptr, len, offset)),
            Readv { fd, iov, count, offset } => readv(fd.fd, iov, count, offset),
            Writev { fd, iov, count, offset } => {
                sigpipe.without(|| writev(fd.fd, iov, count, offset))
            }
            Open { dir, path, flags, mode } => {
                retry(|| large::openat(dir, path, flags, mode) as isize)
            }
            Close { fd, .. } => {
                // Not repeated after a signal: the fd is closed by then.
                if libc::close(fd) < 0 { -super::errno() } else { 0 }
            }
            Call { call, args, .. } => call.perform(args.as_ref()),
            Statx { dir, path, flags, out } => stat(dir, path, flags, out),
            Sendfile { file, offset, len, .. } => super::resident::fetch(file.fd, offset, len),
            Nop
            | Accept { .. }
            | Connect { .. }
            | Recv { .. }
            | RecvProvided { .. }
            | Send { .. }
            | Recvmsg { .. }
            | Sendmsg { .. }
            | Poll { .. } => unreachable!("{request:?} has no call that blocks"),
            #[cfg(target_os = "linux")]
            Splice { .. } => unreachable!("{request:?} has no call that blocks"),
        }
    }
}

/// # Safety
/// `path` ends with a NUL and is valid for reads; `out` is valid for writes.
#[cfg(target_os = "linux")]
unsafe fn stat(dir: RawFd, path: *const libc::c_char, flags: i32, out: *mut os::Stat) -> i32 {
    // SAFETY: this function's only item.
    unsafe { super::newer::statx(dir, path, flags, super::STATX_MASK, out) }
}

/// # Safety
/// `path` ends with a NUL and is valid for reads; `out` is valid for writes.
#[cfg(not(target_os = "linux"))]
unsafe fn stat(dir: RawFd, path: *const libc::c_char, flags: i32, out: *mut os::Stat) -> i32 {
    // SAFETY: this function's only item.
    unsafe {
        if flags & os::AT_EMPTY_PATH != 0 && *path == 0 {
            return retry(|| libc::fstat(dir, out) as isize);
        }
        retry(|| libc::fstatat(dir, path, out, flags) as isize)
    }
}
