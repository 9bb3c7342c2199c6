//! A connection while its handler runs.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::rc::Rc;

use super::limits::ConnectionPermit;
use super::worker_server::WorkerServer;
use super::workers::{Phase, Worker};
use crate::net::SocketAddress;

/// How a connection's task ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Finished,
    Failed,
    TimedOut,
    /// The handler did not run to its end: it panicked, or was cancelled.
    Dropped,
}

/// A connection whose handler runs; counts its end when dropped.
pub(super) struct OpenConnection<S> {
    pub(super) server: Rc<WorkerServer<S>>,
    id: u64,
    end: Cell<End>,
    /// For [`on_error`](super::ServerBuilder::on_error), if set; boxed, as few servers set it.
    peer: Option<Box<SocketAddress>>,
    _permit: ConnectionPermit,
}

impl<S> OpenConnection<S> {
    pub(super) fn new(
        server: Rc<WorkerServer<S>>,
        id: u64,
        permit: ConnectionPermit,
        peer: Option<Box<SocketAddress>>,
    ) -> Self {
        OpenConnection { server, id, end: Cell::new(End::Dropped), peer, _permit: permit }
    }

    pub(super) fn set_end(&self, end: End) {
        self.end.set(end);
    }

    /// Reports the error that the handler returned, unless the connection was cancelled.
    #[cold]
    pub(super) fn fail(&self, error: &io::Error) {
        self.end.set(End::Failed);
        if self.server.phase.get() == Phase::Forced {
            return;
        }
        if let (Some(on_error), Some(peer)) = (&self.server.config.on_error, &self.peer) {
            on_error(peer, error);
        }
    }
}

impl<S> Drop for OpenConnection<S> {
    fn drop(&mut self) {
        let counters = self.server.counters();
        let cancelled = self.server.phase.get() == Phase::Forced;
        match self.end.get() {
            End::Finished => &counters.finished,
            End::Failed if cancelled => &counters.cancelled,
            End::Failed => &counters.failed,
            End::TimedOut => &counters.timed_out,
            End::Dropped if cancelled => &counters.cancelled,
            End::Dropped => &counters.panicked,
        }
        .add();
        self.server.remove(self.id);
    }
}

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
