//! `splice(2)` that never blocks on the socket.
//!
//! # Why this file has `unsafe`
//! It makes the system calls.

use super::{SigPipe, retry, without_waiting};
use crate::driver::Target;

/// Moves up to `len` bytes: a count, 0 at the end of the stream, or a negated error number, `-EAGAIN`
/// when the socket has nothing, or no room. Also gives the number of system calls made.
///
/// `-EBUSY` says that it is the pipe that is full, or empty. The kernel says `EAGAIN` for both, and a
/// driver that took this for news of the socket would wait for what has been there all the time.
pub(in crate::driver) fn splice(
    sigpipe: SigPipe,
    socket: Target,
    pipe: Target,
    len: u32,
    into_pipe: bool,
) -> (i32, u64) {
    let (from, to) = if into_pipe { (socket.fd, pipe.fd) } else { (pipe.fd, socket.fd) };
    let none = std::ptr::null_mut();
    let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
    let call = || {
        // SAFETY: no memory is passed; without offsets, both files' own positions count.
        retry(|| unsafe { libc::splice(from, none, to, none, len as usize, flags) })
    };
    let (result, calls) = without_waiting(socket, || sigpipe.without(call));
    if result != -libc::EAGAIN {
        return (result, calls);
    }
    let events = if into_pipe { libc::POLLOUT } else { libc::POLLIN };
    let mut poll = libc::pollfd { fd: pipe.fd, events, revents: 0 };
    // SAFETY: one valid entry.
    let ready = retry(|| unsafe { libc::poll(&mut poll, 1, 0) as isize });
    (if ready == 0 { -libc::EBUSY } else { -libc::EAGAIN }, calls + 1)
}
