//! Sending a datagram to an address.

// # Why this file has `unsafe`
// It signs the contract of `Operation`, and builds a `msghdr`.

use std::io;
use std::ops::ControlFlow;
use std::ptr;

use crate::address::SocketAddress;
use crate::buf::IoBuf;
use crate::driver::{OpCode, Request};
use crate::op::future::{Op, Operation, io_result};
use crate::op::source::Source;
use crate::op::transfer::{clamp, io_vec};
use crate::os;

/// Sends one buffer as a datagram to an address.
/// [`sendto(2)`](https://man7.org/linux/man-pages/man2/sendto.2.html).
///
/// Returns the number of bytes sent: all of them.
///
/// # Errors
/// What `sendmsg(2)` reports, such as `EMSGSIZE` for a buffer that is too long; on a connected
/// socket also the error of an earlier datagram, such as `ConnectionRefused`.
///
/// # Examples
/// See [`UdpSocket::send_to`](crate::net::UdpSocket::send_to).
#[doc(alias = "IORING_OP_SENDMSG")]
#[doc(alias = "sendto")]
pub type AsyncSendTo<'a, B> = Op<SendTo<'a, B>>;

/// The operation of [`AsyncSendTo`].
pub struct SendTo<'a, B> {
    source: Source<'a>,
    buf: B,
    address: SocketAddress,
    iov: os::iovec,
    header: os::msghdr,
}

// SAFETY: 1. The header, the only entry of its list and the address are fields that nothing else
// borrows; the entry is one pair of pointer and length from `buf`, which the value owns. The kernel
// only reads all that. 2. `source` is held. 3. A held source names its file without its borrow.
// 4. The result is a count.
unsafe impl<B: IoBuf> Operation for SendTo<'_, B> {
    type Output = (io::Result<usize>, B);
    const CODE: OpCode = OpCode::Sendmsg;

    fn prepare(&mut self) -> ControlFlow<i32> {
        self.source.hold()
    }
    fn request(&mut self) -> Request {
        self.iov = io_vec(self.buf.buf_ptr().cast_mut(), clamp(self.buf.buf_len()));
        let address = self.address.as_sock_addr();
        self.header.msg_name = address.as_ptr().cast_mut().cast();
        self.header.msg_namelen = address.len();
        self.header.msg_iov = &raw mut self.iov;
        self.header.msg_iovlen = 1;
        let (fd, msg) = (self.source.target(), &raw const self.header);
        Request::Sendmsg { fd, msg, flags: os::MSG_NOSIGNAL as u32 }
    }
    fn finish(self, result: i32) -> Self::Output {
        (io_result(result), self.buf)
    }
}

impl<'a, B: IoBuf> Op<SendTo<'a, B>> {
    /// Sends `buf` through `source` to `address`.
    #[track_caller]
    pub fn new(source: impl Into<Source<'a>>, buf: B, address: impl Into<SocketAddress>) -> Self {
        Op::of(SendTo {
            source: source.into(),
            buf,
            address: address.into(),
            iov: io_vec(ptr::null_mut(), 0),
            header: os::EMPTY_HEADER,
        })
    }
}
