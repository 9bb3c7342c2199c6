//! `splice(2)` that never blocks on the socket.

// # Why this file has `unsafe`
// It makes the system calls.

use super::{SigPipe, retry, without_waiting};
use crate::driver::Target;
use crate::driver::sys::Counted;

/// Moves up to `len` bytes. Returns their number, 0 at the end of the stream, or a negated error
/// number: `-EAGAIN` when the socket is not ready, `-EBUSY` when the pipe is not.
///
/// The kernel returns `EAGAIN` for both. A driver that waited for the socket because of the pipe
/// would wait for an event that has already occurred.
pub(in crate::driver) fn splice(
    sigpipe: SigPipe,
    socket: Target,
    pipe: Target,
    len: u32,
    into_pipe: bool,
) -> Counted<i32> {
    let (from, to) = if into_pipe { (socket.fd, pipe.fd) } else { (pipe.fd, socket.fd) };
    let none = std::ptr::null_mut();
    let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
    let call = || {
        // SAFETY: no memory is passed; without offsets, both files' own positions count.
        retry(|| unsafe { libc::splice(from, none, to, none, len as usize, flags) })
    };
    let tried = without_waiting(socket, || sigpipe.without(call));
    if tried.result != -libc::EAGAIN {
        return tried;
    }
    let events = if into_pipe { libc::POLLOUT } else { libc::POLLIN };
    let mut poll = libc::pollfd { fd: pipe.fd, events, revents: 0 };
    // SAFETY: one valid entry.
    let ready = retry(|| unsafe { libc::poll(&mut poll, 1, 0) as isize });
    let result = if ready == 0 { -libc::EBUSY } else { -libc::EAGAIN };
    Counted::new(result, tried.syscalls + 1)
}
