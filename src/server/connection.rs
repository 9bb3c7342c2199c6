//! What a connection's handler is given.

use std::cell::OnceCell;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;

use super::worker_server::WorkerServer;
use super::workers::{Phase, Worker};
use crate::net::SocketAddress;

/// The context of a connection's handler: the worker's state, the peer, and the server's phase.
///
/// # Examples
/// See [`Server`](super::Server).
pub struct ConnectionContext<S = ()> {
    server: Rc<WorkerServer<S>>,
    /// The peer's address, if it is an IP address, and then `peer` is filled in when it is asked
    /// for: that has room for an address of any family, which idle connections would all keep.
    inet: Option<SocketAddr>,
    peer: OnceCell<Box<SocketAddress>>,
    listener: usize,
}

impl<S> ConnectionContext<S> {
    pub(super) fn new(server: Rc<WorkerServer<S>>, peer: SocketAddress, listener: usize) -> Self {
        let inet = peer.as_inet();
        let full = if inet.is_some() { OnceCell::new() } else { Box::new(peer).into() };
        ConnectionContext { server, inet, peer: full, listener }
    }

    /// Returns the worker's own state, which the worker made when it started.
    pub fn state(&self) -> &S {
        &self.server.state
    }

    /// Returns the peer's address.
    #[doc(alias = "peer_addr")]
    pub fn peer(&self) -> &SocketAddress {
        self.peer.get_or_init(|| match self.inet {
            Some(inet) => Box::new(inet.into()),
            None => unreachable!("an address of another family is filled in from the start"),
        })
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
    ///
    /// When that begins, the task of each connection is polled once more. So a future that only the
    /// handler's own task polls may look at this at each poll, where one more future of
    /// [`stopping`](Self::stopping) would be too large for an idle connection.
    ///
    /// # Examples
    /// ```
    /// use std::future::poll_fn;
    /// use std::{io, pin::pin, task::Poll};
    /// use corio::net::Stream;
    /// use corio::server::ConnectionContext;
    ///
    /// /// Waits for the next request; `None`: the server is stopping.
    /// async fn next(stream: &Stream, ctx: &ConnectionContext) -> Option<io::Result<usize>> {
    ///     let mut received = stream.recv_stream();
    ///     let mut next = pin!(received.recv()); // may be dropped in flight
    ///     poll_fn(|cx| match next.as_mut().poll(cx) {
    ///         Poll::Ready(received) => Poll::Ready(Some(received)),
    ///         Poll::Pending if ctx.is_stopping() => Poll::Ready(None),
    ///         Poll::Pending => Poll::Pending,
    ///     })
    ///     .await
    ///     .map(|received| received.map(|buf| buf.map_or(0, |buf| buf.len())))
    /// }
    /// ```
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
        f.debug_struct("ConnectionContext").field("peer", self.peer()).finish_non_exhaustive()
    }
}
