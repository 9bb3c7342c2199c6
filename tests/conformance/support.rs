//! What several tests need.
//!
//! # Why this file has `unsafe`
//! It asks the system things that std does not.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A file without a name, with contents.
pub(crate) fn file_with(contents: &[u8]) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    file.write_all(contents)?;
    Ok(file)
}

/// Two ends of a TCP connection, made by std.
pub(crate) fn tcp_pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let a = TcpStream::connect(listener.local_addr()?)?;
    let (b, _) = listener.accept()?;
    Ok((a, b))
}

/// Two ends of a TCP connection as this crate's handles.
pub(crate) fn corio_tcp_pair() -> io::Result<(corio::net::TcpStream, corio::net::TcpStream)> {
    let (a, b) = tcp_pair()?;
    Ok((a.into(), b.into()))
}

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

/// How many fds this process has open; meaningful only where no other test runs.
pub(crate) fn open_fds() -> usize {
    // One of them is the directory's own.
    std::fs::read_dir("/proc/self/fd").expect("/proc is there").count() - 1
}

/// Sets the limit on open files, and gives the old one.
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

/// Leaves no fd to be had; gives the old limit.
pub(crate) fn exhaust_fds() -> io::Result<u64> {
    let next_free = tempfile::tempfile()?.as_raw_fd();
    limit_fds(next_free as u64)
}

/// Lets spawned tasks run, and what they have started reach the system.
pub(crate) async fn settle() {
    for _ in 0..3 {
        corio::op::AsyncNop::new().await.expect("nothing can fail");
    }
}

/// Waits until nothing is in flight, without polling any of it.
pub(crate) async fn ended() {
    for _ in 0..10_000 {
        if corio::stats().in_flight == 0 {
            return;
        }
        corio::sleep(std::time::Duration::from_millis(1)).await;
    }
    panic!("still in flight: {:?}", corio::pending());
}

/// Something to read whenever a file is made in `dir`, in non-blocking mode. It is a file of the
/// kind that even io_uring does not wait for then.
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

/// Fills a socket or pipe in non-blocking mode until it takes no more; gives the number of bytes.
pub(crate) fn fill(mut to: impl Write) -> io::Result<usize> {
    let chunk = [0x55; 4096];
    let mut total = 0;
    loop {
        match to.write(&chunk) {
            Ok(len) => total += len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(total),
            Err(error) => return Err(error),
        }
    }
}
