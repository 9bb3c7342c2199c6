//! Unix stream sockets.

use crate::os::OwnedFd;
use std::io;
use std::path::Path;

use socket2::{Domain, Socket as Raw, Type};

use super::{SocketAddress, socket_handle, stream_handle};
use crate::op::{AsyncConnect, Descriptor};

/// A connection between processes of one host; it can carry file descriptors.
///
/// # Examples
/// ```
/// use corio::net::UnixStream;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.run_until_done(async {
/// let (a, b) = UnixStream::pair()?;
/// a.send_exact("hello").await.0?;
/// let (result, buf) = b.recv_exact([0; 5]).await;
/// result?;
/// assert_eq!(&buf, b"hello");
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct UnixStream(Descriptor);

socket_handle!(UnixStream);
stream_handle!(UnixStream);

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
