//! Name resolution off the event loop.

use std::io;
use std::net::SocketAddr;
use std::sync::LazyLock;

use super::ToSocketAddrs;
use super::addrs::Target;
use crate::blocking::BlockingPool;
use crate::driver::seams;
use crate::runtime::poll_budget::consume_budget;

/// Resolves `host:port` to at least one address without blocking the loop: a thread asks the
/// system's resolver, one of up to 64 that are for lookups only, so that these do not wait for
/// [blocking work](crate::spawn_blocking). What is an address already needs neither.
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
    consume_budget().await;
    match name.target()? {
        Target::One(address) => Ok(vec![address]),
        Target::Several(addresses) => Ok(addresses),
        Target::Name(name) => lookup(name).await,
    }
}

/// Resolves a name by a thread of the pool for names, so that lookups do not wait for work of the
/// program. They themselves may take long where a name server does not answer: a thread each.
pub(super) async fn lookup(name: String) -> io::Result<Vec<SocketAddr>> {
    static POOL: LazyLock<BlockingPool> =
        LazyLock::new(|| BlockingPool::builder().threads(64).name("resolve").build());
    POOL.run(move || seams::names::resolve(&name)).await?
}
