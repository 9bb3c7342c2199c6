//! Modes, limits and kinds of file descriptors that only Unix has.

// # Why this file has `unsafe`
// It makes system calls that std has no function for.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

fn get_flags(fd: &impl AsFd, command: i32) -> i32 {
    // SAFETY: `F_GETFL` and `F_GETFD` pass no memory.
    let flags = unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), command) };
    assert!(flags >= 0, "{}", io::Error::last_os_error());
    flags
}

/// Whether an fd is in non-blocking mode.
pub(crate) fn is_nonblocking(fd: &impl AsFd) -> bool {
    get_flags(fd, libc::F_GETFL) & libc::O_NONBLOCK != 0
}

/// Whether an fd is closed on exec.
pub(crate) fn is_cloexec(fd: &impl AsFd) -> bool {
    get_flags(fd, libc::F_GETFD) & libc::FD_CLOEXEC != 0
}

/// Puts an fd into non-blocking mode.
pub(crate) fn set_nonblocking(fd: &impl AsFd) {
    set_flags(fd, get_flags(fd, libc::F_GETFL) | libc::O_NONBLOCK);
}

/// Puts an fd into blocking mode.
pub(crate) fn set_blocking(fd: &impl AsFd) {
    set_flags(fd, get_flags(fd, libc::F_GETFL) & !libc::O_NONBLOCK);
}

fn set_flags(fd: &impl AsFd, flags: i32) {
    // SAFETY: `F_SETFL` passes no memory.
    let result = unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_SETFL, flags) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

/// Sets the limit on open files; returns the old one.
pub(crate) fn limit_fds(limit: u64) -> io::Result<u64> {
    let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `old` is a valid place.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut old) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let new = libc::rlimit { rlim_cur: limit, rlim_max: old.rlim_max };
    // SAFETY: as above.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &new) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(old.rlim_cur)
}

/// Lowers the limit on open files until no fd is free; returns the old limit.
pub(crate) fn exhaust_fds() -> io::Result<u64> {
    let next_free = tempfile::tempfile()?.as_raw_fd();
    limit_fds(next_free as u64)
}

/// An inotify instance, in non-blocking mode, that is readable once a file was made in `dir`. It is
/// of the kind of files for which io_uring answers `EAGAIN` then.
pub(crate) fn watch(dir: &Path) -> io::Result<OwnedFd> {
    // SAFETY: passes no memory.
    let fd = unsafe { libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, and ours.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let dir = CString::new(dir.as_os_str().as_bytes())?;
    // SAFETY: the path ends with a NUL and outlives the call.
    if unsafe { libc::inotify_add_watch(fd.as_raw_fd(), dir.as_ptr(), libc::IN_CREATE) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(fd)
}

/// Makes a FIFO.
pub(crate) fn make_fifo(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path ends with a NUL and outlives the call.
    if unsafe { libc::mkfifo(path.as_ptr(), 0o600) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
