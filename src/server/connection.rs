//! What a connection's handler is given.

use std::fmt;
use std::rc::Rc;

use super::worker_server::WorkerServer;
use super::workers::{Phase, Worker};
use crate::net::SocketAddress;

/// The context of a connection's handler: the worker's state, the peer, and the server's phase.
///
/// # Examples
/// See [`Server`](super::Server).
pub struct ConnectionContext<S = ()> {
    pub(super) server: Rc<WorkerServer<S>>,
    pub(super) peer: SocketAddress,
    pub(super) listener: usize,
}

impl<S> ConnectionContext<S> {
    /// Returns the worker's own state, which the worker made when it started.
    pub fn state(&self) -> &S {
        &self.server.state
    }

    /// Returns the peer's address.
    #[doc(alias = "peer_addr")]
    pub fn peer(&self) -> &SocketAddress {
        &self.peer
    }

    /// Returns the number of the listener that accepted the connection, in the order in which
    /// listeners were added, from zero.
    pub fn listener(&self) -> usize {
        self.listener
    }

    /// Returns the worker that serves the connection.
    pub fn worker(&self) -> &Worker {
        &self.server.worker
    }

    /// Returns `true` if the server is stopping: finish the current request, and begin no other.
    pub fn is_stopping(&self) -> bool {
        self.server.phase.get() >= Phase::Stopping
    }

    /// Waits until the server is stopping. [Race](crate::race()) it against waiting for the *next*
    /// request: a connection that was accepted and not answered yet still gets its first answer.
    pub async fn stopping(&self) {
        self.server.phase.reached(Phase::Stopping).await;
    }
}

impl<S> fmt::Debug for ConnectionContext<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionContext").field("peer", &self.peer).finish_non_exhaustive()
    }
}
