//! Unix stream sockets.

use crate::os::OwnedFd;
use std::io;
use std::path::Path;

use socket2::{Domain, Socket as Raw, Type};

use super::{SocketAddress, recv_stream, socket_handle, stream_handle};
use crate::op::{Accepted, AsyncAccept, AsyncConnect, Descriptor};

/// A connection between processes of one host; it can carry file descriptors.
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
#[derive(Debug)]
pub struct UnixStream(pub(super) Descriptor);

socket_handle!(UnixStream, SocketAddress);
stream_handle!(UnixStream, SocketAddress);
recv_stream!(UnixStream);

impl UnixStream {
    /// Two sockets connected to each other.
    ///
    /// # Errors
    /// What `socketpair(2)` reports.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = Raw::pair(Domain::UNIX, Type::STREAM, None)?;
        Ok((Self::from(OwnedFd::from(a)), Self::from(OwnedFd::from(b))))
    }

    /// Connects to a socket in the file system.
    ///
    /// # Errors
    /// What `connect(2)` reports, such as `NotFound`; `InvalidInput` for a path that is too long.
    pub async fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        let address = SocketAddress::unix(path)?;
        let socket = Raw::new(Domain::UNIX, Type::STREAM, None)?;
        let stream = Self::from(OwnedFd::from(socket));
        AsyncConnect::new(&stream, address).await?;
        Ok(stream)
    }
}

impl From<std::os::unix::net::UnixStream> for UnixStream {
    fn from(stream: std::os::unix::net::UnixStream) -> Self {
        OwnedFd::from(stream).into()
    }
}

/// A socket in the file system that listens.
///
/// Its file stays when the listener is closed; remove it before binding to the same path again.
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
#[derive(Debug)]
pub struct UnixListener(Descriptor);

socket_handle!(UnixListener, SocketAddress);

impl UnixListener {
    /// Listens on a path, which must not exist.
    ///
    /// # Errors
    /// What `bind(2)` and `listen(2)` report, such as `AddrInUse` if there is a file of that name;
    /// `InvalidInput` for a path that is too long.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        let address = SocketAddress::unix(path)?;
        let socket = Raw::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(address.as_sock_addr())?;
        socket.listen(super::BACKLOG)?;
        Ok(UnixListener(Descriptor::socket(socket.into())))
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
}

impl From<std::os::unix::net::UnixListener> for UnixListener {
    fn from(listener: std::os::unix::net::UnixListener) -> Self {
        OwnedFd::from(listener).into()
    }
}
