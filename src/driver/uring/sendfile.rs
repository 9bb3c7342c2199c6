//! `sendfile(2)` that never blocks on the socket.
//!
//! The ring has no sendfile, and its splices always go to a kernel worker (about 10 µs each). So
//! the call is made here; when the socket is full, the ring polls it and the call is made again.
//!
//! `sendfile(2)` takes no "don't wait" flag, and the ring's own operations want sockets in
//! blocking mode (else they end with `EAGAIN` where they should wait). The socket is therefore put
//! into non-blocking mode for the duration of the call. The ring is entered by this thread alone,
//! so none of its operations can start in between, and those that have started looked at the mode
//! when they did.
//!
//! # Why this file has `unsafe`
//! It makes three system calls.

use std::os::fd::RawFd;

use super::lower::errno;

/// How many system calls one attempt takes, at most.
pub(super) const SYSCALLS: u64 = 4;

/// Sends up to `len` bytes of `file` from `offset`; a count, 0 at the end of the file, or a negated
/// error number; `-EAGAIN` when the socket has no room.
pub(super) fn attempt(out: RawFd, file: RawFd, offset: u64, len: u32) -> i32 {
    let Ok(mut offset) = libc::off64_t::try_from(offset) else { return -libc::EOVERFLOW };
    // SAFETY: `F_GETFL` passes no memory.
    let mode = unsafe { libc::fcntl(out, libc::F_GETFL) };
    if mode < 0 {
        return -errno();
    }
    let switch = mode & libc::O_NONBLOCK == 0;
    if switch {
        // SAFETY: `F_SETFL` passes no memory.
        unsafe { libc::fcntl(out, libc::F_SETFL, mode | libc::O_NONBLOCK) };
    }
    let result = loop {
        // SAFETY: `offset` is a valid place for the kernel to update.
        let sent = unsafe { libc::sendfile64(out, file, &mut offset, len as usize) };
        match sent {
            0.. => break sent as i32,
            _ if errno() == libc::EINTR => {}
            _ => break -errno(),
        }
    };
    if switch {
        // SAFETY: as above.
        unsafe { libc::fcntl(out, libc::F_SETFL, mode) };
    }
    result
}
