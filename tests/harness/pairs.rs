//! Pairs of connected sockets: of Unix sockets, or of TCP sockets where the host has no others.

use std::io;
use std::net::SocketAddr;

#[cfg(any(windows, miri))]
pub(crate) use corio::net::TcpStream as LocalStream;
/// One end, as this crate's handle.
#[cfg(all(unix, not(miri)))]
pub(crate) use corio::net::UnixStream as LocalStream;

/// One end as std's type.
#[cfg(any(windows, miri))]
pub(crate) use std::net::TcpStream as StdStream;
#[cfg(all(unix, not(miri)))]
pub(crate) use std::os::unix::net::UnixStream as StdStream;

/// An address of this host that refuses connections while the socket is kept: it has no listener,
/// and no other socket, of this process or another, can be given its port.
pub(crate) fn refusing() -> io::Result<(SocketAddr, impl Sized)> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    let address = socket.local_addr()?.as_socket().expect("an address of IPv4");
    Ok((address, socket))
}

/// Two ends as this crate's handles.
pub(crate) fn local_pair() -> io::Result<(LocalStream, LocalStream)> {
    let (a, b) = std_pair()?;
    Ok((a.into(), b.into()))
}

/// Two ends as std's types.
pub(crate) fn std_pair() -> io::Result<(StdStream, StdStream)> {
    #[cfg(all(unix, not(miri)))]
    return StdStream::pair();
    #[cfg(any(windows, miri))]
    {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let a = StdStream::connect(listener.local_addr()?)?;
        Ok((a, listener.accept()?.0))
    }
}
