//! Sockets and pipes: creation, bind, listen, addresses. In a simulated world the descriptors are
//! placeholders, and the world decides which addresses are free and which it chooses.

use std::io::{self, IoSlice};

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

#[cfg(target_os = "linux")]
use crate::driver::sys;
#[cfg(target_os = "linux")]
use crate::os::AsRawFd;
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

/// Creates a pipe whose ends are in non-blocking mode. `pipe2(2)`.
#[cfg(target_os = "linux")]
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    crate::os::pipe()
}

/// Returns the number of bytes that a connected socket has taken and its peer has not: for TCP,
/// not acknowledged. `SIOCOUTQ`. 0 on hosts other than Linux.
pub(crate) fn send_queue_len(socket: BorrowedFd<'_>) -> u32 {
    #[cfg(target_os = "linux")]
    return sys::send_queue_len(socket.as_raw_fd());
    #[cfg(not(target_os = "linux"))]
    {
        let _ = socket;
        0
    }
}

/// Returns the number of bytes that a TCP peer may still acknowledge: 0 when it has acknowledged
/// all, or the connection has ended. 0 for sockets of other kinds, and on hosts other than Linux.
pub(crate) fn unacknowledged(socket: BorrowedFd<'_>) -> u32 {
    match send_queue_len(socket) {
        #[cfg(target_os = "linux")]
        len if sys::is_live_tcp(socket.as_raw_fd()) => len,
        _ => 0,
    }
}

/// Returns `true` if a TCP connection was reset before its peer had ended it, though what was
/// received last looks like an end, as the error went to a send. `false` on hosts other than Linux.
pub(crate) fn was_reset(socket: BorrowedFd<'_>) -> bool {
    #[cfg(target_os = "linux")]
    return sys::was_reset(socket.as_raw_fd());
    #[cfg(not(target_os = "linux"))]
    {
        let _ = socket;
        false
    }
}

/// Sends from several slices as much as the socket takes at once; `WouldBlock` if that is nothing.
/// `sendmsg(2)`.
pub(crate) fn try_send(socket: BorrowedFd<'_>, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    // Elsewhere sockets of this crate are in non-blocking mode, and raise no signal.
    #[cfg(target_os = "linux")]
    const FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    #[cfg(not(target_os = "linux"))]
    const FLAGS: i32 = 0;
    SockRef::from(&socket).send_vectored_with_flags(slices, FLAGS)
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
