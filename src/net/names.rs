//! Name resolution off the event loop.

use std::io;
use std::net::SocketAddr;

use super::ToSocketAddrs;
use super::addrs::Target;
use crate::blocking::spawn_blocking;
use crate::driver::seams;

/// Resolves `host:port` to at least one address without blocking the loop: a thread of the
/// [process-wide pool](crate::spawn_blocking) asks the system's resolver. What is an address
/// already needs neither.
///
/// [`TcpStream::connect`](super::TcpStream::connect) takes a name directly;
/// [`SocketAddress::resolve_blocking`](super::SocketAddress::resolve_blocking) is for use before a
/// context runs.
///
/// # Errors
/// The resolver's error; `NotFound` if the name has no address; `InvalidInput` if the text is not
/// of the form `host:port`.
///
/// # Examples
/// ```
/// use corio::net::resolve;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// assert_eq!(resolve("127.0.0.1:80").await?[0].to_string(), "127.0.0.1:80");
/// assert!(!resolve(("localhost", 80)).await?.is_empty());
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "lookup_host")]
#[doc(alias = "getaddrinfo")]
pub async fn resolve(name: impl ToSocketAddrs) -> io::Result<Vec<SocketAddr>> {
    match name.target()? {
        Target::One(address) => Ok(vec![address]),
        Target::Several(addresses) => Ok(addresses),
        Target::Name(name) => lookup(name).await,
    }
}

/// Resolves a name by a thread of the pool.
pub(super) async fn lookup(name: String) -> io::Result<Vec<SocketAddr>> {
    spawn_blocking(move || seams::names::resolve(&name)).await?
}
