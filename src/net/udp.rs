//! UDP sockets.

use std::io;
use std::net::SocketAddr;

use super::addrs::first_of;
use super::{SocketAddress, ToSocketAddrs, inet_handle, socket_handle};
use crate::buf::{IoBuf, IoBufMut, IoBufs, IoBufsMut};
use crate::driver::seams::options;
use crate::driver::seams::sockets::{self, Family};
use crate::op::{
    AsyncRecv, AsyncRecvFrom, AsyncRecvmsg, AsyncSend, AsyncSendTo, AsyncSendmsg, Descriptor,
};
use crate::os::AsFd;

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
/// assert_eq!((len, &buf[..]), (5, &b"hello"[..]));
/// assert_eq!(peer, a.local_addr()?);
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct UdpSocket(Descriptor);

socket_handle!(UdpSocket, peer);
inet_handle!(UdpSocket, peer);

impl UdpSocket {
    /// Creates a socket with an address; port 0 is any free one.
    ///
    /// Of several addresses the first that can be bound is taken. A name is resolved first, which
    /// blocks the thread.
    ///
    /// # Errors
    /// The system's error for the last address, such as `AddrInUse`; that of the resolver;
    /// `InvalidInput` if there is no address.
    ///
    /// # Examples
    /// ```
    /// use corio::net::UdpSocket;
    /// let socket = UdpSocket::bind("127.0.0.1:0")?;
    /// assert_ne!(socket.local_addr()?.port(), 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn bind(address: impl ToSocketAddrs) -> io::Result<Self> {
        first_of(address, |address| {
            let address = SocketAddress::from(address);
            let socket = sockets::udp(Family::of(address.as_sock_addr()))?;
            sockets::bind(socket.as_fd(), address.as_sock_addr())?;
            Ok(UdpSocket(Descriptor::socket(socket)))
        })
    }

    /// Sets the one peer that [`send`](Self::send) sends to, and from which alone datagrams are
    /// received. Nothing is sent.
    ///
    /// # Errors
    /// The error of `connect(2)`, such as `NetworkUnreachable`.
    ///
    /// # Examples
    /// ```
    /// use corio::net::UdpSocket;
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let (a, b) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    /// a.connect(b.local_addr()?)?;
    /// assert_eq!(a.peer_addr()?, b.local_addr()?);
    /// a.send("hello").await.0?;
    /// let (result, buf) = b.recv(Vec::with_capacity(1500)).await;
    /// assert_eq!((result?, &buf[..]), (5, &b"hello"[..]));
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn connect(&self, address: impl Into<SocketAddr>) -> io::Result<()> {
        let address = SocketAddress::from(address.into());
        sockets::connect_datagram(self.fd(), address.as_sock_addr())
    }

    /// Sends `buf` as one datagram to the peer that [`connect`](Self::connect) has set.
    ///
    /// # Errors
    /// The error of `send(2)`, such as `NotConnected`; `ConnectionRefused` if the peer's host has
    /// refused an earlier datagram.
    ///
    /// # Examples
    /// See [`connect`](Self::connect).
    #[track_caller]
    pub fn send<B: IoBuf>(&self, buf: B) -> AsyncSend<'_, B> {
        AsyncSend::new(self, buf)
    }

    /// Receives one datagram; bytes that do not fit into `buf` are lost.
    ///
    /// # Errors
    /// The error of `recv(2)`; `ConnectionRefused` if the peer's host has refused an earlier
    /// datagram; `InvalidInput` if `buf` has no room.
    ///
    /// # Examples
    /// See [`connect`](Self::connect).
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

    /// Receives one datagram; returns its length and its sender's address. Bytes that do not fit
    /// into `buf` are lost.
    ///
    /// # Errors
    /// See [`AsyncRecvFrom`].
    #[track_caller]
    pub fn recv_from<B: IoBufMut>(&self, buf: B) -> AsyncRecvFrom<'_, B, SocketAddr> {
        AsyncRecvFrom::new(self, buf)
    }

    /// Sets whether [`recv_msg`](Self::recv_msg) reports where each datagram was sent to:
    /// `IP_PKTINFO`, or `IPV6_RECVPKTINFO`, which also covers IPv4 on a socket for both.
    ///
    /// A server that is bound to an unspecified address needs it to answer from the address that
    /// the client has asked.
    ///
    /// # Errors
    /// The error of `setsockopt(2)`; `Unsupported` on hosts other than Linux and macOS.
    ///
    /// # Examples
    /// ```
    /// use corio::net::UdpSocket;
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let server = UdpSocket::bind("0.0.0.0:0")?;
    /// # if cfg!(not(target_os = "linux")) { return Ok(()); }
    /// server.set_packet_info(true)?;
    /// let asked = (std::net::Ipv4Addr::LOCALHOST, server.local_addr()?.port()).into();
    ///
    /// let client = UdpSocket::bind("127.0.0.1:0")?;
    /// client.send_to("hello", asked).await.0?;
    ///
    /// let (result, [question]) = server.recv_msg([Vec::with_capacity(1500)]).await;
    /// let received = result?;
    /// let info = received.packet_info.expect("it was switched on");
    /// assert_eq!(info.destination, asked.ip());
    ///
    /// let peer = received.address.expect("datagrams have a sender");
    /// server.send_msg([question]).to(peer).from(info).await.0?;
    /// let (result, _) = client.recv_from(Vec::with_capacity(1500)).await;
    /// assert_eq!(result?, (5, asked));
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "IP_PKTINFO")]
    #[doc(alias = "IPV6_RECVPKTINFO")]
    pub fn set_packet_info(&self, on: bool) -> io::Result<()> {
        options::set_packet_info(self.fd(), on)
    }

    /// Sends several buffers as one datagram, to which the address [to send
    /// to](AsyncSendmsg::to), and that [to send from](AsyncSendmsg::from), can be added.
    ///
    /// # Errors
    /// The error of `sendmsg(2)`, such as `NotConnected` without an address to send to.
    ///
    /// # Examples
    /// See [`set_packet_info`](Self::set_packet_info).
    #[doc(alias = "sendmsg")]
    #[track_caller]
    pub fn send_msg<B: IoBufs>(&self, bufs: B) -> AsyncSendmsg<'_, B> {
        AsyncSendmsg::new(self, bufs)
    }

    /// Receives one datagram into several buffers, with its sender's address, its
    /// [destination](Self::set_packet_info), and whether it was longer than the buffers.
    ///
    /// # Errors
    /// The error of `recvmsg(2)`; on a connected socket `ConnectionRefused` if the peer's host has
    /// refused an earlier datagram.
    ///
    /// # Examples
    /// See [`set_packet_info`](Self::set_packet_info).
    #[doc(alias = "recvmsg")]
    #[track_caller]
    pub fn recv_msg<B: IoBufsMut>(&self, bufs: B) -> AsyncRecvmsg<'_, B> {
        AsyncRecvmsg::new(self, bufs)
    }
}

impl From<std::net::UdpSocket> for UdpSocket {
    fn from(socket: std::net::UdpSocket) -> Self {
        crate::os::OwnedFd::from(socket).into()
    }
}
