//! TCP.

use crate::os::OwnedFd;
use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, SockRef, Socket as Raw, Type};

use super::{BACKLOG, SocketAddress, recv_stream, socket_handle, stream_handle};
use crate::op::{Accepted, AsyncAccept, AsyncConnect, Descriptor};

/// A TCP socket that listens.
///
/// # Examples
/// ```
/// use corio::net::{TcpListener, TcpStream};
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let client = TcpStream::connect(listener.local_addr()?);
/// let (accepted, connected) = {
///     let accepting = corio::spawn(async move { listener.accept().await });
///     let connected = client.await?;
///     (accepting.await.unwrap()?, connected)
/// };
/// let (server, peer) = accepted;
/// assert_eq!(peer, connected.local_addr()?);
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TcpListener(Descriptor);

socket_handle!(TcpListener, SocketAddr);

impl TcpListener {
    /// Listens on an address, with the options servers want: `SO_REUSEADDR`, `SO_REUSEPORT` (so
    /// that several threads can listen on one port), `TCP_NODELAY` on accepted connections, and
    /// IPv4 along with IPv6 on an unspecified IPv6 address.
    ///
    /// Anything that std takes as an address will do; a name is looked up first, which blocks.
    ///
    /// # Errors
    /// What the system reports, such as `AddrInUse` or `PermissionDenied`.
    pub fn bind(address: impl std::net::ToSocketAddrs) -> io::Result<Self> {
        let mut refused = io::Error::new(io::ErrorKind::InvalidInput, "no address to listen on");
        for address in address.to_socket_addrs()? {
            match Self::listen(address.into()) {
                Ok(listener) => return Ok(listener),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    fn listen(address: SocketAddress) -> io::Result<Self> {
        let address = address.as_sock_addr();
        let socket = Raw::new(address.domain(), Type::STREAM, Some(Protocol::TCP))?;
        // On Windows these would let another program take the port over.
        #[cfg(unix)]
        {
            socket.set_reuse_address(true)?;
            socket.set_reuse_port(true)?;
        }
        // Accepted connections inherit it.
        socket.set_tcp_nodelay(true)?;
        if address.domain() == Domain::IPV6 {
            socket.set_only_v6(false)?;
        }
        socket.bind(address)?;
        socket.listen(BACKLOG)?;
        Ok(TcpListener(Descriptor::socket(socket.into())))
    }

    /// Accepts the next connection; returns it and the peer's address.
    ///
    /// It is an operation, so that a time limit loses no connection:
    /// `listener.accept().with_timeout(limit)`.
    ///
    /// # Errors
    /// What `accept(2)` reports. `EMFILE` means that the process is out of file descriptors: the
    /// connection stays in the queue, so wait a little before trying again.
    ///
    /// # Examples
    /// See [`TcpListener`].
    #[inline(always)]
    #[track_caller]
    pub fn accept(&self) -> AsyncAccept<'_, TcpStream> {
        AsyncAccept::of_type(self)
    }
}

impl Accepted for TcpStream {
    type Address = SocketAddr;

    #[inline(always)]
    fn from_accepted(fd: OwnedFd) -> Self {
        TcpStream(Descriptor::nonblocking_socket(fd))
    }
}

impl From<std::net::TcpListener> for TcpListener {
    fn from(listener: std::net::TcpListener) -> Self {
        OwnedFd::from(listener).into()
    }
}

/// A TCP connection.
///
/// # Examples
/// See [`TcpListener`].
#[derive(Debug)]
pub struct TcpStream(pub(super) Descriptor);

socket_handle!(TcpStream, SocketAddr);
stream_handle!(TcpStream, SocketAddr);
recv_stream!(TcpStream);

impl TcpStream {
    /// Connects to an address, with `TCP_NODELAY` set.
    ///
    /// # Errors
    /// What `connect(2)` reports, such as `ConnectionRefused`.
    pub async fn connect(address: impl Into<SocketAddress>) -> io::Result<TcpStream> {
        let address = address.into();
        let domain = address.as_sock_addr().domain();
        let socket = Raw::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        let stream = TcpStream(Descriptor::socket(socket.into()));
        AsyncConnect::new(&stream, address).await?;
        Ok(stream)
    }

    /// Switches Nagle's algorithm off (`true`, the default here) or on.
    ///
    /// # Errors
    /// What `setsockopt(2)` reports.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        SockRef::from(self).set_tcp_nodelay(nodelay)
    }
}

impl From<std::net::TcpStream> for TcpStream {
    fn from(stream: std::net::TcpStream) -> Self {
        OwnedFd::from(stream).into()
    }
}
