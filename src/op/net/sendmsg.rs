//! Sending messages: several buffers, an address, file descriptors.

// # Why this file has `unsafe`
// It signs the contract of `Operation`, and builds a `msghdr`.

use std::io;
use std::ops::ControlFlow;

use super::packet_info::{self, PacketInfo};
use super::rights::{control_len, rights};
use super::send::check_send_flags;
use crate::address::SocketAddress;
use crate::buf::{IoBufs, IoVecs};
use crate::driver::{OpCode, Request};
use crate::op::future::{Op, Operation, failed, io_result};
use crate::op::source::Source;
use crate::os::{self, OwnedFd};

/// The most fds that one message can carry (`SCM_MAX_FD`).
const MAX_FDS: usize = 253;

/// Sends several buffers as one message, with an address and file descriptors if wanted.
/// [`sendmsg(2)`](https://man7.org/linux/man-pages/man2/sendmsg.2.html).
///
/// Returns the number of bytes that the kernel took. The fds are closed here once they are sent, as
/// the receiver has its own; clone those that are still needed.
///
/// # Examples
/// ```
/// use corio::op::{AsyncRecvmsg, AsyncSendmsg};
/// use std::os::unix::net::UnixStream;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let (a, b) = UnixStream::pair()?;
/// let file = std::fs::File::open("Cargo.toml")?;
/// let (result, _) = AsyncSendmsg::new(&a, ["a fi", "le"]).fds([file.into()]).await;
/// assert_eq!(result?, 6);
///
/// let (result, bufs) = AsyncRecvmsg::new(&b, [Vec::with_capacity(64)]).await;
/// let message = result?;
/// assert_eq!(bufs[0], b"a file");
/// assert_eq!(message.fds.len(), 1);
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_SENDMSG")]
#[doc(alias = "SCM_RIGHTS")]
pub type AsyncSendmsg<'a, B> = Op<Sendmsg<'a, B>>;

/// The operation of [`AsyncSendmsg`].
pub struct Sendmsg<'a, B> {
    source: Source<'a>,
    bufs: B,
    vecs: IoVecs,
    address: Option<SocketAddress>,
    from: Option<PacketInfo>,
    from_control: packet_info::Control,
    fds: Vec<OwnedFd>,
    /// Control data, aligned to 8 bytes by its type.
    control: Vec<u64>,
    header: os::msghdr,
    flags: i32,
}

// SAFETY: 1. The header, the list of buffers, the address and the control data lie in the value or
// in heap blocks that it owns; the list leads into `bufs`, owned as well. The kernel only reads all
// that. 2. `source` is held; the fds to send are owned. 3. A held source names its file without its
// borrow. 4. The result is a count.
unsafe impl<B: IoBufs> Operation for Sendmsg<'_, B> {
    type Output = (io::Result<usize>, B);
    const CODE: OpCode = OpCode::Sendmsg;

    fn prepare(&mut self) -> ControlFlow<i32> {
        // No kind of socket sends both.
        if self.fds.len() > MAX_FDS || (self.from.is_some() && !self.fds.is_empty()) {
            return failed(os::EINVAL);
        }
        self.source.hold()
    }
    fn request(&mut self) -> Request {
        self.vecs.fill(&self.bufs);
        self.header = os::EMPTY_HEADER;
        self.header.msg_iov = self.vecs.as_mut_ptr();
        self.header.msg_iovlen = self.vecs.len() as _;
        if let Some(address) = &self.address {
            let address = address.as_sock_addr();
            self.header.msg_name = address.as_ptr().cast_mut().cast();
            self.header.msg_namelen = address.len();
        }
        if !self.fds.is_empty() {
            self.control = rights(&self.fds);
            self.header.msg_control = self.control.as_mut_ptr().cast();
            self.header.msg_controllen = control_len(self.fds.len()) as _;
        }
        if let Some(from) = &self.from {
            let len = packet_info::write(from, &mut self.from_control);
            if len > 0 {
                self.header.msg_control = self.from_control.as_mut_ptr().cast();
                self.header.msg_controllen = len as _;
            }
        }
        Request::Sendmsg {
            fd: self.source.target(),
            msg: &raw const self.header,
            flags: self.flags as u32,
        }
    }
    fn finish(self, result: i32) -> Self::Output {
        (io_result(result), self.bufs)
    }
}

impl<'a, B: IoBufs> Op<Sendmsg<'a, B>> {
    /// Sends `bufs`, in order, to `source`.
    #[track_caller]
    pub fn new(source: impl Into<Source<'a>>, bufs: B) -> Self {
        Op::of(Sendmsg {
            source: source.into(),
            bufs,
            vecs: IoVecs::new(),
            address: None,
            from: None,
            from_control: Default::default(),
            fds: Vec::new(),
            control: Vec::new(),
            header: os::EMPTY_HEADER,
            flags: os::MSG_NOSIGNAL,
        })
    }

    /// Sends to `address`, from a socket that is not connected.
    pub fn to(mut self, address: impl Into<SocketAddress>) -> Self {
        self.before_start().address = Some(address.into());
        self
    }

    /// Sends from one of the host's addresses, from a datagram socket: an IP address, or what a
    /// received datagram says of [its destination](PacketInfo). Linux and macOS only; elsewhere the
    /// system chooses the address in any case.
    ///
    /// An address that is not the host's own is an error, such as `NetworkUnreachable`. A message
    /// cannot have file descriptors as well: `EINVAL`.
    ///
    /// # Examples
    /// See [`UdpSocket::set_packet_info`](crate::net::UdpSocket::set_packet_info).
    #[doc(alias = "IP_PKTINFO")]
    #[doc(alias = "IPV6_PKTINFO")]
    pub fn from(mut self, local: impl Into<PacketInfo>) -> Self {
        self.before_start().from = Some(local.into());
        self
    }

    /// Sends file descriptors along, over a Unix socket; more than 253 are the error `EINVAL`.
    #[cfg(unix)]
    pub fn fds(mut self, fds: impl IntoIterator<Item = OwnedFd>) -> Self {
        self.before_start().fds = fds.into_iter().collect();
        self
    }

    /// Sends with flags, such as `MSG_MORE`.
    ///
    /// # Panics
    /// As for [`AsyncSend::with_flags`](crate::op::AsyncSend::with_flags).
    #[track_caller]
    pub fn flags(mut self, flags: i32) -> Self {
        check_send_flags(flags);
        self.before_start().flags = flags | os::MSG_NOSIGNAL;
        self
    }
}
