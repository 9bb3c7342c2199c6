//! The types in which handles report the address of a peer.

use std::io;
use std::net::SocketAddr;

use crate::address::SocketAddress;

/// A type for the address of a peer: [`SocketAddress`] for any family, [`SocketAddr`] for TCP and
/// UDP.
///
/// # Examples
/// ```
/// use corio::op::AsyncRecvFrom;
/// use std::net::{SocketAddr, UdpSocket};
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let (a, b) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
/// a.send_to(b"hello", b.local_addr()?)?;
/// let receive: AsyncRecvFrom<_, SocketAddr> = AsyncRecvFrom::new(&b, Vec::with_capacity(64));
/// let (result, _buf) = receive.await;
/// assert_eq!(result?, (5, a.local_addr()?));
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait PeerAddress: Sized {
    /// Converts an address that the kernel reported.
    ///
    /// # Errors
    /// `InvalidData` if it is of another family.
    fn from_socket_address(address: SocketAddress) -> io::Result<Self>;
}

impl PeerAddress for SocketAddress {
    #[inline(always)]
    fn from_socket_address(address: SocketAddress) -> io::Result<Self> {
        Ok(address)
    }
}

impl PeerAddress for SocketAddr {
    #[inline(always)]
    fn from_socket_address(address: SocketAddress) -> io::Result<Self> {
        address.as_inet().ok_or_else(|| {
            let text = format!("the peer's address is not an IP address: {address}");
            io::Error::new(io::ErrorKind::InvalidData, text)
        })
    }
}
