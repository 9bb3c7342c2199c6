//! Socket addresses of every family.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::str::FromStr;

use socket2::SockAddr;

/// The address of a socket: IPv4, IPv6, or a Unix path.
///
/// # Examples
/// ```
/// use corio::net::SocketAddress;
/// let address: SocketAddress = "127.0.0.1:80".parse()?;
/// assert_eq!(address.port(), Some(80));
/// assert_eq!(SocketAddress::unix("/run/app.sock")?.to_string(), "/run/app.sock");
/// assert_eq!(SocketAddress::any_v6(0).to_string(), "[::]:0");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct SocketAddress(SockAddr);

impl SocketAddress {
    /// An IPv4 address.
    pub fn v4(ip: impl Into<Ipv4Addr>, port: u16) -> Self {
        SocketAddr::new(IpAddr::V4(ip.into()), port).into()
    }

    /// An IPv6 address.
    pub fn v6(ip: impl Into<Ipv6Addr>, port: u16) -> Self {
        SocketAddr::new(IpAddr::V6(ip.into()), port).into()
    }

    /// Every IPv4 address of this host.
    pub fn any(port: u16) -> Self {
        Self::v4(Ipv4Addr::UNSPECIFIED, port)
    }

    /// Every address of this host: listeners made by this crate take IPv4 on it, too.
    pub fn any_v6(port: u16) -> Self {
        Self::v6(Ipv6Addr::UNSPECIFIED, port)
    }

    /// A path for a Unix socket.
    ///
    /// # Errors
    /// `InvalidInput` when the path does not fit into an address (108 bytes on Linux).
    pub fn unix(path: impl AsRef<Path>) -> io::Result<Self> {
        SockAddr::unix(path).map(SocketAddress)
    }

    /// Looks up `host:port`. This asks the system's resolver and **blocks** the thread until it
    /// answers, which can take seconds: do it before the loop runs.
    ///
    /// # Errors
    /// What the resolver reports; `NotFound` when it finds no address.
    ///
    /// # Examples
    /// ```
    /// use corio::net::SocketAddress;
    /// let local = SocketAddress::resolve("localhost:8080")?;
    /// assert_eq!(local[0].port(), Some(8080));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn resolve(name: impl ToSocketAddrs) -> io::Result<Vec<Self>> {
        let found: Vec<_> = name.to_socket_addrs()?.map(SocketAddress::from).collect();
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        Ok(found)
    }

    /// The address as std's type, unless it is a Unix one.
    pub fn as_inet(&self) -> Option<SocketAddr> {
        self.0.as_socket()
    }

    /// The path, if it is a Unix one and has one (not told on Windows).
    pub fn as_path(&self) -> Option<&Path> {
        #[cfg(unix)]
        return self.0.as_pathname();
        #[cfg(windows)]
        None
    }

    /// The port, unless it is a Unix address.
    pub fn port(&self) -> Option<u16> {
        self.as_inet().map(|inet| inet.port())
    }

    pub(crate) fn as_sock_addr(&self) -> &SockAddr {
        &self.0
    }

    pub(crate) fn from_sock_addr(address: SockAddr) -> Self {
        SocketAddress(address)
    }
}

impl From<SocketAddr> for SocketAddress {
    fn from(address: SocketAddr) -> Self {
        SocketAddress(address.into())
    }
}

impl From<&SocketAddress> for SocketAddress {
    fn from(address: &SocketAddress) -> Self {
        address.clone()
    }
}

impl<I: Into<IpAddr>> From<(I, u16)> for SocketAddress {
    fn from((ip, port): (I, u16)) -> Self {
        SocketAddr::new(ip.into(), port).into()
    }
}

impl FromStr for SocketAddress {
    type Err = std::net::AddrParseError;

    /// Reads `IP:PORT`; names are for [`resolve`](Self::resolve).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<SocketAddr>().map(SocketAddress::from)
    }
}

impl fmt::Display for SocketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.as_inet(), self.as_path()) {
            (Some(inet), _) => inet.fmt(f),
            (None, Some(path)) => path.display().fmt(f),
            (None, None) if self.0.is_unix() => f.write_str("(unnamed)"),
            (None, None) => write!(f, "(address family {})", self.0.family()),
        }
    }
}

impl fmt::Debug for SocketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
