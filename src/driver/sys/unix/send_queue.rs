//! What a socket has taken and its peer has not.

// # Why this file has `unsafe`
// It makes the system calls.

use std::os::fd::RawFd;

use super::retry;

/// Returns the number of bytes that the peer has not acknowledged, or, of a Unix socket, not
/// received. `SIOCOUTQ`. 0 where the kernel does not say.
pub(in crate::driver) fn send_queue_len(socket: RawFd) -> u32 {
    let mut len = 0i32;
    // `SIOCOUTQ` is `TIOCOUTQ` by another name.
    // SAFETY: the call writes an integer, if it succeeds.
    let result = unsafe { libc::ioctl(socket, libc::TIOCOUTQ as _, &raw mut len) };
    if result < 0 { 0 } else { len as u32 }
}

/// Returns `true` if the socket is one end of a TCP connection that has not come to its end, so
/// that its peer may still acknowledge bytes. `TCP_INFO`.
pub(in crate::driver) fn is_live_tcp(socket: RawFd) -> bool {
    /// `TCP_CLOSE` of the kernel's states.
    const CLOSED: u8 = 7;
    let (mut state, mut len) = (CLOSED, 1 as libc::socklen_t);
    let place = (&raw mut state).cast();
    // SAFETY: `state` is as long as `len` says. It is the first byte of `struct tcp_info`, of which
    // the kernel writes no more than asked for.
    let call = || unsafe {
        libc::getsockopt(socket, libc::IPPROTO_TCP, libc::TCP_INFO, place, &mut len) as isize
    };
    retry(call) == 0 && state != CLOSED
}
