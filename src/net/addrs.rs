//! Addresses to connect or bind to: IP addresses, and names that resolve to some.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use super::SocketAddress;
use crate::driver::seams;

/// An IP address with a port, several of them, or a name that resolves to some; sealed.
///
/// It is std's trait of the same name, for functions that resolve names off the event loop:
/// addresses of std and of this crate; `(ip, port)`; text, either `"127.0.0.1:80"`, which needs no
/// resolver, or `"example.org:80"`; `(text, port)`; slices of addresses.
///
/// # Examples
/// ```
/// use corio::net::{TcpListener, TcpStream};
/// use std::net::{Ipv4Addr, SocketAddr};
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
/// let address: SocketAddr = listener.local_addr()?;
/// TcpStream::connect(address).await?;
/// TcpStream::connect(address.to_string()).await?;
/// TcpStream::connect(&[address, address][..]).await?;
/// TcpStream::connect(("localhost", address.port())).await?;
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait ToSocketAddrs: Targets {}

impl<T: Targets + ?Sized> ToSocketAddrs for T {}

/// The addresses, or the name, that a value of a [`ToSocketAddrs`] type stands for.
#[derive(Debug)]
pub enum Target {
    One(SocketAddr),
    Several(Vec<SocketAddr>),
    /// `host:port`, to be resolved.
    Name(String),
}

/// Returns the addresses; resolves a name, which blocks the thread.
pub(crate) fn resolve_blocking(addresses: impl ToSocketAddrs) -> io::Result<Vec<SocketAddr>> {
    match addresses.target()? {
        Target::One(address) => Ok(vec![address]),
        Target::Several(addresses) => Ok(addresses),
        Target::Name(name) => seams::names::resolve(&name),
    }
}

/// Calls `open` with one address after the other until that succeeds.
///
/// # Errors
/// The error of the last address; `InvalidInput` if there is none.
pub(super) fn first_of<T>(
    addresses: impl ToSocketAddrs,
    mut open: impl FnMut(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut refused =
        io::Error::new(io::ErrorKind::InvalidInput, "no address to bind to: the list is empty");
    for address in resolve_blocking(addresses)? {
        match open(address) {
            Ok(socket) => return Ok(socket),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

/// The sealed part of [`ToSocketAddrs`].
pub trait Targets {
    #[doc(hidden)]
    fn target(&self) -> io::Result<Target>;
}

impl<T: Targets + ?Sized> Targets for &T {
    fn target(&self) -> io::Result<Target> {
        (**self).target()
    }
}

macro_rules! one {
    ($($ty:ty),+ $(,)?) => {$(
        impl Targets for $ty {
            fn target(&self) -> io::Result<Target> {
                Ok(Target::One((*self).into()))
            }
        }
    )+};
}

one! {
    SocketAddr, SocketAddrV4, SocketAddrV6,
    (IpAddr, u16), (Ipv4Addr, u16), (Ipv6Addr, u16), ([u8; 4], u16), ([u8; 16], u16),
}

impl Targets for SocketAddress {
    fn target(&self) -> io::Result<Target> {
        self.to_inet().map(Target::One)
    }
}

impl Targets for [SocketAddr] {
    fn target(&self) -> io::Result<Target> {
        match self {
            &[address] => Ok(Target::One(address)),
            several => Ok(Target::Several(several.to_vec())),
        }
    }
}

impl<const N: usize> Targets for [SocketAddr; N] {
    fn target(&self) -> io::Result<Target> {
        self[..].target()
    }
}

impl Targets for Vec<SocketAddr> {
    fn target(&self) -> io::Result<Target> {
        self[..].target()
    }
}

impl Targets for str {
    fn target(&self) -> io::Result<Target> {
        let address = self.parse().map(Target::One);
        Ok(address.unwrap_or_else(|_| Target::Name(self.to_owned())))
    }
}

impl Targets for String {
    fn target(&self) -> io::Result<Target> {
        (**self).target()
    }
}

impl Targets for (&str, u16) {
    fn target(&self) -> io::Result<Target> {
        let &(host, port) = self;
        let address = host.parse::<IpAddr>().map(|ip| Target::One((ip, port).into()));
        Ok(address.unwrap_or_else(|_| Target::Name(format!("{host}:{port}"))))
    }
}

impl Targets for (String, u16) {
    fn target(&self) -> io::Result<Target> {
        (&*self.0, self.1).target()
    }
}
