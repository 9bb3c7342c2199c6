//! A running server.

use std::sync::Arc;

#[cfg(doc)]
use super::builder::ServerBuilder;
#[cfg(doc)]
use super::connection::ConnectionContext;
use super::stats::{Counters, WorkerStats};
use super::workers::{StopHandle, Workers};
use crate::net::SocketAddress;
use crate::task::JoinError;

/// A server on all cores: runs a handler for each connection, on one [worker](Workers) per
/// processor.
///
/// Dropping it stops it, as [`stop`](Self::stop) does, and waits until it has stopped.
///
/// # Stopping
/// 1. Workers stop accepting, and close their listening sockets. Connections that the kernel had
///    accepted by then are served.
/// 2. Handlers see it by [`ConnectionContext::stopping`], and may finish what they do.
/// 3. After the [grace period](ServerBuilder::grace_period), or when [`abort`](Self::abort) is
///    called, open connections are cancelled.
/// 4. A server without connections stops at once.
///
/// # Examples
/// ```
/// use corio::server::{Server, Workers};
/// let server = Server::builder()
///     .listen("127.0.0.1:0")
///     .workers(Workers::builder().count(2))
///     .max_connections(10_000)
///     .start(
///         |_worker| (), // no state
///         |stream, _ctx| async move {
///             let mut incoming = stream.recv_stream();
///             while let Some(buf) = incoming.recv().await? {
///                 stream.send_all(buf).await.0?;
///             }
///             Ok(())
///         },
///     )?;
///
/// use std::io::{Read, Write};
/// let mut client = std::net::TcpStream::connect(server.addresses()[0].as_inet().unwrap())?;
/// client.write_all(b"hello")?;
/// client.read_exact(&mut [0; 5])?;
/// drop(client);
/// server.stop();
/// let totals = server.join();
/// assert_eq!(totals.finished, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropping this stops the server"]
#[derive(Debug)]
pub struct Server {
    pub(super) workers: Workers<()>,
    pub(super) addresses: Vec<SocketAddress>,
    pub(super) counters: Arc<[Counters]>,
}

impl Server {
    /// Returns the addresses on which it listens, in the order in which listeners were added.
    #[doc(alias = "local_addr")]
    pub fn addresses(&self) -> &[SocketAddress] {
        &self.addresses
    }

    /// Returns the counters of each worker, by number.
    pub fn stats(&self) -> Vec<WorkerStats> {
        self.counters.iter().map(Counters::snapshot).collect()
    }

    /// Returns the sum of all workers' counters.
    pub fn totals(&self) -> WorkerStats {
        self.stats().into_iter().sum()
    }

    /// Starts a graceful stop, and returns at once; see [Stopping](#stopping).
    #[doc(alias = "shutdown")]
    pub fn stop(&self) {
        self.workers.stop();
    }

    /// Cancels all connections, and stops without a grace period; returns at once.
    pub fn abort(&self) {
        self.workers.abort();
    }

    /// Returns a handle that stops the server from anywhere.
    pub fn stopper(&self) -> StopHandle {
        self.workers.stopper()
    }

    /// Waits until [`stop`](Self::stop) or [`abort`](Self::abort) was called and the server has
    /// stopped; returns the sum of all counters.
    ///
    /// # Panics
    /// With the panic of a worker, if one panicked outside of a handler, such as when it made its
    /// state. The other workers have stopped then.
    pub fn join(self) -> WorkerStats {
        for result in self.workers.join() {
            result.unwrap_or_else(|error: JoinError| error.resume_panic());
        }
        self.counters.iter().map(Counters::snapshot).sum()
    }
}
