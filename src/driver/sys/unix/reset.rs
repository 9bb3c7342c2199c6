//! Whether a connection was reset, after its error has been taken.

// # Why this file has `unsafe`
// It makes the system calls.

use std::os::fd::RawFd;

use super::attempt::poll;
use super::retry;

/// A control message with one integer, and more room than it needs.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Returns `true` if a TCP connection was reset before its peer had ended it. The kernel reports a
/// reset once, to whichever call comes first; what is received after that looks like an end.
/// `false` for other sockets, and before Linux 4.18.
///
/// Of a connection whose data has been received, `TCP_INQ` says 1 if there was an end, and 0 if
/// there was none (`tcp_inq_hint` in the kernel's `include/net/tcp.h`).
pub(in crate::driver) fn was_reset(socket: RawFd) -> bool {
    // It has ended in both directions, as after few ends.
    let events = poll(socket, 0);
    if events < 0 || events & i32::from(libc::POLLHUP) == 0 {
        return false;
    }
    let on = 1i32;
    let (place, len) = ((&raw const on).cast(), size_of::<i32>() as libc::socklen_t);
    // SAFETY: `on` is as long as `len` says.
    if unsafe { libc::setsockopt(socket, libc::IPPROTO_TCP, libc::TCP_INQ, place, len) } != 0 {
        return false;
    }
    let (mut byte, mut control) = (0u8, Control([0; 64]));
    let mut slice = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    // SAFETY: a plain structure of the system, for which zeros are valid.
    let mut msg: libc::msghdr = unsafe { std::mem::zeroed() };
    (msg.msg_iov, msg.msg_iovlen) = (&mut slice, 1);
    (msg.msg_control, msg.msg_controllen) = (control.0.as_mut_ptr().cast(), 64);
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    // SAFETY: all that `msg` points to lives until the end of this function, as long as it says.
    if retry(|| unsafe { libc::recvmsg(socket, &mut msg, flags) }) != 0 {
        return false;
    }
    // SAFETY: the kernel has filled `msg` in.
    let header = unsafe { libc::CMSG_FIRSTHDR(&msg) };
    // SAFETY: it is null, or the header of a message within `control`.
    let Some(kind) = (unsafe { header.as_ref() }) else { return false };
    if (kind.cmsg_level, kind.cmsg_type) != (libc::IPPROTO_TCP, libc::TCP_CM_INQ) {
        return false;
    }
    // SAFETY: a message of this type has an integer.
    unsafe { libc::CMSG_DATA(header).cast::<i32>().read_unaligned() == 0 }
}
