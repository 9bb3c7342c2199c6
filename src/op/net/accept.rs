//! Accepting connections.

// # Why this file has `unsafe`
// It signs the contract of `Operation`, and takes over what the kernel wrote.

use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::ControlFlow;

use socket2::{SockAddr, SockAddrStorage};

use super::address::PeerAddress;
use crate::address::SocketAddress;
use crate::driver::{OpCode, Request};
use crate::op::future::{Op, Operation, io_result};
use crate::op::source::Source;
use crate::os::{self, OwnedFd};

/// Accepts a connection from a listener.
/// [`accept4(2)`](https://man7.org/linux/man-pages/man2/accept.2.html).
///
/// Returns the connection and the peer's address. The fd of the connection is close-on-exec and in
/// non-blocking mode (`O_NONBLOCK`); operations wait all the same. If the future is dropped when it
/// holds a connection, that is closed.
///
/// # Errors
/// What `accept(2)` reports. `EMFILE` means that the process is out of file descriptors: the
/// connection stays in the queue, so wait a little before trying again.
///
/// # Examples
/// See [`TcpListener::accept`](crate::net::TcpListener::accept).
#[doc(alias = "IORING_OP_ACCEPT")]
#[doc(alias = "accept4")]
pub type AsyncAccept<'a, S = OwnedFd> = Op<Accept<'a, S>>;

/// The operation of [`AsyncAccept`].
#[derive(Debug)]
pub struct Accept<'a, S = OwnedFd> {
    source: Source<'a>,
    // Both are written by the kernel.
    address: MaybeUninit<SockAddrStorage>,
    len: os::socklen_t,
    stream: PhantomData<fn() -> S>,
}

/// A type of connection that an [`AsyncAccept`] returns: an fd, or a stream of [`net`](crate::net).
///
/// # Examples
/// ```
/// use corio::net::{TcpListener, TcpStream};
/// use corio::op::AsyncAccept;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let client = std::net::TcpStream::connect(listener.local_addr()?)?;
/// let accept: AsyncAccept<'_, TcpStream> = listener.accept();
/// let (_stream, peer) = accept.await?;
/// assert_eq!(peer, client.local_addr()?);
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Accepted: Sized {
    /// The type of the peer's address.
    type Address: PeerAddress;

    /// Takes over the fd of a connection, which is in non-blocking mode.
    fn from_accepted(fd: OwnedFd) -> Self;

    /// Notes that the connection may have options that this crate does not know of, inherited from
    /// the listener.
    #[doc(hidden)]
    fn set_exposed(&self) {}
}

impl Accepted for OwnedFd {
    type Address = SocketAddress;

    #[inline(always)]
    fn from_accepted(fd: OwnedFd) -> Self {
        fd
    }
}

// SAFETY: 1. Both places are fields that nothing else borrows, and `len` is the size of the other.
// 2. `source` is held. 3. A held source names its file without its borrow. 4. A result that is not
// negative is the number of an fd that this call has made, and it has written the address.
unsafe impl<S: Accepted> Operation for Accept<'_, S> {
    type Output = io::Result<(S, S::Address)>;
    const CODE: OpCode = OpCode::Accept;

    #[inline(always)]
    fn prepare(&mut self) -> ControlFlow<i32> {
        self.source.hold_listener()
    }
    #[inline(always)]
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
        // SAFETY: the call has made this fd, and nothing else knows it.
        let fd = unsafe { os::owned_socket(fd as i32) };
        // SAFETY: `request` zeroed it, and the call wrote an address of `len` bytes over that.
        let address = unsafe { SockAddr::new(self.address.assume_init(), self.len) };
        let stream = S::from_accepted(fd);
        if self.source.is_exposed() {
            stream.set_exposed();
        }
        let address = S::Address::from_socket_address(SocketAddress::from_sock_addr(address))?;
        Ok((stream, address))
    }
}

impl<'a> Op<Accept<'a>> {
    /// Accepts from `source`, a listening socket.
    #[inline(always)]
    #[track_caller]
    pub fn new(source: impl Into<Source<'a>>) -> Self {
        Self::of_type(source)
    }
}

impl<'a, S: Accepted> Op<Accept<'a, S>> {
    /// Accepts from `source`, a listening socket; the connection is an `S`.
    #[inline(always)]
    #[track_caller]
    pub(crate) fn of_type(source: impl Into<Source<'a>>) -> Self {
        let (address, stream) = (MaybeUninit::uninit(), PhantomData);
        Op::of(Accept { source: source.into(), address, len: 0, stream })
    }
}
