//! Requests carried out on a thread that may block.

// # Why this file has `unsafe`
// It makes system calls with memory that a request names.

use std::os::fd::RawFd;

use super::attempt::{read, readv, write, writev};
use super::{SigPipe, retry};
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
                retry(|| libc::openat(dir, path, flags, mode) as isize)
            }
            Close { fd } => {
                // Not repeated after a signal: the fd is closed by then.
                if libc::close(fd) < 0 { -super::errno() } else { 0 }
            }
            Fsync { fd, data_only: false } => retry(|| libc::fsync(fd.fd) as isize),
            Fsync { fd, data_only: true } => retry(|| fdatasync(fd.fd) as isize),
            Fallocate { fd, mode, offset, len } => fallocate(fd.fd, mode, offset, len),
            Ftruncate { fd, len } => match len.try_into() {
                Ok(len) => retry(|| libc::ftruncate(fd.fd, len) as isize),
                Err(_) => -libc::EINVAL,
            },
            Statx { dir, path, flags, out } => stat(dir, path, flags, out),
            _ => unreachable!("{request:?} has no call that blocks"),
        }
    }
}

#[cfg(not(target_vendor = "apple"))]
use libc::fdatasync;
/// Where data cannot be written out without the metadata.
#[cfg(target_vendor = "apple")]
use libc::fsync as fdatasync;

/// # Safety
/// `path` ends with a NUL and is valid for reads; `out` is valid for writes.
#[cfg(target_os = "linux")]
unsafe fn stat(dir: RawFd, path: *const libc::c_char, flags: i32, out: *mut os::Stat) -> i32 {
    // SAFETY: this function's only item.
    retry(|| unsafe { libc::statx(dir, path, flags, super::STATX_MASK, out) as isize })
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

#[cfg(target_os = "linux")]
fn fallocate(fd: RawFd, mode: i32, offset: u64, len: u64) -> i32 {
    let (Ok(offset), Ok(len)) = (offset.try_into(), len.try_into()) else { return -libc::EINVAL };
    // SAFETY: passes no memory.
    retry(|| unsafe { libc::fallocate64(fd, mode, offset, len) as isize })
}

/// Extends the file, where space cannot be reserved; supports mode 0 only.
#[cfg(not(target_os = "linux"))]
fn fallocate(fd: RawFd, mode: i32, offset: u64, len: u64) -> i32 {
    if mode != 0 {
        return -libc::EOPNOTSUPP;
    }
    let end = offset.checked_add(len).and_then(|end| libc::off_t::try_from(end).ok());
    let Some(end) = end.filter(|_| len > 0) else { return -libc::EINVAL };
    #[cfg(target_os = "freebsd")]
    // SAFETY: passes no memory.
    match unsafe { libc::posix_fallocate(fd, offset as libc::off_t, len as libc::off_t) } {
        libc::EOPNOTSUPP | libc::EINVAL => {}
        error => return -error,
    }
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `stat` is a valid place, and is filled if the call succeeds.
    unsafe {
        match retry(|| libc::fstat(fd, stat.as_mut_ptr()) as isize) {
            0 if stat.assume_init().st_size >= end => 0,
            0 => retry(|| libc::ftruncate(fd, end) as isize),
            error => error,
        }
    }
}
