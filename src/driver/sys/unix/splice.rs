//! `splice(2)` that never blocks on the socket.

// # Why this file has `unsafe`
// It makes the system calls.

use std::os::fd::RawFd;

use super::{SigPipe, retry, without_waiting};
use crate::driver::Target;
use crate::driver::sys::Counted;

/// What a splice from a socket that stands at urgent data returns: the number that `read(2)` of
/// POSIX has for a stream whose next message is not plain data.
const AT_MARK: i32 = -libc::EBADMSG;

/// How often a call is made that finds nothing in a socket which is readable.
const TRIES: u32 = 3;

/// Moves up to `len` bytes. Returns their number, 0 at the end of the stream, or a negated error
/// number: `-EAGAIN` when the socket is not ready, `-EBUSY` when the pipe is not, `-EBADMSG` when
/// the socket holds bytes that only a receive can pass.
///
/// The kernel returns `EAGAIN` in all three cases. A driver that waited for the socket because of
/// the pipe, or of an urgent byte, would wait for an event that has already occurred, or try for
/// ever.
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
    let mut syscalls = 0;
    for _ in 0..TRIES {
        let call = || {
            // SAFETY: no memory is passed; without offsets, both files' own positions count.
            retry(|| unsafe { libc::splice(from, none, to, none, len as usize, flags) })
        };
        let tried = without_waiting(socket, || sigpipe.without(call));
        syscalls += tried.syscalls;
        let result = match tried.result {
            // After the peer has shut its side down, 0 is also the answer at urgent data.
            0 if into_pipe && len > 0 => {
                syscalls += 1;
                if is_at_mark(socket.fd) { AT_MARK } else { 0 }
            }
            error if error == -libc::EAGAIN => {
                syscalls += 1;
                match poll_both(socket.fd, pipe.fd, into_pipe) {
                    (_, false) => -libc::EBUSY,
                    (true, true) if into_pipe => {
                        syscalls += 1;
                        if !is_at_mark(socket.fd) {
                            // The bytes have arrived after the call.
                            continue;
                        }
                        AT_MARK
                    }
                    _ => -libc::EAGAIN,
                }
            }
            result => result,
        };
        return Counted::new(result, syscalls);
    }
    // Whatever it is that the socket holds: a receive says more.
    Counted::new(AT_MARK, syscalls)
}

/// Returns whether the socket has something to receive, and whether the pipe is ready.
fn poll_both(socket: RawFd, pipe: RawFd, into_pipe: bool) -> (bool, bool) {
    let of_pipe = if into_pipe { libc::POLLOUT } else { libc::POLLIN };
    let mut both = [
        libc::pollfd { fd: socket, events: libc::POLLIN, revents: 0 },
        libc::pollfd { fd: pipe, events: of_pipe, revents: 0 },
    ];
    // SAFETY: two valid entries.
    if retry(|| unsafe { libc::poll(both.as_mut_ptr(), 2, 0) as isize }) < 0 {
        return (false, true);
    }
    (both[0].revents & libc::POLLIN != 0, both[1].revents != 0)
}

/// Returns `true` if the next byte of a stream is an urgent one. `SIOCATMARK`.
fn is_at_mark(socket: RawFd) -> bool {
    const SIOCATMARK: libc::c_ulong =
        if cfg!(any(target_arch = "mips", target_arch = "mips64")) { 0x4004_7307 } else { 0x8905 };
    let mut is_there = 0i32;
    // SAFETY: the call writes an integer, and fails on a file that is not a stream socket.
    let result = unsafe { libc::ioctl(socket, SIOCATMARK as _, &raw mut is_there) };
    result == 0 && is_there != 0
}
