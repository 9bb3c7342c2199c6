//! Types, constants and calls in which Unix hosts differ.

// # Why this file has `unsafe`
// It takes ownership of fds by number, creates pipes, and reads a clock and an fd's flags by libc.

use std::time::Duration;

pub(crate) use libc::{
    AT_FDCWD, AT_REMOVEDIR, AT_SYMLINK_NOFOLLOW, EAGAIN, EBADF, EBUSY, ECANCELED, EINPROGRESS,
    EINTR, EINVAL, EIO, EMFILE, ENFILE, ENOBUFS, ENOSYS, ENXIO, EPERM, EPROTO, MSG_CTRUNC,
    MSG_DONTROUTE, MSG_DONTWAIT, MSG_EOR, MSG_OOB, MSG_PEEK, MSG_TRUNC, MSG_WAITALL, O_ACCMODE,
    O_APPEND, O_CLOEXEC, O_CREAT, O_EXCL, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY, POLLERR, POLLHUP,
    POLLIN, POLLOUT, POLLPRI, SHUT_RD, SHUT_RDWR, SHUT_WR, c_char, iovec, msghdr, sockaddr,
    socklen_t,
};

#[cfg(target_os = "linux")]
pub(crate) use libc::EBADMSG;

use super::{BorrowedFd, FromRawFd, OwnedFd, RawFd, StatParts, Time};

/// Takes ownership of a socket.
///
/// # Safety
/// 1. The fd is open, and the caller owns it.
pub(crate) unsafe fn owned_socket(fd: RawFd) -> OwnedFd {
    // SAFETY: item 1.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Takes ownership of a file that is not a socket.
///
/// # Safety
/// 1. The fd is open, and the caller owns it.
pub(crate) unsafe fn owned_file(fd: RawFd) -> OwnedFd {
    // SAFETY: item 1.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Borrows a socket.
///
/// # Safety
/// 1. The fd is open, and stays so for `'a`. (On other files, calls for sockets fail.)
pub(crate) unsafe fn borrowed_socket<'a>(fd: RawFd) -> BorrowedFd<'a> {
    // SAFETY: item 1.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Defines flags; one that the host lacks is zero.
macro_rules! flags_of {
    ($host:meta: $($name:ident),+) => {$(
        #[cfg($host)]
        pub(crate) use libc::$name;
        #[cfg(not($host))]
        pub(crate) const $name: i32 = 0;
    )+};
}

flags_of!(target_os = "linux": MSG_CONFIRM, MSG_ERRQUEUE, MSG_FASTOPEN, MSG_MORE);
// Where the first is missing, it is a socket option (`SO_NOSIGPIPE`); where the second is missing,
// the flag is set on each received fd afterwards.
flags_of!(not(target_vendor = "apple"): MSG_NOSIGNAL, MSG_CMSG_CLOEXEC);

/// Makes `statx` describe the open file itself; a number of this crate's where the host has none.
#[cfg(target_os = "linux")]
pub(crate) use libc::AT_EMPTY_PATH;
#[cfg(not(target_os = "linux"))]
pub(crate) const AT_EMPTY_PATH: i32 = 1 << 30;

/// Defines file types as `u32`; the constants' type differs between hosts.
macro_rules! kinds {
    ($($name:ident),+) => {$(
        #[allow(clippy::unnecessary_cast)]
        pub(crate) const $name: u32 = libc::$name as u32;
    )+};
}

kinds!(S_IFMT, S_IFREG, S_IFDIR, S_IFLNK);

/// Creates a pipe whose ends are closed on exec and in non-blocking mode: the end to read from, and
/// the end to write to.
#[cfg(target_os = "linux")]
pub(crate) fn pipe() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    // SAFETY: `fds` has room for the two descriptors that the call writes.
    if unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) } < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the call has just created both descriptors, and nothing else owns them.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// The host's structure of file metadata.
#[cfg(target_os = "linux")]
pub(crate) type Stat = libc::statx;
#[cfg(not(target_os = "linux"))]
pub(crate) type Stat = libc::stat;

#[cfg(target_os = "linux")]
impl StatParts for Stat {
    fn size(&self) -> u64 {
        self.stx_size
    }
    fn mode(&self) -> u32 {
        self.stx_mode.into()
    }
    fn ino(&self) -> u64 {
        self.stx_ino
    }
    fn dev(&self) -> u64 {
        libc::makedev(self.stx_dev_major, self.stx_dev_minor)
    }
    fn nlink(&self) -> u64 {
        self.stx_nlink.into()
    }
    fn modified(&self) -> Option<Time> {
        time(self, libc::STATX_MTIME, self.stx_mtime)
    }
    fn accessed(&self) -> Option<Time> {
        time(self, libc::STATX_ATIME, self.stx_atime)
    }
    fn created(&self) -> Option<Time> {
        time(self, libc::STATX_BTIME, self.stx_btime)
    }
}

#[cfg(target_os = "linux")]
fn time(stat: &Stat, field: u32, time: libc::statx_timestamp) -> Option<Time> {
    (stat.stx_mask & field != 0).then_some((time.tv_sec, time.tv_nsec))
}

#[cfg(not(target_os = "linux"))]
#[allow(clippy::unnecessary_cast)] // The fields' types differ from host to host.
impl StatParts for Stat {
    fn size(&self) -> u64 {
        self.st_size as u64
    }
    fn mode(&self) -> u32 {
        self.st_mode as u32
    }
    fn ino(&self) -> u64 {
        self.st_ino as u64
    }
    fn dev(&self) -> u64 {
        self.st_dev as u64
    }
    fn nlink(&self) -> u64 {
        self.st_nlink as u64
    }
    fn modified(&self) -> Option<Time> {
        #[cfg(target_os = "netbsd")]
        return Some((self.st_mtime as i64, self.st_mtimensec as u32));
        #[cfg(not(target_os = "netbsd"))]
        Some((self.st_mtime as i64, self.st_mtime_nsec as u32))
    }
    fn accessed(&self) -> Option<Time> {
        #[cfg(target_os = "netbsd")]
        return Some((self.st_atime as i64, self.st_atimensec as u32));
        #[cfg(not(target_os = "netbsd"))]
        Some((self.st_atime as i64, self.st_atime_nsec as u32))
    }
    fn created(&self) -> Option<Time> {
        #[cfg(any(target_vendor = "apple", target_os = "freebsd"))]
        return Some((self.st_birthtime as i64, self.st_birthtime_nsec as u32));
        #[cfg(target_os = "netbsd")]
        return Some((self.st_birthtime as i64, self.st_birthtimensec as u32));
        #[allow(unreachable_code)]
        None
    }
}

/// Returns the time of a monotonic clock that is cheap to read, accurate to a few milliseconds.
pub(crate) fn coarse_now() -> Duration {
    #[cfg(target_os = "linux")]
    const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC_COARSE;
    #[cfg(target_os = "freebsd")]
    const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC_FAST;
    #[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
    const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writes.
    unsafe { libc::clock_gettime(CLOCK, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Returns an fd in the form that the `polling` crate takes.
#[cfg(any(not(target_os = "linux"), corio_polling))]
pub(crate) fn source(fd: RawFd) -> RawFd {
    fd
}

/// Borrows an fd by its number.
///
/// # Safety
/// 1. The fd is open as long as the result is used.
#[cfg(any(not(target_os = "linux"), corio_polling))]
pub(crate) unsafe fn lend<'a>(fd: RawFd) -> std::os::fd::BorrowedFd<'a> {
    // SAFETY: item 1.
    unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) }
}

/// Returns `true` if the kernel caches the contents of a file that was opened with these flags.
#[cfg(target_os = "linux")]
pub(crate) fn is_buffered(flags: i32) -> bool {
    flags & libc::O_DIRECT == 0
}

/// Not used on these hosts.
#[cfg(not(target_os = "linux"))]
pub(crate) fn is_buffered(_: i32) -> bool {
    false
}

/// Returns the flags of an open file; all bits set if the system does not report them.
pub(crate) fn open_flags(fd: std::os::fd::BorrowedFd<'_>) -> i32 {
    use std::os::fd::AsRawFd;
    // SAFETY: passes no memory.
    unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) }
}
