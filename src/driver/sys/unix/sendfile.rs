//! `sendfile(2)` that never blocks on the socket.
//!
//! The call takes neither a flag against blocking, see [`without_waiting`], nor `MSG_NOSIGNAL`, see
//! [`SigPipe`].

// # Why this file has `unsafe`
// It makes the system calls.

use std::os::fd::RawFd;

#[cfg(any(target_vendor = "apple", target_os = "freebsd"))]
use super::errno;
#[cfg(not(any(target_vendor = "apple", target_os = "freebsd")))]
use super::retry;
use super::{SigPipe, large, without_waiting};
use crate::driver::sys::Counted;
use crate::driver::{Pages, Target};

/// Sends up to `len` bytes of `file` from `offset`. Returns their number, 0 at the end of the file,
/// or a negated error number: `-EAGAIN` when the socket has no room, `-EINTR` if the file's pages
/// are unknown, and not all in memory.
pub(in crate::driver) fn sendfile(
    sigpipe: SigPipe,
    out: Target,
    file: Target,
    offset: u64,
    len: u32,
    pages: Pages,
) -> Counted<i32> {
    let resident = match pages {
        Pages::Unknown => super::resident::are_resident(file.fd, offset, len),
        _ => Counted::new(true, 0),
    };
    if !resident.result {
        return Counted::new(-libc::EINTR, resident.syscalls);
    }
    let Ok(offset) = large::Offset::try_from(offset) else {
        return Counted::new(-libc::EOVERFLOW, resident.syscalls);
    };
    let mut corking = 0;
    let call = || {
        let cork = Cork::put_on(out.fd, len);
        corking = cork.syscalls;
        sigpipe.without(|| send(out.fd, file.fd, offset, len))
    };
    let sent = without_waiting(out, call);
    Counted::new(sent.result, sent.syscalls + corking + resident.syscalls)
}

/// Keeps a TCP socket from sending segments that are not full, for the duration of a call
/// (`TCP_CORK`).
///
/// The kernel takes a file 16 pages at a time. An acknowledgement that arrives in between would,
/// under `TCP_NODELAY`, send a short segment: a tenth of the time for 1 MiB over loopback. nginx
/// does the same by `tcp_nopush`.
/// [`tcp(7)`](https://man7.org/linux/man-pages/man7/tcp.7.html).
struct Cork {
    on: Option<RawFd>,
    syscalls: u64,
}

impl Cork {
    #[cfg(target_os = "linux")]
    const ROUND: u32 = 16 * 4096;

    #[cfg(target_os = "linux")]
    fn put_on(fd: RawFd, len: u32) -> Self {
        if len <= Self::ROUND {
            return Cork { on: None, syscalls: 0 };
        }
        match super::option(fd, libc::IPPROTO_TCP, libc::TCP_CORK) {
            Ok(0) => {}
            // Not TCP, or corked by its owner, who also removes it.
            _ => return Cork { on: None, syscalls: 1 },
        }
        set_cork(fd, 1);
        Cork { on: Some(fd), syscalls: 3 }
    }

    #[cfg(not(target_os = "linux"))]
    fn put_on(_fd: RawFd, _len: u32) -> Self {
        Cork { on: None, syscalls: 0 }
    }
}

impl Drop for Cork {
    fn drop(&mut self) {
        if let Some(fd) = self.on {
            set_cork(fd, 0);
        }
    }
}

#[cfg(target_os = "linux")]
fn set_cork(fd: RawFd, on: i32) {
    let (place, len) = ((&raw const on).cast(), size_of::<i32>() as libc::socklen_t);
    // SAFETY: `on` is as long as `len` says.
    unsafe { libc::setsockopt(fd, libc::IPPROTO_TCP, libc::TCP_CORK, place, len) };
}

#[cfg(not(target_os = "linux"))]
fn set_cork(_fd: RawFd, _on: i32) {}

#[cfg(target_os = "linux")]
fn send(out: RawFd, file: RawFd, offset: large::Offset, len: u32) -> i32 {
    let mut position = offset;
    let sent = retry(|| {
        // SAFETY: `position` is valid for writes.
        unsafe { large::sendfile(out, file, &mut position, len as usize) }
    });
    if super::newer::is_denied(sent) { send_by_buffer(out, file, offset, len) } else { sent }
}

/// The `sendfile(2)` of other systems, which returns the number of bytes by a pointer.
#[cfg(any(target_vendor = "apple", target_os = "freebsd"))]
fn send(out: RawFd, file: RawFd, offset: libc::off_t, len: u32) -> i32 {
    #[cfg(target_vendor = "apple")]
    let mut sent = libc::off_t::from(len);
    #[cfg(target_os = "freebsd")]
    let mut sent: libc::off_t = 0;
    let none = std::ptr::null_mut();
    // SAFETY: `sent` is valid for writes, and there are no headers.
    let result = unsafe {
        #[cfg(target_vendor = "apple")]
        let result = libc::sendfile(file, out, offset, &mut sent, none, 0);
        #[cfg(target_os = "freebsd")]
        let result = libc::sendfile(file, out, offset, len as usize, none, &mut sent, 0);
        result
    };
    // An error, such as a lack of room, may follow some bytes that were sent.
    match result {
        _ if sent > 0 && (result == 0 || matches!(errno(), libc::EAGAIN | libc::EINTR)) => {
            sent as i32
        }
        0 => 0,
        _ => match errno() {
            libc::EINTR => -libc::EAGAIN,
            error => -error,
        },
    }
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple", target_os = "freebsd")))]
use send_by_buffer as send;

/// Sends through a buffer, where the host lacks the call or a sandbox denies it. Bytes that the
/// socket does not take are read again.
#[cfg(not(any(target_vendor = "apple", target_os = "freebsd")))]
#[cold]
fn send_by_buffer(out: RawFd, file: RawFd, offset: large::Offset, len: u32) -> i32 {
    let mut buffer = [0u8; 16 * 1024];
    let place = buffer.as_mut_ptr().cast::<libc::c_void>();
    let room = buffer.len().min(len as usize);
    // SAFETY: `room` is at most the length of the buffer.
    match retry(|| unsafe { large::pread(file, place, room, offset) }) {
        read @ 1.. => {
            // SAFETY: `pread` has filled that many bytes.
            retry(|| unsafe { libc::send(out, place, read as usize, crate::os::MSG_NOSIGNAL) })
        }
        result => result,
    }
}
