//! Name resolution. A simulated world looks names up in a table of its own.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

/// Resolves `host:port` to at least one address, with the system's resolver.
///
/// Blocks the thread until the resolver answers, which can take seconds.
///
/// # Errors
/// The resolver's error; `InvalidInput` if the text is not of the form `host:port`; `NotFound` if
/// the name has no address.
pub(crate) fn resolve(name: &str) -> io::Result<Vec<SocketAddr>> {
    let found: Vec<_> = name.to_socket_addrs()?.collect();
    if found.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("the name {name} has no address"),
        ));
    }
    Ok(found)
}
