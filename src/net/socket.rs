//! A socket that is configured before it is used.

use std::io;
use std::time::Duration;

use super::{
    SocketAddress, TcpListener, TcpStream, any_family_handle, socket_handle, stream_handle,
};
use crate::driver::seams::options;
use crate::driver::seams::sockets::{self, Family};
use crate::op::{AsyncConnect, Descriptor};
use crate::os::OwnedFd;

/// A socket of any kind, with its options; converts to a [`TcpStream`] or [`TcpListener`].
///
/// Each option takes effect at once and can be read back. See `socket(7)` and `tcp(7)`.
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
/// assert_ne!(listener.local_addr()?.port(), 0);
/// # Ok::<(), std::io::Error>(())
/// ```
#[doc(alias = "TcpSocket")]
pub struct Socket(Descriptor);

socket_handle!(Socket, peer);
any_family_handle!(Socket, peer);
stream_handle!(Socket);

macro_rules! options {
    ($(
        $(#[$doc:meta])*
        $get:ident, $set:ident: $ty:ty = $value:expr, $raw_get:ident, $raw_set:ident;
    )+) => {
        impl Socket {$(
            $(#[$doc])*
            ///
            /// # Errors
            /// The error of `setsockopt(2)`.
            ///
            /// # Examples
            /// ```
            /// let socket = corio::net::Socket::tcp_v4()?;
            #[doc = concat!("socket.", stringify!($set), "(", $value, ")?;")]
            /// # Ok::<(), std::io::Error>(())
            /// ```
            pub fn $set(&self, value: $ty) -> io::Result<()> {
                options::$raw_set(self.fd(), value)
            }

            #[doc = concat!("Returns the option that [`", stringify!($set), "`](Self::",
                stringify!($set), ") sets.")]
            ///
            /// # Errors
            /// The error of `getsockopt(2)`.
            ///
            /// # Examples
            /// ```
            /// let socket = corio::net::Socket::tcp_v4()?;
            #[doc = concat!("println!(\"{:?}\", socket.", stringify!($get), "()?);")]
            /// # Ok::<(), std::io::Error>(())
            /// ```
            pub fn $get(&self) -> io::Result<$ty> {
                options::$raw_get(self.fd())
            }
        )+}
    };
}

#[cfg(unix)]
options! {
    /// Sets `SO_REUSEPORT`: several sockets may listen on one port, and the kernel distributes
    /// connections among them.
    reuse_port, set_reuse_port: bool = "true", reuse_port, set_reuse_port;
}

options! {
    /// Sets `TCP_NODELAY`: `true` sends small segments at once.
    nodelay, set_nodelay: bool = "true", nodelay, set_nodelay;
    /// Sets `SO_REUSEADDR`: `true` allows to bind while old connections linger on the address.
    reuse_addr, set_reuse_addr: bool = "true", reuse_address, set_reuse_address;
    /// Sets `SO_RCVBUF`, the size of the receive buffer in bytes; Linux doubles it, and limits it
    /// (`net.core.rmem_max`).
    recv_buffer_size, set_recv_buffer_size: usize = "65536", recv_buffer_size, set_recv_buffer_size;
    /// Sets `SO_SNDBUF`, the size of the send buffer in bytes; Linux doubles it, and limits it
    /// (`net.core.wmem_max`).
    send_buffer_size, set_send_buffer_size: usize = "65536", send_buffer_size, set_send_buffer_size;
    /// Sets `SO_KEEPALIVE`: `true` probes idle connections.
    keepalive, set_keepalive: bool = "true", keepalive, set_keepalive;
    /// Sets `SO_BROADCAST`: `true` allows to send to broadcast addresses.
    broadcast, set_broadcast: bool = "true", broadcast, set_broadcast;
}

impl Socket {
    /// Notes that other code may have set options.
    pub(crate) fn set_exposed(&self) {
        self.0.set_exposed();
    }

    /// Takes ownership of a socket that this crate has made.
    pub(crate) fn made(socket: OwnedFd) -> Self {
        Socket(Descriptor::socket(socket))
    }

    /// Creates a TCP socket for IPv4.
    ///
    /// # Errors
    /// The error of `socket(2)`.
    ///
    /// # Examples
    /// See [`Socket`].
    pub fn tcp_v4() -> io::Result<Self> {
        sockets::tcp(Family::V4).map(Self::made)
    }

    /// Creates a TCP socket for IPv6.
    ///
    /// # Errors
    /// The error of `socket(2)`, such as the one for a system without IPv6.
    ///
    /// # Examples
    /// ```no_run
    /// let socket = corio::net::Socket::tcp_v6()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn tcp_v6() -> io::Result<Self> {
        sockets::tcp(Family::V6).map(Self::made)
    }

    /// Creates a UDP socket for IPv4; datagrams are sent by `send_msg(..).to(..)` and received by
    /// `recv_msg`.
    ///
    /// # Errors
    /// The error of `socket(2)`.
    ///
    /// # Examples
    /// ```
    /// use corio::net::{Socket, SocketAddress};
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let (a, b) = (Socket::udp_v4()?, Socket::udp_v4()?);
    /// b.bind(SocketAddress::v4([127, 0, 0, 1], 0))?;
    /// a.send_msg(["hello"]).to(b.local_addr()?).await.0?;
    /// let (result, _bufs) = b.recv_msg([[0; 1500]]).await;
    /// assert_eq!(result?.len, 5);
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn udp_v4() -> io::Result<Self> {
        sockets::udp(Family::V4).map(Self::made)
    }

    /// Creates a UDP socket for IPv6.
    ///
    /// # Errors
    /// The error of `socket(2)`, such as the one for a system without IPv6.
    ///
    /// # Examples
    /// ```no_run
    /// let socket = corio::net::Socket::udp_v6()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn udp_v6() -> io::Result<Self> {
        sockets::udp(Family::V6).map(Self::made)
    }

    /// Sets `SO_LINGER`: how long a close waits for unsent data, in whole seconds, rounded up. Zero
    /// resets the connection instead of closing it; `None`, the default, closes it in the
    /// background. [`Duration::MAX`] is the longest time that the system knows.
    ///
    /// Only [`close`](Self::close) waits, and only its caller. A handle that is dropped does not:
    /// the system goes on sending in the background, as it does after the linger time.
    ///
    /// # Errors
    /// The error of `setsockopt(2)`.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// let socket = corio::net::Socket::tcp_v4()?;
    /// socket.set_linger(Some(Duration::from_millis(1500)))?;
    /// assert_eq!(socket.linger()?, Some(Duration::from_secs(2)));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        // The system drops the fraction, which would turn a short wait into a reset, and the upper
        // bits, which would shorten a long one.
        const MOST: u64 = if cfg!(windows) { u16::MAX as u64 } else { i32::MAX as u64 };
        let whole = linger.map(|time| {
            let seconds = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
            Duration::from_secs(seconds.min(MOST))
        });
        self.0.set_exposed();
        options::set_linger(self.fd(), whole)
    }

    /// Returns the option that [`set_linger`](Self::set_linger) sets.
    ///
    /// # Errors
    /// The error of `getsockopt(2)`.
    ///
    /// # Examples
    /// See [`set_linger`](Self::set_linger).
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        options::linger(self.fd())
    }

    /// Sets when an idle connection is probed, how often, and how many unanswered probes end it
    /// (`TCP_KEEPIDLE` and `TCP_KEEPINTVL`, in whole seconds; `TCP_KEEPCNT`). Switches
    /// `SO_KEEPALIVE` on.
    ///
    /// Not on OpenBSD, where these times apply to the whole system.
    ///
    /// # Errors
    /// The error of `setsockopt(2)`.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// let socket = corio::net::Socket::tcp_v4()?;
    /// socket.set_keepalive_times(Duration::from_secs(60), Duration::from_secs(10), 3)?;
    /// assert!(socket.keepalive()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[cfg(not(target_os = "openbsd"))]
    pub fn set_keepalive_times(
        &self,
        idle: Duration,
        interval: Duration,
        probes: u32,
    ) -> io::Result<()> {
        options::set_keepalive_times(self.fd(), idle, interval, probes)
    }

    /// Gives the socket its own address.
    ///
    /// # Errors
    /// The error of `bind(2)`, such as `AddrInUse`.
    ///
    /// # Examples
    /// See [`Socket`].
    pub fn bind(&self, address: impl Into<SocketAddress>) -> io::Result<()> {
        sockets::bind(self.fd(), address.into().as_sock_addr())
    }

    /// Connects to an address; [`into_tcp_stream`](Self::into_tcp_stream) converts the connected
    /// socket.
    ///
    /// # Errors
    /// The error of `connect(2)`, such as `ConnectionRefused`.
    ///
    /// # Examples
    /// ```
    /// use corio::net::{Socket, TcpListener};
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let socket = Socket::tcp_v4()?;
    /// socket.connect(listener.local_addr()?).await?;
    /// let stream = socket.into_tcp_stream()?;
    /// assert_eq!(stream.peer_addr()?, listener.local_addr()?);
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn connect(&self, address: impl Into<SocketAddress>) -> AsyncConnect<'_> {
        AsyncConnect::new(self, address)
    }

    /// Starts listening, with room for `backlog` connections that wait to be accepted.
    ///
    /// # Errors
    /// The error of `listen(2)`; `ResourceBusy` if an operation on the socket was leaked in flight.
    ///
    /// # Examples
    /// See [`Socket`].
    pub fn listen(self, backlog: i32) -> io::Result<TcpListener> {
        sockets::listen(self.fd(), backlog)?;
        Ok(TcpListener(self.0.transfer()?))
    }

    /// Converts a connected TCP socket to a [`TcpStream`].
    ///
    /// # Errors
    /// `InvalidInput` if it is not a stream socket; `ResourceBusy` if an operation on it was leaked
    /// in flight.
    ///
    /// # Examples
    /// See [`connect`](Self::connect).
    pub fn into_tcp_stream(self) -> io::Result<TcpStream> {
        let (is_stream, name) = sockets::kind(self.fd())?;
        if !is_stream {
            let message = format!("not a stream socket ({name}): a TcpStream needs SOCK_STREAM");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        Ok(TcpStream(self.0.transfer()?))
    }
}
