//! TCP listeners and connections.

use std::io;
use std::net::SocketAddr;

use super::addrs::{Target, first_of};
use super::connect::connect_to_first;
use super::names::lookup;
use super::{
    BACKLOG, SocketAddress, ToSocketAddrs, inet_handle, recv_stream, socket_handle, stream_handle,
};
use crate::driver::seams::options;
use crate::driver::seams::sockets::{self, Family};
use crate::op::{Accepted, AsyncAccept, AsyncConnect, Descriptor};
use crate::os::{AsFd, OwnedFd};
use crate::runtime::poll_budget::consume_budget;

/// A TCP socket that listens for connections.
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
pub struct TcpListener(pub(super) Descriptor);

socket_handle!(TcpListener);
inet_handle!(TcpListener);

impl TcpListener {
    /// Creates a socket that listens on an address; port 0 is any free one.
    ///
    /// It has the options that servers want: `SO_REUSEADDR` (Unix), `TCP_NODELAY` on accepted
    /// connections, and IPv4 along with IPv6 on an unspecified IPv6 address. Of several addresses
    /// the first that can be bound is taken. A name is resolved first, which blocks the thread.
    ///
    /// The port is this listener's alone; see [`bind_reuse_port`](Self::bind_reuse_port).
    ///
    /// # Errors
    /// The system's error for the last address, such as `AddrInUse` or `PermissionDenied`; that of
    /// the resolver; `InvalidInput` if there is no address.
    ///
    /// # Examples
    /// ```
    /// use corio::net::TcpListener;
    /// use std::io::ErrorKind;
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let taken = TcpListener::bind(listener.local_addr()?);
    /// assert_eq!(taken.unwrap_err().kind(), ErrorKind::AddrInUse);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn bind(address: impl ToSocketAddrs) -> io::Result<Self> {
        first_of(address, |address| Self::listen(address, false))
    }

    /// Like [`bind`](Self::bind), with `SO_REUSEPORT`: several listeners share the port, and the
    /// kernel distributes connections among them.
    ///
    /// Each of them must have the option, and on Linux the same user. A second program that is
    /// started by mistake is not refused. Not on Windows.
    ///
    /// # Errors
    /// As for [`bind`](Self::bind).
    ///
    /// # Examples
    /// ```
    /// use corio::net::TcpListener;
    /// let one = TcpListener::bind_reuse_port("127.0.0.1:0")?;
    /// let other = TcpListener::bind_reuse_port(one.local_addr()?)?;
    /// assert_eq!(one.local_addr()?, other.local_addr()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[cfg(unix)]
    #[doc(alias = "SO_REUSEPORT")]
    pub fn bind_reuse_port(address: impl ToSocketAddrs) -> io::Result<Self> {
        first_of(address, |address| Self::listen(address, true))
    }

    #[cfg_attr(windows, allow(unused_variables))]
    fn listen(address: SocketAddr, reuse_port: bool) -> io::Result<Self> {
        let address = SocketAddress::from(address);
        let family = Family::of(address.as_sock_addr());
        let socket = sockets::tcp(family)?;
        let fd = socket.as_fd();
        // On Windows these would let another program take the port over.
        #[cfg(unix)]
        {
            options::set_reuse_address(fd, true)?;
            if reuse_port {
                options::set_reuse_port(fd, true)?;
            }
        }
        // Accepted connections inherit it.
        options::set_nodelay(fd, true)?;
        if family == Family::V6 {
            options::set_only_v6(fd, false)?;
        }
        sockets::bind(fd, address.as_sock_addr())?;
        sockets::listen(fd, BACKLOG)?;
        Ok(TcpListener(Descriptor::socket(socket)))
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

    #[inline(always)]
    fn set_exposed(&self) {
        self.0.set_exposed();
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
/// ```no_run
/// use corio::net::TcpStream;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let stream = TcpStream::connect("example.org:80").await?;
/// stream.send_all("GET / HTTP/1.0\r\nHost: example.org\r\n\r\n").await.0?;
/// let (result, answer) = stream.recv(Vec::with_capacity(4096)).await;
/// println!("{}", String::from_utf8_lossy(&answer[..result?]));
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TcpStream(pub(super) Descriptor);

socket_handle!(TcpStream, peer);
inet_handle!(TcpStream, peer);
stream_handle!(TcpStream);
recv_stream!(TcpStream);

impl TcpStream {
    /// Connects to an address or a name, with `TCP_NODELAY` set.
    ///
    /// Names are resolved by a [thread of the pool](crate::spawn_blocking). Several addresses are
    /// tried as "happy eyeballs" does ([RFC 8305](https://www.rfc-editor.org/rfc/rfc8305)): IPv6
    /// and IPv4 alternate, each with a head start of 250 ms before the next one is tried beside
    /// it, or until it fails; the first connection wins, and the other attempts are cancelled. A
    /// single address needs no thread and no allocation.
    ///
    /// The time that the system gives a connection attempt is long (about two minutes on Linux):
    /// use [`timeout`](crate::timeout()).
    ///
    /// # Errors
    /// For one address, the error of `connect(2)`, such as `ConnectionRefused`. For several, or a
    /// name, the kind of the first failure, with the text of all of them. The error of
    /// [`resolve`](super::resolve); `InvalidInput` if there are no addresses.
    ///
    /// # Examples
    /// ```
    /// use corio::net::{TcpListener, TcpStream};
    /// use std::net::SocketAddr;
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let address = listener.local_addr()?;
    /// TcpStream::connect(address).await?;
    /// TcpStream::connect(format!("localhost:{}", address.port())).await?;
    /// // Nothing listens on port 1.
    /// let addresses = [SocketAddr::from(([127, 0, 0, 1], 1)), address];
    /// let stream = TcpStream::connect(addresses).await?;
    /// assert_eq!(stream.peer_addr()?, address);
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn connect(address: impl ToSocketAddrs) -> io::Result<TcpStream> {
        // Without a socket to be had it would end at once.
        consume_budget().await;
        let addresses = match address.target()? {
            Target::One(address) => return Self::connect_to(address).await,
            Target::Several(addresses) => addresses,
            Target::Name(name) => Box::pin(lookup(name)).await?,
        };
        // Boxed, as it is large and the way of a single address is the usual one.
        Box::pin(connect_to_first(&addresses)).await
    }

    pub(super) async fn connect_to(address: SocketAddr) -> io::Result<TcpStream> {
        let address = SocketAddress::from(address);
        let socket = sockets::tcp(Family::of(address.as_sock_addr()))?;
        options::set_nodelay(socket.as_fd(), true)?;
        let stream = TcpStream(Descriptor::socket(socket));
        AsyncConnect::new(&stream, address).await?;
        Ok(stream)
    }

    /// Sets `TCP_NODELAY`: `true`, the default here, switches Nagle's algorithm off, so that small
    /// segments are sent at once.
    ///
    /// # Errors
    /// The error of `setsockopt(2)`.
    ///
    /// # Examples
    /// ```
    /// use corio::net::{TcpListener, TcpStream};
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = TcpStream::connect(listener.local_addr()?).await?;
    /// assert!(stream.nodelay()?);
    /// stream.set_nodelay(false)?;
    /// assert!(!stream.nodelay()?);
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        options::set_nodelay(self.fd(), nodelay)
    }

    /// Returns the option that [`set_nodelay`](Self::set_nodelay) sets.
    ///
    /// # Errors
    /// The error of `getsockopt(2)`.
    ///
    /// # Examples
    /// See [`set_nodelay`](Self::set_nodelay).
    pub fn nodelay(&self) -> io::Result<bool> {
        options::nodelay(self.fd())
    }
}

impl From<std::net::TcpStream> for TcpStream {
    fn from(stream: std::net::TcpStream) -> Self {
        OwnedFd::from(stream).into()
    }
}
