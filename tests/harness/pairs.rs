//! Pairs of connected sockets: of Unix sockets, or of TCP sockets where the host has no others.

use std::io;

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
