//! Messages: several buffers, an address, and file descriptors that travel along.
//!
//! # Why this file has `unsafe`
//! It builds the `msghdr` that the kernel reads and writes, and takes addresses out of what it wrote.

use std::io;
use std::mem::MaybeUninit;

use socket2::{SockAddr, SockAddrStorage};

use super::file::held;
use super::future::{Op, Operation, io_result};
use super::rights::{CONTROL_LEN, control_len, received_fds, rights};
use super::socket::check_send_flags;
use super::source::Source;
use crate::address::SocketAddress;
use crate::buf::{IoBufs, IoBufsMut, IoVecs};
use crate::driver::{OpCode, Request};
use crate::os::{self, OwnedFd};

/// The most fds that one message can carry (`SCM_MAX_FD`).
const MAX_FDS: usize = 253;

/// Control data is read by the kernel and by us as structures with this alignment.
#[repr(C, align(8))]
struct Control([MaybeUninit<u8>; CONTROL_LEN]);

/// Sends a message of several buffers, if asked to an address, if asked with fds.
/// [`sendmsg(2)`](https://man7.org/linux/man-pages/man2/sendmsg.2.html).
///
/// Gives the number of bytes the kernel took. The fds are closed here once they are sent (the
/// receiver has its own); clone those that are still needed.
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

/// See [`AsyncSendmsg`].
pub struct Sendmsg<'a, B> {
    source: Source<'a>,
    bufs: B,
    vecs: IoVecs,
    address: Option<SocketAddress>,
    fds: Vec<OwnedFd>,
    /// Control data as the kernel reads it; 8-byte aligned by its type.
    control: Vec<u64>,
    header: os::msghdr,
    flags: i32,
}

impl<B: IoBufs> Operation for Sendmsg<'_, B> {
    type Output = (io::Result<usize>, B);
    const CODE: OpCode = OpCode::Sendmsg;

    fn prepare(&mut self) -> Result<(), i32> {
        if self.fds.len() > MAX_FDS {
            return Err(os::EINVAL);
        }
        self.source.hold()
    }
    #[allow(private_interfaces)]
    fn request(&mut self) -> Request {
        self.vecs.fill(&self.bufs);
        self.header = os::msghdr {
            msg_iov: self.vecs.as_mut_ptr(),
            msg_iovlen: self.vecs.len() as _,
            ..os::EMPTY_HEADER
        };
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
            fds: Vec::new(),
            control: Vec::new(),
            header: os::EMPTY_HEADER,
            flags: os::MSG_NOSIGNAL,
        })
    }

    /// To `address`, for a socket that is not connected.
    pub fn to(mut self, address: impl Into<SocketAddress>) -> Self {
        self.before_start().address = Some(address.into());
        self
    }

    /// With these file descriptors, over a Unix socket: at most 253, else the error is `EINVAL`.
    #[cfg(unix)]
    pub fn fds(mut self, fds: impl IntoIterator<Item = OwnedFd>) -> Self {
        self.before_start().fds = fds.into_iter().collect();
        self
    }

    /// With flags, such as `MSG_MORE`.
    ///
    /// # Panics
    /// As for [`AsyncSend::with_flags`](super::AsyncSend::with_flags).
    #[track_caller]
    pub fn flags(mut self, flags: i32) -> Self {
        check_send_flags(flags);
        self.before_start().flags = flags | os::MSG_NOSIGNAL;
        self
    }
}

/// What a [`AsyncRecvmsg`] brought besides the bytes in the buffers.
///
/// # Examples
/// See [`AsyncSendmsg`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Received {
    /// How many bytes are in the buffers.
    pub len: usize,
    /// Who sent it, for sockets that are not connected.
    pub address: Option<SocketAddress>,
    /// The file descriptors that came along, close-on-exec.
    pub fds: Vec<OwnedFd>,
    /// The message was longer than the buffers; the rest is lost (`MSG_TRUNC`).
    pub truncated: bool,
    /// More came along than there was room for: over 60 fds, or other control data
    /// (`MSG_CTRUNC`). The kernel has closed the fds that did not fit.
    pub control_truncated: bool,
}

/// Receives a message into several buffers, with its sender and the fds that come along.
/// [`recvmsg(2)`](https://man7.org/linux/man-pages/man2/recvmsg.2.html).
///
/// # Examples
/// See [`AsyncSendmsg`].
#[doc(alias = "IORING_OP_RECVMSG")]
#[doc(alias = "SCM_RIGHTS")]
pub type AsyncRecvmsg<'a, B> = Op<Recvmsg<'a, B>>;

/// See [`AsyncRecvmsg`].
pub struct Recvmsg<'a, B> {
    source: Source<'a>,
    bufs: B,
    vecs: IoVecs,
    // The kernel writes the three that follow.
    header: os::msghdr,
    address: MaybeUninit<SockAddrStorage>,
    control: Control,
}

impl<B: IoBufsMut> Operation for Recvmsg<'_, B> {
    type Output = (io::Result<Received>, B);
    const CODE: OpCode = OpCode::Recvmsg;

    held!();
    #[allow(private_interfaces)]
    fn request(&mut self) -> Request {
        self.vecs.fill_mut(&mut self.bufs);
        self.address.write(SockAddrStorage::zeroed());
        self.header = os::msghdr {
            msg_name: self.address.as_mut_ptr().cast(),
            msg_namelen: size_of::<SockAddrStorage>() as os::socklen_t,
            msg_iov: self.vecs.as_mut_ptr(),
            msg_iovlen: self.vecs.len() as _,
            msg_control: self.control.0.as_mut_ptr().cast(),
            msg_controllen: CONTROL_LEN as _,
            msg_flags: 0,
        };
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
        // SAFETY: the kernel fills buffers in order and says how far it came.
        unsafe { self.bufs.set_all_filled(len) };
        // The header still points to where the operation was pinned; it has moved since.
        self.header.msg_control = self.control.0.as_mut_ptr().cast();
        // SAFETY: the kernel has written `msg_controllen` bytes of control data there.
        let fds = unsafe { received_fds(&self.header) };
        let address = (self.header.msg_namelen > 0).then(|| {
            // SAFETY: zeroed in `request`, and the kernel wrote an address of that length.
            let address =
                unsafe { SockAddr::new(self.address.assume_init(), self.header.msg_namelen) };
            SocketAddress::from_sock_addr(address)
        });
        let has = |flag| self.header.msg_flags & flag != 0;
        let received = Received {
            len,
            address,
            fds,
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
