//! UDP.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use socket2::{Protocol, SockRef, Socket as Raw, Type};

use super::{SocketAddress, socket_handle};
use crate::buf::{IoBuf, IoBufMut};
use crate::op::{AsyncRecv, AsyncRecvFrom, AsyncSend, AsyncSendTo, Descriptor};

/// A UDP socket.
///
/// # Examples
/// ```
/// use corio::net::UdpSocket;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let (a, b) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
/// a.send_to("hello", b.local_addr()?).await.0?;
/// let (result, buf) = b.recv_from(Vec::with_capacity(1500)).await;
/// let (len, peer) = result?;
/// assert_eq!((len, &buf[..], peer), (5, &b"hello"[..], a.local_addr()?));
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct UdpSocket(Descriptor);

socket_handle!(UdpSocket, SocketAddr);

impl UdpSocket {
    /// A socket with an address; port 0 is any free one. A name is looked up first, which blocks.
    ///
    /// # Errors
    /// What the system reports, such as `AddrInUse`.
    pub fn bind(address: impl ToSocketAddrs) -> io::Result<Self> {
        let mut refused = io::Error::new(io::ErrorKind::InvalidInput, "no address to bind to");
        for address in address.to_socket_addrs()? {
            match Self::bind_to(address.into()) {
                Ok(socket) => return Ok(socket),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    fn bind_to(address: SocketAddress) -> io::Result<Self> {
        let address = address.as_sock_addr();
        let socket = Raw::new(address.domain(), Type::DGRAM, Some(Protocol::UDP))?;
        socket.bind(address)?;
        Ok(UdpSocket(Descriptor::socket(socket.into())))
    }

    /// Talks to one peer only, by [`send`](Self::send) and [`recv`](Self::recv). That sends nothing.
    ///
    /// # Errors
    /// What `connect(2)` reports.
    pub fn connect(&self, address: impl Into<SocketAddress>) -> io::Result<()> {
        SockRef::from(self).connect(address.into().as_sock_addr())
    }

    /// Sends `buf` as one datagram to the peer it is connected to.
    #[track_caller]
    pub fn send<B: IoBuf>(&self, buf: B) -> AsyncSend<'_, B> {
        AsyncSend::new(self, buf)
    }

    /// Receives one datagram; what does not fit into `buf` is lost.
    #[track_caller]
    pub fn recv<B: IoBufMut>(&self, buf: B) -> AsyncRecv<'_, B> {
        AsyncRecv::new(self, buf)
    }

    /// Sends `buf` as one datagram to `address`.
    ///
    /// # Errors
    /// See [`AsyncSendTo`].
    #[track_caller]
    pub fn send_to<B: IoBuf>(&self, buf: B, address: SocketAddr) -> AsyncSendTo<'_, B> {
        AsyncSendTo::new(self, buf, address)
    }

    /// Receives one datagram; returns its length and its sender's address. Bytes that do not fit into
    /// `buf` are lost.
    ///
    /// # Errors
    /// See [`AsyncRecvFrom`].
    #[track_caller]
    pub fn recv_from<B: IoBufMut>(&self, buf: B) -> AsyncRecvFrom<'_, B, SocketAddr> {
        AsyncRecvFrom::new(self, buf)
    }
}

impl From<std::net::UdpSocket> for UdpSocket {
    fn from(socket: std::net::UdpSocket) -> Self {
        crate::os::OwnedFd::from(socket).into()
    }
}
