//! A socket to be configured before it is used.

use crate::os::OwnedFd;
use std::io;
use std::time::Duration;

#[cfg(not(target_os = "openbsd"))]
use socket2::TcpKeepalive;
use socket2::{Domain, Protocol, SockRef, Socket as Raw, Type};

use super::{SocketAddress, TcpListener, TcpStream, socket_handle, stream_handle};
use crate::op::{AsyncConnect, Descriptor};

/// A socket of any kind, with its options; turns into a [`TcpStream`] or [`TcpListener`].
///
/// Each option is set at once and can be read back. `socket(7)`, `tcp(7)`.
///
/// It has no `recv_stream`, as it may be a socket for datagrams, of which an empty one would read
/// as the end of the stream:
///
/// ```compile_fail,E0599
/// let socket = corio::net::Socket::udp_v4()?;
/// socket.recv_stream();
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Examples
/// ```
/// use corio::net::{Socket, SocketAddress};
/// let socket = Socket::tcp_v4()?;
/// socket.set_reuse_addr(true)?;
/// socket.set_nodelay(true)?;
/// assert!(socket.nodelay()?);
/// socket.bind(SocketAddress::v4([127, 0, 0, 1], 0))?;
/// let listener = socket.listen(128)?;
/// assert_ne!(listener.local_addr()?.port(), Some(0));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Socket(Descriptor);

socket_handle!(Socket, SocketAddress);
stream_handle!(Socket, SocketAddress);

macro_rules! options {
    ($($(#[$doc:meta])* $get:ident, $set:ident: $ty:ty = $raw_get:ident, $raw_set:ident;)+) => {
        impl Socket {$(
            $(#[$doc])*
            ///
            /// # Errors
            /// What `setsockopt(2)` reports.
            pub fn $set(&self, value: $ty) -> io::Result<()> {
                SockRef::from(self).$raw_set(value)
            }

            /// Reads the option back.
            ///
            /// # Errors
            /// What `getsockopt(2)` reports.
            pub fn $get(&self) -> io::Result<$ty> {
                SockRef::from(self).$raw_get()
            }
        )+}
    };
}

#[cfg(unix)]
options! {
    /// `SO_REUSEPORT`: several sockets listen on one port, and the kernel spreads connections.
    reuse_port, set_reuse_port: bool = reuse_port, set_reuse_port;
}

options! {
    /// `TCP_NODELAY`: send small segments at once.
    nodelay, set_nodelay: bool = tcp_nodelay, set_tcp_nodelay;
    /// `SO_REUSEADDR`: bind although old connections linger on the address.
    reuse_addr, set_reuse_addr: bool = reuse_address, set_reuse_address;
    /// `SO_RCVBUF` in bytes; the kernel doubles it.
    recv_buffer_size, set_recv_buffer_size: usize = recv_buffer_size, set_recv_buffer_size;
    /// `SO_SNDBUF` in bytes; the kernel doubles it.
    send_buffer_size, set_send_buffer_size: usize = send_buffer_size, set_send_buffer_size;
    /// `SO_KEEPALIVE`: probe idle connections.
    keepalive, set_keepalive: bool = keepalive, set_keepalive;
    /// `SO_BROADCAST`: allow sending to broadcast addresses.
    broadcast, set_broadcast: bool = broadcast, set_broadcast;
}

impl Socket {
    fn new(domain: Domain, ty: Type, protocol: Option<Protocol>) -> io::Result<Self> {
        Raw::new(domain, ty, protocol).map(|socket| OwnedFd::from(socket).into())
    }

    /// A TCP socket for IPv4.
    ///
    /// # Errors
    /// What `socket(2)` reports.
    pub fn tcp_v4() -> io::Result<Self> {
        Self::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))
    }

    /// A TCP socket for IPv6.
    ///
    /// # Errors
    /// What `socket(2)` reports.
    pub fn tcp_v6() -> io::Result<Self> {
        Self::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))
    }

    /// A UDP socket for IPv4; messages go by `send_msg(..).to(..)` and `recv_msg`.
    ///
    /// # Errors
    /// What `socket(2)` reports.
    pub fn udp_v4() -> io::Result<Self> {
        Self::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))
    }

    /// A UDP socket for IPv6.
    ///
    /// # Errors
    /// What `socket(2)` reports.
    pub fn udp_v6() -> io::Result<Self> {
        Self::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))
    }

    /// `SO_LINGER`: how long a close waits for unsent data, in whole seconds, rounded up; zero resets
    /// the connection instead of closing it.
    ///
    /// # Errors
    /// What `setsockopt(2)` reports.
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        // The system drops the fraction, which would turn a short wait into a reset.
        let whole = linger.map(|time| match time.subsec_nanos() {
            0 => time,
            _ => Duration::from_secs(time.as_secs().saturating_add(1)),
        });
        SockRef::from(self).set_linger(whole)
    }

    /// Reads the option back.
    ///
    /// # Errors
    /// What `getsockopt(2)` reports.
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        SockRef::from(self).linger()
    }

    /// When to probe an idle connection, how often, and how many unanswered probes end it
    /// (`TCP_KEEPIDLE`, `TCP_KEEPINTVL`, `TCP_KEEPCNT`). Switches probing on.
    ///
    /// Not on OpenBSD, where these times are the whole system's.
    ///
    /// # Errors
    /// What `setsockopt(2)` reports.
    #[cfg(not(target_os = "openbsd"))]
    pub fn set_keepalive_times(
        &self,
        idle: Duration,
        interval: Duration,
        probes: u32,
    ) -> io::Result<()> {
        let keepalive =
            TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(probes);
        SockRef::from(self).set_tcp_keepalive(&keepalive)
    }

    /// Gives the socket an address.
    ///
    /// # Errors
    /// What `bind(2)` reports, such as `AddrInUse`.
    pub fn bind(&self, address: impl Into<SocketAddress>) -> io::Result<()> {
        SockRef::from(self).bind(address.into().as_sock_addr())
    }

    /// Connects to an address; turn the socket into a [`TcpStream`] with `into_tcp_stream`.
    #[track_caller]
    pub fn connect(&self, address: impl Into<SocketAddress>) -> AsyncConnect<'_> {
        AsyncConnect::new(self, address)
    }

    /// Starts listening, with room for `backlog` connections that wait to be accepted.
    ///
    /// # Errors
    /// What `listen(2)` reports.
    pub fn listen(self, backlog: i32) -> io::Result<TcpListener> {
        SockRef::from(&self).listen(backlog)?;
        OwnedFd::try_from(self).map(TcpListener::from)
    }

    /// Turns the connected socket into a TCP connection.
    ///
    /// # Errors
    /// `InvalidInput` if it is not a stream socket; `ResourceBusy` if an operation on it was leaked
    /// in flight.
    pub fn into_tcp_stream(self) -> io::Result<TcpStream> {
        let ty = SockRef::from(&self).r#type()?;
        if ty != Type::STREAM {
            let message = format!("not a stream socket ({ty:?}): a TcpStream needs SOCK_STREAM");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        OwnedFd::try_from(self).map(TcpStream::from)
    }
}
