//! `sendfile(2)` that never blocks on the socket.
//!
//! It takes no "don't wait" flag; see [`without_waiting`]. Nor does it take `MSG_NOSIGNAL`; see [`SigPipe`].
//!
//! # Why this file has `unsafe`
//! It makes the system calls.

use std::os::fd::RawFd;

#[cfg(any(target_vendor = "apple", target_os = "freebsd"))]
use super::errno;
#[cfg(not(any(target_vendor = "apple", target_os = "freebsd")))]
use super::retry;
use super::{SigPipe, without_waiting};
use crate::driver::Target;

/// Sends up to `len` bytes of `file` from `offset`: a count, 0 at the end of the file, or a negated
/// error number, `-EAGAIN` when the socket has no room. Also gives the number of system calls made.
pub(in crate::driver) fn sendfile(
    sigpipe: SigPipe,
    out: Target,
    file: Target,
    offset: u64,
    len: u32,
) -> (i32, u64) {
    let Ok(offset) = libc::off_t::try_from(offset) else { return (-libc::EOVERFLOW, 0) };
    let mut corking = 0;
    let call = || {
        let cork = Cork::put_on(out.fd, len);
        corking = cork.syscalls;
        sigpipe.without(|| send(out.fd, file.fd, offset, len))
    };
    let (result, syscalls) = without_waiting(out, call);
    (result, syscalls + corking)
}

/// Keeps a TCP socket from sending segments that are not full, for the time of a call.
///
/// The kernel takes a file 16 pages at a time. An acknowledgement that comes in between would push out
/// what is there, as `TCP_NODELAY` wants it, and what follows begins a segment of its own: a tenth
/// of the time for 1 MiB over loopback. nginx does the same by `tcp_nopush`.
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
            // No TCP; or its owner has put one on, and takes it off.
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
fn send(out: RawFd, file: RawFd, mut offset: libc::off_t, len: u32) -> i32 {
    retry(|| {
        // SAFETY: `offset` is a valid place for the kernel to update.
        unsafe { libc::sendfile(out, file, &mut offset, len as usize) }
    })
}

/// Where `sendfile(2)` is another one, which tells in a place of its own how far it came.
#[cfg(any(target_vendor = "apple", target_os = "freebsd"))]
fn send(out: RawFd, file: RawFd, offset: libc::off_t, len: u32) -> i32 {
    #[cfg(target_vendor = "apple")]
    let mut sent = libc::off_t::from(len);
    #[cfg(target_os = "freebsd")]
    let mut sent: libc::off_t = 0;
    let none = std::ptr::null_mut();
    // SAFETY: `sent` is a valid place, and there are no headers.
    let result = unsafe {
        #[cfg(target_vendor = "apple")]
        let result = libc::sendfile(file, out, offset, &mut sent, none, 0);
        #[cfg(target_os = "freebsd")]
        let result = libc::sendfile(file, out, offset, len as usize, none, &mut sent, 0);
        result
    };
    // Even an error, such as that there is no more room, may come after some bytes.
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

/// Where there is none: through a buffer. What the socket does not take is read again.
#[cfg(not(any(target_os = "linux", target_vendor = "apple", target_os = "freebsd")))]
fn send(out: RawFd, file: RawFd, offset: libc::off_t, len: u32) -> i32 {
    let mut buffer = [0u8; 16 * 1024];
    let place = buffer.as_mut_ptr().cast::<libc::c_void>();
    let room = buffer.len().min(len as usize);
    // SAFETY: there is that much room.
    match retry(|| unsafe { libc::pread(file, place, room, offset) }) {
        // SAFETY: that much was read.
        read @ 1.. => {
            retry(|| unsafe { libc::send(out, place, read as usize, crate::os::MSG_NOSIGNAL) })
        }
        result => result,
    }
}
