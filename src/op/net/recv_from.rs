//! Receiving a datagram and the address of its sender.

// # Why this file has `unsafe`
// It signs the contract of `Operation`, builds a `msghdr`, and reads what the
// kernel wrote.

use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::ptr;

use socket2::{SockAddr, SockAddrStorage};

use super::address::PeerAddress;
use crate::address::SocketAddress;
use crate::buf::IoBufMut;
use crate::driver::{OpCode, Request};
use crate::op::future::{Op, Operation, io_result};
use crate::op::source::Source;
use crate::op::transfer::{check_room, clamp, filled, io_vec};
use crate::os;

/// Receives one datagram into one buffer, with the address of its sender.
/// [`recvfrom(2)`](https://man7.org/linux/man-pages/man2/recvfrom.2.html).
///
/// Returns the number of bytes received. Bytes that do not fit into the buffer are lost.
///
/// # Errors
/// What `recvmsg(2)` reports; on a connected socket also the error of a datagram sent before, such
/// as `ConnectionRefused`. `InvalidData` if the sender has no address of the type `A`;
/// `InvalidInput` if the buffer has no room.
///
/// # Examples
/// See [`UdpSocket::recv_from`](crate::net::UdpSocket::recv_from).
#[doc(alias = "IORING_OP_RECVMSG")]
#[doc(alias = "recvfrom")]
pub type AsyncRecvFrom<'a, B, A = SocketAddress> = Op<RecvFrom<'a, B, A>>;

/// The operation of [`AsyncRecvFrom`].
pub struct RecvFrom<'a, B, A = SocketAddress> {
    source: Source<'a>,
    buf: B,
    iov: os::iovec,
    // Both are written by the kernel.
    header: os::msghdr,
    sender: MaybeUninit<SockAddrStorage>,
    address: PhantomData<fn() -> A>,
}

// SAFETY: 1. The header, the only entry of its list and the place for the sender are fields that
// nothing else borrows; the entry is one pair of pointer and length from `buf`, which the value
// owns and does not touch until `finish`. 2. `source` is held. 3. A held source names its file
// without its borrow. 4. The result is the number of bytes written, and after success the header
// has the address's length.
unsafe impl<B: IoBufMut, A: PeerAddress> Operation for RecvFrom<'_, B, A> {
    type Output = (io::Result<(usize, A)>, B);
    const CODE: OpCode = OpCode::Recvmsg;

    fn prepare(&mut self) -> ControlFlow<i32> {
        check_room(self.buf.buf_capacity())?;
        self.source.hold()
    }
    fn request(&mut self) -> Request {
        let (ptr, len) = (self.buf.buf_mut_ptr(), clamp(self.buf.buf_capacity()));
        self.iov = io_vec(ptr, len);
        self.sender.write(SockAddrStorage::zeroed());
        self.header = os::EMPTY_HEADER;
        self.header.msg_name = self.sender.as_mut_ptr().cast();
        self.header.msg_namelen = size_of::<SockAddrStorage>() as os::socklen_t;
        self.header.msg_iov = &raw mut self.iov;
        self.header.msg_iovlen = 1;
        Request::Recvmsg { fd: self.source.target(), msg: &raw mut self.header, flags: 0 }
    }
    fn left_more(&self, more: bool) {
        self.source.set_eager(more);
    }
    fn finish(mut self, result: i32) -> Self::Output {
        filled(&mut self.buf, result);
        let received = io_result(result).and_then(|len| {
            // SAFETY: `request` zeroed it, and the call wrote an address of that length over that.
            let sender =
                unsafe { SockAddr::new(self.sender.assume_init(), self.header.msg_namelen) };
            Ok((len, A::from_socket_address(SocketAddress::from_sock_addr(sender))?))
        });
        (received, self.buf)
    }
}

impl<'a, B: IoBufMut, A: PeerAddress> Op<RecvFrom<'a, B, A>> {
    /// Receives a datagram from `source` into `buf`.
    #[track_caller]
    pub fn new(source: impl Into<Source<'a>>, buf: B) -> Self {
        Op::of(RecvFrom {
            source: source.into(),
            buf,
            iov: io_vec(ptr::null_mut(), 0),
            header: os::EMPTY_HEADER,
            sender: MaybeUninit::uninit(),
            address: PhantomData,
        })
    }
}
