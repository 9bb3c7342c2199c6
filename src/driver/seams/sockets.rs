//! Sockets and pipes: creation, bind, listen, addresses. In a simulated world the descriptors are
//! placeholders, and the world decides which addresses are free and which it chooses.

use std::io;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use crate::os::{BorrowedFd, OwnedFd};

/// The address family of a new socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Family(Domain);

impl Family {
    pub(crate) const V4: Family = Family(Domain::IPV4);
    pub(crate) const V6: Family = Family(Domain::IPV6);

    /// Returns the family of an address.
    #[inline(always)]
    pub(crate) fn of(address: &SockAddr) -> Self {
        Family(address.domain())
    }
}

/// Creates a TCP socket. `socket(2)`.
pub(crate) fn tcp(family: Family) -> io::Result<OwnedFd> {
    Socket::new(family.0, Type::STREAM, Some(Protocol::TCP)).map(OwnedFd::from)
}

/// Creates a UDP socket. `socket(2)`.
pub(crate) fn udp(family: Family) -> io::Result<OwnedFd> {
    Socket::new(family.0, Type::DGRAM, Some(Protocol::UDP)).map(OwnedFd::from)
}

/// Creates a Unix stream socket. `socket(2)`.
#[cfg(unix)]
pub(crate) fn unix_stream() -> io::Result<OwnedFd> {
    Socket::new(Domain::UNIX, Type::STREAM, None).map(OwnedFd::from)
}

/// Creates two Unix stream sockets that are connected to each other. `socketpair(2)`.
#[cfg(unix)]
pub(crate) fn unix_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Socket::pair(Domain::UNIX, Type::STREAM, None).map(|(a, b)| (a.into(), b.into()))
}

/// Creates a pipe. `pipe(2)`.
#[cfg(target_os = "linux")]
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    crate::os::pipe()
}

/// Gives a socket its own address. `bind(2)`.
pub(crate) fn bind(socket: BorrowedFd<'_>, address: &SockAddr) -> io::Result<()> {
    SockRef::from(&socket).bind(address)
}

/// Starts listening. `listen(2)`.
pub(crate) fn listen(socket: BorrowedFd<'_>, backlog: i32) -> io::Result<()> {
    SockRef::from(&socket).listen(backlog)
}

/// Returns `true` if the socket listens. `SO_ACCEPTCONN`.
#[cfg(target_os = "linux")]
pub(crate) fn is_listener(socket: BorrowedFd<'_>) -> io::Result<bool> {
    SockRef::from(&socket).is_listener()
}

/// Returns whether a socket carries a stream of bytes, and the name of its type. `SO_TYPE`.
pub(crate) fn kind(socket: BorrowedFd<'_>) -> io::Result<(bool, String)> {
    let kind = SockRef::from(&socket).r#type()?;
    Ok((kind == Type::STREAM, format!("{kind:?}")))
}

/// Sets the peer of a datagram socket; nothing is sent, so there is nothing to wait for.
/// `connect(2)`.
pub(crate) fn connect_datagram(socket: BorrowedFd<'_>, peer: &SockAddr) -> io::Result<()> {
    SockRef::from(&socket).connect(peer)
}

/// Returns a socket's own address. `getsockname(2)`.
pub(crate) fn local_address(socket: BorrowedFd<'_>) -> io::Result<SockAddr> {
    SockRef::from(&socket).local_addr()
}

/// Returns the address of a socket's peer. `getpeername(2)`.
pub(crate) fn peer_address(socket: BorrowedFd<'_>) -> io::Result<SockAddr> {
    SockRef::from(&socket).peer_addr()
}
