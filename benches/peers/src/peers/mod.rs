//! The programs that are compared: one file per runtime.

mod bare_epoll;
mod bare_uring;
mod compio;
mod corio;
mod glommio;
mod monoio;
mod peer;
mod tasks;
mod tokio;
mod tokio_uring;

pub(crate) use peer::Peer;

/// Returns all peers, in the order of the tables.
pub(crate) fn all() -> Vec<Peer> {
    [
        corio::peers(),
        monoio::peers(),
        compio::peers(),
        tokio::peers(),
        tokio_uring::peers(),
        glommio::peers(),
        bare_uring::peers(),
        bare_epoll::peers(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Looks a peer up.
pub(crate) fn named(name: &str) -> Option<Peer> {
    all().into_iter().find(|peer| peer.name == name)
}
