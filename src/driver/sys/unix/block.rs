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
            Fsync { fd, data_only: false } => retry(|| libc::fsync(fd.fd) as isize),
            Fsync { fd, data_only: true } => retry(|| fdatasync(fd.fd) as isize),
            Fallocate { fd, mode, offset, len } => fallocate(fd.fd, mode, offset, len),
            Ftruncate { fd, len } => match len.try_into() {
                Ok(len) => retry(|| libc::ftruncate(fd.fd, len) as isize),
                Err(_) => -libc::EINVAL,
            },
            Statx { dir, path, flags, out } => stat(dir, path, flags, out),
            _ => unreachable!("{request:?} does not block"),
        }
    }
}

#[cfg(not(target_vendor = "apple"))]
use libc::fdatasync;
/// Here data alone can't be written out.
#[cfg(target_vendor = "apple")]
use libc::fsync as fdatasync;

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

#[cfg(target_os = "linux")]
fn fallocate(fd: RawFd, mode: i32, offset: u64, len: u64) -> i32 {
    let (Ok(offset), Ok(len)) = (offset.try_into(), len.try_into()) else { return -libc::EINVAL };
    // SAFETY: passes no memory.
    retry(|| unsafe { libc::fallocate64(fd, mode, offset, len) as isize })
}

/// Where space can't be reserved, the file is made as long as that: the mode 0 alone.
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
