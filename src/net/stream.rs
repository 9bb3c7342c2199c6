//! A connection of whatever family.

use std::io;

use super::{SocketAddress, TcpStream, recv_stream, socket_handle, stream_handle};
use crate::op::Descriptor;
use crate::os::OwnedFd;

/// A connected stream socket, TCP or Unix: what a [server](crate::server) hands to its handler.
///
/// # Examples
/// ```
/// use corio::net::{Stream, TcpListener, TcpStream};
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let stream = Stream::from(TcpStream::connect(listener.local_addr()?).await?);
/// assert_eq!(stream.peer_addr()?, listener.local_addr()?);
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Stream(Descriptor);

socket_handle!(Stream, SocketAddress);
stream_handle!(Stream, SocketAddress);
recv_stream!(Stream);

impl Stream {
    /// Takes over a socket that is in non-blocking mode already, as accepted ones are.
    pub(crate) fn accepted(fd: OwnedFd) -> Self {
        Stream(Descriptor::nonblocking_socket(fd))
    }
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Stream(stream.0)
    }
}

#[cfg(unix)]
impl From<super::UnixStream> for Stream {
    fn from(stream: super::UnixStream) -> Self {
        Stream(stream.0)
    }
}

impl TryFrom<Stream> for TcpStream {
    type Error = io::Error;

    /// Fails with `InvalidInput` for a connection that is not TCP; it is closed then.
    fn try_from(stream: Stream) -> Result<Self, Self::Error> {
        match stream.local_addr()?.as_inet() {
            Some(_) => Ok(TcpStream(stream.0)),
            None => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a TCP connection")),
        }
    }
}
