//! Receiving messages: several buffers, the sender, file descriptors.

// # Why this file has `unsafe`
// It signs the contract of `Operation`, builds a `msghdr`, and reads what the
// kernel wrote.

use std::io;
use std::mem::MaybeUninit;
use std::ops::ControlFlow;

use socket2::{SockAddr, SockAddrStorage};

use super::packet_info::{self, PacketInfo};
use super::rights::{CONTROL_LEN, received_fds};
use crate::address::SocketAddress;
use crate::buf::{IoBufsMut, IoVecs};
use crate::driver::{OpCode, Request};
use crate::op::ahead;
use crate::op::future::{Op, Operation, io_result};
use crate::op::source::Source;
use crate::op::transfer::{all_filled, check_room};
use crate::os::{self, OwnedFd};

/// Place for control data, which is structures with this alignment.
#[repr(C, align(8))]
struct Control([MaybeUninit<u8>; CONTROL_LEN]);

/// The result of an [`AsyncRecvmsg`]: the sender, file descriptors and flags of the message.
///
/// # Examples
/// See [`AsyncSendmsg`](crate::op::AsyncSendmsg).
#[derive(Debug)]
#[non_exhaustive]
pub struct Received {
    /// The number of bytes in the buffers.
    pub len: usize,
    /// The sender, for sockets that are not connected.
    pub address: Option<SocketAddress>,
    /// The file descriptors received with the message, close-on-exec.
    pub fds: Vec<OwnedFd>,
    /// Where a datagram was sent to, if the socket reports it: see
    /// [`UdpSocket::set_packet_info`](crate::net::UdpSocket::set_packet_info).
    pub packet_info: Option<PacketInfo>,
    /// The message was longer than the buffers; the rest is lost (`MSG_TRUNC`).
    pub truncated: bool,
    /// The control data did not fit: it had more than 60 fds, or was of other kinds (`MSG_CTRUNC`).
    /// The kernel has closed the fds that did not fit.
    pub control_truncated: bool,
}

/// Receives a message into several buffers, with its sender, its destination, and its file
/// descriptors.
/// [`recvmsg(2)`](https://man7.org/linux/man-pages/man2/recvmsg.2.html).
///
/// # Errors
/// What `recvmsg(2)` reports; `InvalidInput` if the buffers have no room.
///
/// # Examples
/// See [`AsyncSendmsg`](crate::op::AsyncSendmsg).
#[doc(alias = "IORING_OP_RECVMSG")]
#[doc(alias = "SCM_RIGHTS")]
pub type AsyncRecvmsg<'a, B> = Op<Recvmsg<'a, B>>;

/// The operation of [`AsyncRecvmsg`].
pub struct Recvmsg<'a, B> {
    source: Source<'a>,
    bufs: B,
    vecs: IoVecs,
    // The three that follow are written by the kernel.
    header: os::msghdr,
    address: MaybeUninit<SockAddrStorage>,
    control: Control,
}

// SAFETY: 1. The header, the list of buffers, and the places for the address and the control data
// lie in the value or in heap blocks that it owns; the list leads into `bufs`, owned as well and
// not touched until `finish`; each length is that of its place. 2. `source` is held. 3. A held
// source names its file without its borrow. 4. After success the header says how much of each place
// was written.
unsafe impl<B: IoBufsMut> Operation for Recvmsg<'_, B> {
    type Output = (io::Result<Received>, B);
    const CODE: OpCode = OpCode::Recvmsg;

    fn prepare(&mut self) -> ControlFlow<i32> {
        check_room(self.bufs.total_capacity())?;
        match self.source.hold_to_receive()? {
            Some(handle) => ahead::into_all(handle, &mut self.bufs),
            None => ControlFlow::Continue(()),
        }
    }
    fn request(&mut self) -> Request {
        self.vecs.fill_mut(&mut self.bufs);
        self.address.write(SockAddrStorage::zeroed());
        self.header = os::EMPTY_HEADER;
        self.header.msg_name = self.address.as_mut_ptr().cast();
        self.header.msg_namelen = size_of::<SockAddrStorage>() as os::socklen_t;
        self.header.msg_iov = self.vecs.as_mut_ptr();
        self.header.msg_iovlen = self.vecs.len() as _;
        self.header.msg_control = self.control.0.as_mut_ptr().cast();
        self.header.msg_controllen = CONTROL_LEN as _;
        Request::Recvmsg {
            fd: self.source.target(),
            msg: &raw mut self.header,
            flags: os::MSG_CMSG_CLOEXEC as u32,
        }
    }
    fn left_more(&self, more: bool) {
        self.source.set_eager(more);
    }
    fn finish(mut self, result: i32) -> Self::Output {
        let len = match io_result(result) {
            Ok(len) => len,
            Err(error) => return (Err(error), self.bufs),
        };
        all_filled(&mut self.bufs, result);
        // The header still points to where the operation was pinned; it has moved since.
        self.header.msg_control = self.control.0.as_mut_ptr().cast();
        // SAFETY: the call has written `msg_controllen` bytes of control data there, taken only
        // here.
        let fds = unsafe { received_fds(&self.header) };
        // SAFETY: the same.
        let packet_info = unsafe { packet_info::received(&self.header) };
        let address = (self.header.msg_namelen > 0).then(|| {
            // SAFETY: `request` zeroed it, and the call wrote an address of that length over that.
            let address =
                unsafe { SockAddr::new(self.address.assume_init(), self.header.msg_namelen) };
            SocketAddress::from_sock_addr(address)
        });
        let has = |flag| self.header.msg_flags & flag != 0;
        let received = Received {
            len,
            address,
            fds,
            packet_info,
            truncated: has(os::MSG_TRUNC),
            control_truncated: has(os::MSG_CTRUNC),
        };
        (Ok(received), self.bufs)
    }
}

impl<'a, B: IoBufsMut> Op<Recvmsg<'a, B>> {
    /// Receives into `bufs`, in order, from `source`.
    #[track_caller]
    pub fn new(source: impl Into<Source<'a>>, bufs: B) -> Self {
        Op::of(Recvmsg {
            source: source.into(),
            bufs,
            vecs: IoVecs::new(),
            header: os::EMPTY_HEADER,
            address: MaybeUninit::uninit(),
            control: Control([MaybeUninit::uninit(); CONTROL_LEN]),
        })
    }
}
