//! Operations on sockets.
//!
//! # Why this file has `unsafe`
//! It takes fds and addresses out of what the kernel has written.

use crate::os::OwnedFd;
use std::io;
use std::mem::MaybeUninit;
use std::net::Shutdown as How;

use socket2::{SockAddr, SockAddrStorage};

use super::file::{clamp, filled, held};
use super::future::{Op, Operation, io_result};
use super::source::Source;
use crate::address::SocketAddress;
use crate::buf::{IoBuf, IoBufMut};
use crate::driver::{OpCode, Request};
use crate::os;

/// Receives into one buffer. [`recv(2)`](https://man7.org/linux/man-pages/man2/recv.2.html).
///
/// Gives the number of bytes received; 0 when the peer has shut down its side (or the buffer has
/// no room).
///
/// # Examples
/// See [`Source`], or [`TcpStream::recv`](crate::net::TcpStream::recv).
#[doc(alias = "IORING_OP_RECV")]
pub type AsyncRecv<'a, B> = Op<Recv<'a, B>>;

/// See [`AsyncRecv`].
#[derive(Debug)]
pub struct Recv<'a, B> {
    source: Source<'a>,
    buf: B,
    flags: i32,
}

impl<B: IoBufMut> Operation for Recv<'_, B> {
    type Output = (io::Result<usize>, B);
    const CODE: OpCode = OpCode::Recv;

    held!();
    #[inline(always)]
    #[allow(private_interfaces)]
    fn request(&mut self) -> Request {
        let (ptr, len) = (self.buf.buf_mut_ptr(), clamp(self.buf.buf_capacity()));
        Request::Recv { fd: self.source.target(), ptr, len, flags: self.flags }
    }
    #[inline(always)]
    fn left_more(&self, more: bool) {
        if self.flags == 0 {
            self.source.set_eager(more);
        }
    }
    #[inline(always)]
    fn finish(mut self, result: i32) -> Self::Output {
        filled(&mut self.buf, result);
        (io_result(result), self.buf)
    }
}

/// The flags of a receive that this crate can vouch for: with others (`MSG_TRUNC` above all) the
/// result is not the number of bytes written.
const RECV_FLAGS: i32 =
    os::MSG_PEEK | os::MSG_WAITALL | os::MSG_DONTWAIT | os::MSG_OOB | os::MSG_ERRQUEUE;

impl<'a, B: IoBufMut> Op<Recv<'a, B>> {
    /// Receives from `source`.
    #[inline(always)]
    #[track_caller]
    pub fn new(source: impl Into<Source<'a>>, buf: B) -> Self {
        Op::of(Recv { source: source.into(), buf, flags: 0 })
    }

    /// The same with flags: `MSG_PEEK`, `MSG_WAITALL`, `MSG_DONTWAIT`, `MSG_OOB`, `MSG_ERRQUEUE`.
    ///
    /// # Panics
    /// For any other flag, and for `MSG_PEEK` with `MSG_WAITALL`.
    #[track_caller]
    pub fn with_flags(source: impl Into<Source<'a>>, buf: B, flags: i32) -> Self {
        assert!(flags & !RECV_FLAGS == 0, "recv does not take the flags {flags:#x}");
        // The kernel's rings would go on behind what was looked at, and see it again.
        let both = os::MSG_PEEK | os::MSG_WAITALL;
        assert!(flags & both != both, "recv can't look at all bytes (MSG_PEEK | MSG_WAITALL)");
        Op::of(Recv { source: source.into(), buf, flags })
    }
}

/// Sends one buffer. [`send(2)`](https://man7.org/linux/man-pages/man2/send.2.html).
///
/// Gives the number of bytes the kernel took, which may be fewer than asked. A peer that has gone
/// is the error `EPIPE`, never a signal.
///
/// # Examples
/// ```
/// use corio::op::AsyncSend;
/// use std::{io::Read, os::unix::net::UnixStream};
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let (a, b) = UnixStream::pair()?;
/// let (result, _buf) = AsyncSend::new(&a, "hi").await;
/// assert_eq!(result?, 2);
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_SEND")]
pub type AsyncSend<'a, B> = Op<Send<'a, B>>;

/// See [`AsyncSend`].
#[derive(Debug)]
pub struct Send<'a, B> {
    source: Source<'a>,
    buf: B,
    flags: i32,
}

impl<B: IoBuf> Operation for Send<'_, B> {
    type Output = (io::Result<usize>, B);
    const CODE: OpCode = OpCode::Send;

    held!();
    #[inline(always)]
    #[allow(private_interfaces)]
    fn request(&mut self) -> Request {
        let (ptr, len) = (self.buf.buf_ptr(), clamp(self.buf.buf_len()));
        let mut fd = self.source.target();
        // Whoever wants all of it sent is not to be told of a part.
        fd.eager &= self.flags & os::MSG_WAITALL == 0;
        Request::Send { fd, ptr, len, flags: self.flags }
    }
    #[inline(always)]
    fn finish(self, result: i32) -> Self::Output {
        (io_result(result), self.buf)
    }
}

/// The flags of a send after which the kernel has done with the buffer: `MSG_ZEROCOPY` is none.
const SEND_FLAGS: i32 = os::MSG_CONFIRM
    | os::MSG_DONTROUTE
    | os::MSG_DONTWAIT
    | os::MSG_EOR
    | os::MSG_FASTOPEN
    | os::MSG_MORE
    | os::MSG_NOSIGNAL
    | os::MSG_OOB
    | os::MSG_WAITALL;

#[inline(always)]
#[track_caller]
pub(super) fn check_send_flags(flags: i32) {
    assert!(flags & !SEND_FLAGS == 0, "send does not take the flags {flags:#x}");
}

impl<'a, B: IoBuf> Op<Send<'a, B>> {
    /// Sends to `source`.
    #[inline(always)]
    #[track_caller]
    pub fn new(source: impl Into<Source<'a>>, buf: B) -> Self {
        Self::with_flags(source, buf, 0)
    }

    /// The same with flags, such as `MSG_MORE`.
    ///
    /// # Panics
    /// For a flag that would let the kernel keep the buffer beyond the end (`MSG_ZEROCOPY`), or
    /// that is none of a send.
    #[inline(always)]
    #[track_caller]
    pub fn with_flags(source: impl Into<Source<'a>>, buf: B, flags: i32) -> Self {
        check_send_flags(flags);
        Op::of(Send { source: source.into(), buf, flags: flags | os::MSG_NOSIGNAL })
    }
}

/// Takes a connection off a listener.
/// [`accept4(2)`](https://man7.org/linux/man-pages/man2/accept.2.html).
///
/// Gives the connection's fd, close-on-exec and in non-blocking mode (`O_NONBLOCK`; operations here
/// wait all the same), and the peer's address. If the
/// future is dropped with a connection in it, that is closed.
///
/// # Examples
/// See [`TcpListener::accept`](crate::net::TcpListener::accept).
#[doc(alias = "IORING_OP_ACCEPT")]
pub type AsyncAccept<'a> = Op<Accept<'a>>;

/// See [`AsyncAccept`].
#[derive(Debug)]
pub struct Accept<'a> {
    source: Source<'a>,
    // The kernel writes both.
    address: MaybeUninit<SockAddrStorage>,
    len: os::socklen_t,
}

impl Operation for Accept<'_> {
    type Output = io::Result<(OwnedFd, SocketAddress)>;
    const CODE: OpCode = OpCode::Accept;

    held!();
    #[inline(always)]
    #[allow(private_interfaces)]
    fn request(&mut self) -> Request {
        self.len = size_of::<SockAddrStorage>() as os::socklen_t;
        self.address.write(SockAddrStorage::zeroed());
        Request::Accept {
            fd: self.source.target(),
            addr: self.address.as_mut_ptr().cast(),
            addr_len: &raw mut self.len,
        }
    }
    #[inline(always)]
    fn finish(self, result: i32) -> Self::Output {
        let fd = io_result(result)?;
        // SAFETY: the kernel has just made this fd for us.
        let fd = unsafe { os::owned_socket(fd as i32) };
        // SAFETY: `request` zeroed it, the kernel wrote an address of `len` bytes over that.
        let address = unsafe { SockAddr::new(self.address.assume_init(), self.len) };
        Ok((fd, SocketAddress::from_sock_addr(address)))
    }
}

impl<'a> Op<Accept<'a>> {
    /// Accepts from `source`, a listening socket.
    #[inline(always)]
    #[track_caller]
    pub fn new(source: impl Into<Source<'a>>) -> Self {
        Op::of(Accept { source: source.into(), address: MaybeUninit::uninit(), len: 0 })
    }
}

/// Connects a socket. [`connect(2)`](https://man7.org/linux/man-pages/man2/connect.2.html).
///
/// # Examples
/// See [`TcpStream::connect`](crate::net::TcpStream::connect).
#[doc(alias = "IORING_OP_CONNECT")]
pub type AsyncConnect<'a> = Op<Connect<'a>>;

/// See [`AsyncConnect`].
#[derive(Debug)]
pub struct Connect<'a> {
    source: Source<'a>,
    address: SocketAddress,
}

impl Operation for Connect<'_> {
    type Output = io::Result<()>;
    const CODE: OpCode = OpCode::Connect;

    held!();
    #[allow(private_interfaces)]
    fn request(&mut self) -> Request {
        let address = self.address.as_sock_addr();
        Request::Connect {
            fd: self.source.target(),
            addr: address.as_ptr().cast(),
            addr_len: address.len(),
        }
    }
    fn finish(self, result: i32) -> Self::Output {
        io_result(result).map(drop)
    }
}

impl<'a> Op<Connect<'a>> {
    /// Connects `source` to `address`.
    #[track_caller]
    pub fn new(source: impl Into<Source<'a>>, address: impl Into<SocketAddress>) -> Self {
        Op::of(Connect { source: source.into(), address: address.into() })
    }
}

/// Shuts down a connection's sending side, receiving side, or both.
/// [`shutdown(2)`](https://man7.org/linux/man-pages/man2/shutdown.2.html).
///
/// # Examples
/// ```
/// use std::{net::Shutdown, os::unix::net::UnixStream};
/// use corio::op::{AsyncRecv, AsyncShutdown};
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let (a, b) = UnixStream::pair()?;
/// AsyncShutdown::new(&a, Shutdown::Write).await?;
/// assert_eq!(AsyncRecv::new(&b, vec![0; 8]).await.0?, 0);
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_SHUTDOWN")]
pub type AsyncShutdown<'a> = Op<Shutdown<'a>>;

/// See [`AsyncShutdown`].
#[derive(Debug)]
pub struct Shutdown<'a> {
    source: Source<'a>,
    how: i32,
}

impl Operation for Shutdown<'_> {
    type Output = io::Result<()>;
    const CODE: OpCode = OpCode::Shutdown;

    held!();
    #[allow(private_interfaces)]
    fn request(&mut self) -> Request {
        Request::Shutdown { fd: self.source.target(), how: self.how }
    }
    fn finish(self, result: i32) -> Self::Output {
        io_result(result).map(drop)
    }
}

impl<'a> Op<Shutdown<'a>> {
    /// Shuts `source` down.
    #[track_caller]
    pub fn new(source: impl Into<Source<'a>>, how: How) -> Self {
        let how = match how {
            How::Read => os::SHUT_RD,
            How::Write => os::SHUT_WR,
            How::Both => os::SHUT_RDWR,
        };
        Op::of(Shutdown { source: source.into(), how })
    }
}

/// What an [`AsyncPoll`] waits for.
///
/// # Examples
/// ```
/// use corio::op::Interest;
/// let both = Interest::READABLE | Interest::WRITABLE;
/// assert!(both.contains(Interest::READABLE));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest(u32);

/// What an [`AsyncPoll`] reports as ready.
///
/// # Examples
/// ```
/// use corio::op::{AsyncPoll, Interest, Readiness};
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let (a, _b) = std::os::unix::net::UnixStream::pair()?;
/// let ready = AsyncPoll::new(&a, Interest::WRITABLE).await?;
/// assert!(ready.contains(Readiness::WRITABLE) && !ready.contains(Readiness::HANG_UP));
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness(u32);

/// What both sets of `poll(2)` events have.
macro_rules! events {
    ($name:ident: $($(#[$doc:meta])* $event:ident = $bit:ident),+) => {
        impl $name {
            $($(#[$doc])* pub const $event: $name = $name(os::$bit as u32);)+

            /// Returns `true` if every event of `other` is in this set.
            pub fn contains(self, other: $name) -> bool {
                self.0 & other.0 == other.0
            }

            /// Returns the bits of `poll(2)`.
            pub fn bits(self) -> u32 {
                self.0
            }
        }

        impl std::ops::BitOr for $name {
            type Output = $name;
            fn bitor(self, other: $name) -> $name {
                $name(self.0 | other.0)
            }
        }
    };
}

events! {
    Interest:
    /// There is something to read, or the peer has ended its side (`POLLIN`).
    READABLE = POLLIN,
    /// There is room to write (`POLLOUT`).
    WRITABLE = POLLOUT,
    /// There is urgent data (`POLLPRI`).
    PRIORITY = POLLPRI
}

events! {
    Readiness:
    /// There is something to read, or the peer has ended its side (`POLLIN`).
    READABLE = POLLIN,
    /// There is room to write (`POLLOUT`).
    WRITABLE = POLLOUT,
    /// There is urgent data (`POLLPRI`).
    PRIORITY = POLLPRI,
    /// An error is pending; reported without being asked for (`POLLERR`).
    ERROR = POLLERR,
    /// Both sides have ended; reported without being asked for (`POLLHUP`).
    HANG_UP = POLLHUP
}

/// Waits until a file is ready. [`poll(2)`](https://man7.org/linux/man-pages/man2/poll.2.html).
///
/// For files that other code reads and writes; the operations here need no such step.
///
/// # Examples
/// ```
/// use corio::op::{AsyncPoll, Interest, Readiness};
/// use std::os::unix::net::UnixStream;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let (a, _b) = UnixStream::pair()?;
/// let ready = AsyncPoll::new(&a, Interest::READABLE | Interest::WRITABLE).await?;
/// assert!(ready.contains(Readiness::WRITABLE) && !ready.contains(Readiness::READABLE));
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_POLL_ADD")]
pub type AsyncPoll<'a> = Op<Poll<'a>>;

/// See [`AsyncPoll`].
#[derive(Debug)]
pub struct Poll<'a> {
    source: Source<'a>,
    interest: Interest,
}

impl Operation for Poll<'_> {
    type Output = io::Result<Readiness>;
    const CODE: OpCode = OpCode::Poll;

    held!();
    #[allow(private_interfaces)]
    fn request(&mut self) -> Request {
        Request::Poll { fd: self.source.target(), events: self.interest.0 }
    }
    fn finish(self, result: i32) -> Self::Output {
        io_result(result).map(|events| Readiness(events as u32))
    }
}

impl<'a> Op<Poll<'a>> {
    /// Waits until `source` is ready for any part of `interest`.
    #[track_caller]
    pub fn new(source: impl Into<Source<'a>>, interest: Interest) -> Self {
        Op::of(Poll { source: source.into(), interest })
    }
}
