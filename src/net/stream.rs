//! A connection of any family.

use std::io;

use super::{TcpStream, any_family_handle, recv_stream, socket_handle, stream_handle};
use crate::op::Descriptor;
use crate::os::OwnedFd;

/// A connected stream socket, TCP or Unix: what a [server](crate::server) passes to its handler.
///
/// # Examples
/// ```
/// use corio::net::{Stream, TcpListener, TcpStream};
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let stream = Stream::from(TcpStream::connect(listener.local_addr()?).await?);
/// assert_eq!(stream.peer_addr()?.as_inet(), Some(listener.local_addr()?));
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Stream(pub(super) Descriptor);

socket_handle!(Stream, peer);
any_family_handle!(Stream, peer);
stream_handle!(Stream);
recv_stream!(Stream);

impl Stream {
    /// Takes ownership of a socket that is in non-blocking mode already, as accepted ones are.
    /// `exposed`: other code may have set options of the listener, which it inherits.
    pub(crate) fn accepted(fd: OwnedFd, exposed: bool) -> Self {
        let descriptor = Descriptor::nonblocking_socket(fd);
        if exposed {
            descriptor.set_exposed();
        }
        Stream(descriptor)
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

    /// Fails with `InvalidInput`, and closes the connection, if it is not TCP.
    fn try_from(stream: Stream) -> Result<Self, Self::Error> {
        stream.local_addr()?.to_inet().map(|_| TcpStream(stream.0))
    }
}
