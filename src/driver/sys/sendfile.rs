//! `sendfile(2)` that never blocks on the socket.
//!
//! `sendfile(2)` takes no "don't wait" flag: the socket itself has to be in non-blocking mode. This
//! crate's socket handles always are. A socket that
//! came from elsewhere is put into that mode for the time of the call.
//!
//! Nor does it take `MSG_NOSIGNAL`; see [`SigPipe`].
//!
//! # Why this file has `unsafe`
//! It makes the system calls.

use std::os::fd::RawFd;

use super::{SigPipe, errno};
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
    let send = || sigpipe.without(|| send(out.fd, file.fd, offset, len));
    if out.nonblocking {
        return (send(), 1);
    }
    // SAFETY: passes no memory.
    let mode = unsafe { libc::fcntl(out.fd, libc::F_GETFL) };
    if mode < 0 {
        return (-errno(), 1);
    }
    if mode & libc::O_NONBLOCK != 0 {
        return (send(), 2);
    }
    // SAFETY: passes no memory.
    if unsafe { libc::fcntl(out.fd, libc::F_SETFL, mode | libc::O_NONBLOCK) } < 0 {
        return (-errno(), 2);
    }
    let result = send();
    // SAFETY: passes no memory.
    unsafe { libc::fcntl(out.fd, libc::F_SETFL, mode) };
    (result, 4)
}

fn send(out: RawFd, file: RawFd, offset: u64, len: u32) -> i32 {
    let Ok(mut offset) = libc::off64_t::try_from(offset) else { return -libc::EOVERFLOW };
    loop {
        // SAFETY: `offset` is a valid place for the kernel to update.
        let sent = unsafe { libc::sendfile64(out, file, &mut offset, len as usize) };
        match sent {
            0.. => return sent as i32,
            _ if errno() == libc::EINTR => {}
            _ => return -errno(),
        }
    }
}
