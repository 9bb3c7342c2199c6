//! Socket addresses of every family.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::str::FromStr;

use socket2::SockAddr;

use crate::driver::seams;

/// The address of a socket of any family: IPv4, IPv6, or a Unix path.
///
/// Sockets that are certain to be IP sockets use [`std::net::SocketAddr`], which converts to this
/// type and compares with it.
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
    /// Creates an IPv4 address.
    ///
    /// # Examples
    /// ```
    /// use corio::net::SocketAddress;
    /// assert_eq!(SocketAddress::v4([127, 0, 0, 1], 80).to_string(), "127.0.0.1:80");
    /// ```
    pub fn v4(ip: impl Into<Ipv4Addr>, port: u16) -> Self {
        SocketAddr::new(IpAddr::V4(ip.into()), port).into()
    }

    /// Creates an IPv6 address.
    ///
    /// # Examples
    /// ```
    /// use corio::net::SocketAddress;
    /// use std::net::Ipv6Addr;
    /// assert_eq!(SocketAddress::v6(Ipv6Addr::LOCALHOST, 80).to_string(), "[::1]:80");
    /// ```
    pub fn v6(ip: impl Into<Ipv6Addr>, port: u16) -> Self {
        SocketAddr::new(IpAddr::V6(ip.into()), port).into()
    }

    /// Returns the unspecified IPv4 address: a socket bound to it receives on every IPv4 address of
    /// the host.
    ///
    /// # Examples
    /// ```
    /// use corio::net::SocketAddress;
    /// assert_eq!(SocketAddress::any(80).to_string(), "0.0.0.0:80");
    /// ```
    #[doc(alias = "INADDR_ANY")]
    #[doc(alias = "UNSPECIFIED")]
    pub fn any(port: u16) -> Self {
        Self::v4(Ipv4Addr::UNSPECIFIED, port)
    }

    /// Returns the unspecified IPv6 address: a socket bound to it receives on every IPv6 address of
    /// the host, a listener of this crate on every IPv4 address too.
    ///
    /// # Examples
    /// ```
    /// use corio::net::SocketAddress;
    /// assert_eq!(SocketAddress::any_v6(80).to_string(), "[::]:80");
    /// ```
    #[doc(alias = "UNSPECIFIED")]
    pub fn any_v6(port: u16) -> Self {
        Self::v6(Ipv6Addr::UNSPECIFIED, port)
    }

    /// Creates the address of a Unix socket from its path; on Linux also from an abstract name,
    /// which starts with a NUL byte (`unix(7)`).
    ///
    /// # Errors
    /// `InvalidInput` if the path does not fit into an address (108 bytes on Linux, with the NUL
    /// that ends it), or contains a NUL byte.
    ///
    /// # Examples
    /// ```
    /// use corio::net::SocketAddress;
    /// let address = SocketAddress::unix("/run/app.sock")?;
    /// assert!(address.as_path().is_some_and(|path| path.ends_with("app.sock")));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn unix(path: impl AsRef<Path>) -> io::Result<Self> {
        let bytes = path.as_ref().as_os_str().as_encoded_bytes();
        let is_abstract = cfg!(target_os = "linux") && bytes.first() == Some(&0);
        if bytes.contains(&0) && !is_abstract {
            let error = format!("the path {:?} contains a NUL byte", path.as_ref());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
        }
        SockAddr::unix(path).map(SocketAddress)
    }

    /// Resolves `host:port` to at least one address, and **blocks** the thread until the system's
    /// resolver answers, which can take seconds: for use before a context runs. In a task, use
    /// [`net::resolve`](crate::net::resolve).
    ///
    /// # Errors
    /// The resolver's error; `NotFound` if the name has no address; `InvalidInput` if the text is
    /// not of the form `host:port`.
    ///
    /// # Examples
    /// ```
    /// use corio::net::SocketAddress;
    /// let local = SocketAddress::resolve_blocking("localhost:8080")?;
    /// assert_eq!(local[0].port(), Some(8080));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[doc(alias = "to_socket_addrs")]
    pub fn resolve_blocking(name: &str) -> io::Result<Vec<Self>> {
        let found = seams::names::resolve(name)?;
        Ok(found.into_iter().map(SocketAddress::from).collect())
    }

    /// Returns the address as std's type; `None` if it is not an IP address.
    ///
    /// # Examples
    /// ```
    /// use corio::net::SocketAddress;
    /// let address = SocketAddress::v4([127, 0, 0, 1], 80);
    /// assert_eq!(address.as_inet(), Some(([127, 0, 0, 1], 80).into()));
    /// ```
    pub fn as_inet(&self) -> Option<SocketAddr> {
        self.0.as_socket()
    }

    /// Returns the path of a Unix address; `None` if it has none, is an IP address, or on Windows.
    ///
    /// # Examples
    /// See [`unix`](Self::unix).
    pub fn as_path(&self) -> Option<&Path> {
        #[cfg(unix)]
        return self.0.as_pathname();
        #[cfg(windows)]
        None
    }

    /// Returns the IP address; `None` if it is not one.
    ///
    /// # Examples
    /// ```
    /// use corio::net::SocketAddress;
    /// let address = SocketAddress::v4([127, 0, 0, 1], 80);
    /// assert!(address.ip().is_some_and(|ip| ip.is_loopback()));
    /// assert_eq!(SocketAddress::unix("/run/app.sock")?.ip(), None);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn ip(&self) -> Option<IpAddr> {
        self.as_inet().map(|inet| inet.ip())
    }

    /// Returns the port; `None` if it is not an IP address.
    ///
    /// # Examples
    /// ```
    /// use corio::net::SocketAddress;
    /// assert_eq!(SocketAddress::any(80).port(), Some(80));
    /// assert_eq!(SocketAddress::unix("/run/app.sock")?.port(), None);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn port(&self) -> Option<u16> {
        self.as_inet().map(|inet| inet.port())
    }

    /// Returns the address as std's type.
    ///
    /// # Errors
    /// `InvalidInput` if it is not an IP address.
    pub(crate) fn to_inet(&self) -> io::Result<SocketAddr> {
        self.as_inet().ok_or_else(|| {
            let text = format!("not an IP address: {self}");
            io::Error::new(io::ErrorKind::InvalidInput, text)
        })
    }

    /// Returns the abstract name of a Unix socket, without its leading NUL byte. Linux.
    fn abstract_name(&self) -> Option<&[u8]> {
        #[cfg(target_os = "linux")]
        return self.0.as_abstract_namespace();
        #[cfg(not(target_os = "linux"))]
        None
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

impl PartialEq<SocketAddr> for SocketAddress {
    fn eq(&self, other: &SocketAddr) -> bool {
        self.as_inet() == Some(*other)
    }
}

impl PartialEq<SocketAddress> for SocketAddr {
    fn eq(&self, other: &SocketAddress) -> bool {
        other == self
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

    /// Parses `IP:PORT`; a name needs [`net::resolve`](crate::net::resolve).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<SocketAddr>().map(SocketAddress::from)
    }
}

impl fmt::Display for SocketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.as_inet(), self.as_path()) {
            (Some(inet), _) => inet.fmt(f),
            (None, Some(path)) => path.display().fmt(f),
            (None, None) if self.0.is_unix() => match self.abstract_name() {
                Some(name) => write!(f, "@{}", name.escape_ascii()),
                None => f.write_str("(unnamed)"),
            },
            (None, None) => write!(f, "(address family {})", self.0.family()),
        }
    }
}

impl fmt::Debug for SocketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
