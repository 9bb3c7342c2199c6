//! Unix stream sockets.

use std::io;
use std::path::Path;

use super::{SocketAddress, any_family_handle, recv_stream, socket_handle, stream_handle};
use crate::driver::seams::sockets;
use crate::op::{Accepted, AsyncAccept, AsyncConnect, Descriptor};
use crate::os::{AsFd, OwnedFd};
use crate::runtime::poll_budget::consume_budget;

/// A Unix stream socket: a connection between processes of one host, which can also carry file
/// descriptors.
///
/// # Examples
/// ```
/// use corio::net::UnixStream;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let (a, b) = UnixStream::pair()?;
/// a.send_all("hello").await.0?;
/// let (result, buf) = b.recv_exact([0; 5]).await;
/// result?;
/// assert_eq!(&buf, b"hello");
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct UnixStream(pub(super) Descriptor);

socket_handle!(UnixStream, peer);
any_family_handle!(UnixStream, peer);
stream_handle!(UnixStream);
recv_stream!(UnixStream);

impl UnixStream {
    /// Creates two sockets that are connected to each other.
    ///
    /// # Errors
    /// The error of `socketpair(2)`.
    ///
    /// # Examples
    /// ```
    /// use corio::net::UnixStream;
    /// let (_a, _b) = UnixStream::pair()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[doc(alias = "socketpair")]
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = sockets::unix_pair()?;
        Ok((Self::from(a), Self::from(b)))
    }

    /// Connects to the socket at a path. The path is looked up on this thread: keep sockets on a
    /// local file system whose directories are in memory, such as `/run`.
    ///
    /// # Errors
    /// The error of `connect(2)`, such as `NotFound`; `InvalidInput` if the path is too long for an
    /// address.
    ///
    /// # Examples
    /// See [`UnixListener`].
    pub async fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        // Without a socket to be had it would end at once.
        consume_budget().await;
        let address = SocketAddress::unix(path)?;
        let stream = Self::from(sockets::unix_stream()?);
        AsyncConnect::new(&stream, address).await?;
        Ok(stream)
    }
}

impl From<std::os::unix::net::UnixStream> for UnixStream {
    fn from(stream: std::os::unix::net::UnixStream) -> Self {
        OwnedFd::from(stream).into()
    }
}

/// A Unix stream socket that listens at a path.
///
/// The socket's file stays when the listener is closed; remove it before binding to the same path
/// again.
///
/// # Examples
/// ```
/// use corio::net::{UnixListener, UnixStream};
/// # let mut context = corio::IoContext::new(8)?;
/// # let dir = std::env::temp_dir().join(format!("corio-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&dir)?;
/// # context.block_on(async {
/// let path = dir.join("socket");
/// let listener = UnixListener::bind(&path)?;
/// let _client = UnixStream::connect(&path).await?;
/// let (server, _peer) = listener.accept().await?;
/// server.send_all("welcome").await.0?;
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct UnixListener(Descriptor);

socket_handle!(UnixListener);
any_family_handle!(UnixListener);

impl UnixListener {
    /// Creates a socket that listens at a path, which must not exist. Its directory is looked up on
    /// this thread, as by [`UnixStream::connect`].
    ///
    /// # Errors
    /// The error of `bind(2)` or `listen(2)`, such as `AddrInUse` if the path exists;
    /// `InvalidInput` if it is too long for an address.
    ///
    /// # Examples
    /// See [`UnixListener`].
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        let address = SocketAddress::unix(path)?;
        let socket = sockets::unix_stream()?;
        sockets::bind(socket.as_fd(), address.as_sock_addr())?;
        sockets::listen(socket.as_fd(), super::BACKLOG)?;
        Ok(UnixListener(Descriptor::socket(socket)))
    }

    /// Accepts the next connection; returns it and the peer's address, often an unnamed one.
    ///
    /// It is an operation, so that a time limit loses no connection:
    /// `listener.accept().with_timeout(limit)`.
    ///
    /// # Errors
    /// What `accept(2)` reports.
    ///
    /// # Examples
    /// See [`UnixListener`].
    #[track_caller]
    pub fn accept(&self) -> AsyncAccept<'_, UnixStream> {
        AsyncAccept::of_type(self)
    }
}

impl Accepted for UnixStream {
    type Address = SocketAddress;

    fn from_accepted(fd: OwnedFd) -> Self {
        UnixStream(Descriptor::nonblocking_socket(fd))
    }

    #[inline(always)]
    fn set_exposed(&self) {
        self.0.set_exposed();
    }
}

impl From<std::os::unix::net::UnixListener> for UnixListener {
    fn from(listener: std::os::unix::net::UnixListener) -> Self {
        OwnedFd::from(listener).into()
    }
}
