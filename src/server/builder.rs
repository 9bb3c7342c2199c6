//! Configuring and starting a server.

use std::fmt;
use std::io;
#[cfg(unix)]
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::accept::{HANDOFF_CAPACITY, Outgoing, WorkerState, run_worker};
use super::connection::ConnectionContext;
use super::limited::TimeLimits;
use super::limits::Limits;
use super::listen::{Endpoint, ListenError};
use super::serve::Server;
use super::stats::Counters;
#[cfg(doc)]
use super::stats::WorkerStats;
use super::worker_server::{OnAcceptError, OnError, ServerConfig, WorkerServer};
use super::workers::{OnPanic, StartError, Worker, Workers, WorkersBuilder};
use crate::driver::seams::fd_limit;
use crate::error::debug_as_display;
use crate::net::{SocketAddress, Stream, ToSocketAddrs};
use crate::os::OwnedFd;
use crate::os::lock::lock;
use crate::sync::mpsc::channel;

/// How connections are distributed over the workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Balance {
    /// Each worker has a listening socket of its own, and the kernel distributes connections by a
    /// hash of their addresses (`SO_REUSEPORT`, Linux; elsewhere, and on Unix sockets and inherited
    /// ones, the workers share one socket). That is even for many connections, and not for few. So
    /// a worker hands a new connection over if it has more than the worker that has the fewest, by
    /// more than a quarter of what that one has.
    #[default]
    ReusePort,
    /// The first worker accepts, and hands each connection to the worker that has the fewest.
    LeastLoaded,
}

/// Configures a [`Server`].
///
/// In every option `Duration::MAX`, as any time of a hundred years or more, means "never".
///
/// # Examples
/// See [`Server`].
#[must_use = "a builder does nothing until `start` is called"]
pub struct ServerBuilder {
    endpoints: Vec<Endpoint>,
    workers: WorkersBuilder,
    balance: Balance,
    max_connections: usize,
    raise_fd_limit: bool,
    max_per_peer: usize,
    accepts_per_second: Option<f64>,
    time_limits: TimeLimits,
    grace_period: Option<Duration>,
    on_accept_error: Box<OnAcceptError>,
    on_error: Option<Box<OnError>>,
}

/// Times from here on mean "never": a hundred years.
const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

fn unless_never(limit: Duration) -> Option<Duration> {
    (limit < NEVER).then_some(limit)
}

impl Server {
    /// Returns a builder with the defaults.
    ///
    /// # Examples
    /// See [`Server`].
    pub fn builder() -> ServerBuilder {
        ServerBuilder::new()
    }
}

impl ServerBuilder {
    pub(super) fn new() -> Self {
        ServerBuilder {
            endpoints: Vec::new(),
            workers: Workers::builder(),
            balance: Balance::default(),
            max_connections: usize::MAX,
            raise_fd_limit: false,
            max_per_peer: usize::MAX,
            accepts_per_second: None,
            time_limits: TimeLimits::default(),
            grace_period: Some(Duration::from_secs(10)),
            on_accept_error: Box::new(|_| {}),
            on_error: None,
        }
    }

    /// Listens on a TCP address; port 0 takes any free port. Can be called several times.
    ///
    /// A port on which another socket listens already is refused with `AddrInUse` by
    /// [`start`](Self::start), also if that socket has `SO_REUSEPORT`: a second instance of a
    /// program does not take connections from the first. To let a new process take over, hand it
    /// the listening sockets ([`listen_on`](Self::listen_on)).
    pub fn listen(mut self, address: impl ToSocketAddrs + fmt::Debug) -> Self {
        self.endpoints.push(Endpoint::tcp(address));
        self
    }

    /// Listens on a Unix socket. Its path must not exist; the file remains when the server ends.
    #[cfg(unix)]
    pub fn listen_unix(mut self, path: impl AsRef<Path>) -> Self {
        self.endpoints.push(Endpoint::Unix(path.as_ref().to_owned()));
        self
    }

    /// Accepts from a socket that listens already, TCP or Unix, such as one of
    /// [`inherited_sockets`](super::inherited_sockets).
    pub fn listen_on(mut self, socket: impl Into<OwnedFd>) -> Self {
        self.endpoints.push(Endpoint::Inherited(socket.into()));
        self
    }

    /// Configures the workers. Their [`OnPanic`] is ignored: a panic in a handler ends its
    /// connection, and nothing else.
    #[doc(alias = "worker_threads")]
    pub fn workers(mut self, workers: WorkersBuilder) -> Self {
        self.workers = workers;
        self
    }

    /// Sets how connections are distributed over the workers; default [`Balance::ReusePort`].
    pub fn balance(mut self, balance: Balance) -> Self {
        self.balance = balance;
        self
    }

    /// Limits how many connections are served at once, at least one; default: no limit. Further
    /// connections wait in the kernel's queue, except one per worker that accepts.
    pub fn max_connections(mut self, most: usize) -> Self {
        self.max_connections = most.max(1);
        self
    }

    /// Sets whether [`start`](Self::start) raises the process's soft limit on open files to its
    /// hard limit (`RLIMIT_NOFILE`, see `getrlimit(2)`); default `false`. A common soft limit is
    /// 1024.
    ///
    /// It is off by default since child processes inherit the limit, and programs that use
    /// `select(2)` break with fds above 1023. If the limit cannot be raised, it stays as it is.
    /// Without effect on Windows.
    ///
    /// # Examples
    /// ```
    /// use corio::server::Server;
    /// let server = Server::builder()
    ///     .listen("127.0.0.1:0")
    ///     .raise_fd_limit(true)
    ///     .start(|_| (), |_stream, _| async { Ok(()) })?;
    /// server.stop();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "RLIMIT_NOFILE")]
    pub fn raise_fd_limit(mut self, raise: bool) -> Self {
        self.raise_fd_limit = raise;
        self
    }

    /// Limits how many connections of one IP address are served at once, at least one; default: no
    /// limit. Further connections are closed.
    pub fn max_connections_per_peer(mut self, most: usize) -> Self {
        self.max_per_peer = most.max(1);
        self
    }

    /// Limits how many connections all workers together accept per second, with bursts of 16 per
    /// worker; default: no limit. Further connections wait in the kernel's queue.
    ///
    /// # Panics
    /// If `most` is not greater than zero.
    pub fn accepts_per_second(mut self, most: f64) -> Self {
        assert!(most > 0.0, "accepts_per_second({most}): the limit must be greater than zero");
        self.accepts_per_second = Some(most);
        self
    }

    /// Limits how long a connection may last; default: no limit. When the time is over, its
    /// operations in flight are cancelled with `ETIMEDOUT`, and its handler is dropped. (A limit
    /// for a single operation is [`with_timeout`](crate::op::Op::with_timeout).)
    pub fn total_timeout(mut self, limit: Duration) -> Self {
        self.time_limits.total = unless_never(limit);
        self
    }

    /// Limits how long a connection may be idle; default: no limit. A connection is idle while none
    /// of its handler's operations succeeds: no bytes move in either direction, and nothing else
    /// completes. It is ended then as by [`total_timeout`](Self::total_timeout), and
    /// [counted](WorkerStats::timed_out) likewise.
    ///
    /// Checked four times per limit, so it can fire up to 25 % late. Operations that end with an
    /// error do not count, nor do those of tasks that the handler has spawned. A handler that only
    /// sleeps or computes, waits for a peer that reads nothing, or waits for something other than
    /// an operation, is idle, too.
    ///
    /// # Examples
    /// ```
    /// use std::io::Read;
    /// use std::time::Duration;
    /// use corio::server::Server;
    /// let server = Server::builder()
    ///     .listen("127.0.0.1:0")
    ///     .idle_timeout(Duration::from_millis(20))
    ///     .start(|_| (), |stream, _| async move {
    ///         let (result, _buf) = stream.recv([0; 64]).await;
    ///         result.map(drop)
    ///     })?;
    /// let mut client = std::net::TcpStream::connect(server.addresses()[0].as_inet().unwrap())?;
    /// assert_eq!(client.read(&mut [0; 64])?, 0); // it sent nothing
    /// server.stop();
    /// assert_eq!(server.join().timed_out, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.time_limits.idle = unless_never(limit);
        self
    }

    /// Sets how long connections may go on after [`stop`](Server::stop); default 10 s. Connections
    /// that are still open then are cancelled.
    #[doc(alias = "shutdown_timeout")]
    pub fn grace_period(mut self, period: Duration) -> Self {
        self.grace_period = unless_never(period);
        self
    }

    /// Calls `report` with the peer and the error of each connection whose handler returned an
    /// error, on the worker's thread; so it must not block. These are the connections that are
    /// [counted as failed](WorkerStats::failed): not those that a time limit ended, nor those that
    /// were cancelled when the server stopped. Default: they are counted only.
    ///
    /// # Examples
    /// ```
    /// use std::io;
    /// use corio::server::Server;
    /// let (sender, errors) = std::sync::mpsc::channel();
    /// let server = Server::builder()
    ///     .listen("127.0.0.1:0")
    ///     .on_error(move |peer, error| sender.send(format!("{peer}: {error}")).unwrap())
    ///     .start(|_| (), |_stream, _| async { Err(io::Error::other("no such key")) })?;
    /// let client = std::net::TcpStream::connect(server.addresses()[0].as_inet().unwrap())?;
    /// assert_eq!(errors.recv()?, format!("{}: no such key", client.local_addr()?));
    /// # server.stop();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_error(
        mut self,
        report: impl Fn(&SocketAddress, &io::Error) + Send + Sync + 'static,
    ) -> Self {
        self.on_error = Some(Box::new(report));
        self
    }

    /// Calls `report` with the error of each accept that failed for lack of resources, such as
    /// `EMFILE` or `ENOMEM`. The worker then pauses, for 10 ms at first and up to 1 s if that goes
    /// on; connections wait in the kernel's queue meanwhile. Default: these errors are
    /// [counted](WorkerStats::exhausted) only.
    pub fn on_accept_error(mut self, report: impl Fn(&io::Error) + Send + Sync + 'static) -> Self {
        self.on_accept_error = Box::new(report);
        self
    }

    /// Starts the server: calls `state` once on each worker, and `handler` there with each
    /// connection of that worker. What becomes of an error that a handler returns: see
    /// [`on_error`](Self::on_error).
    ///
    /// # Errors
    /// If the server cannot listen, or its workers cannot start. Nothing is left behind then.
    ///
    /// # Panics
    /// If no listener was added.
    ///
    /// # Examples
    /// See [`Server`].
    pub fn start<S, I, H, F>(self, state: I, handler: H) -> Result<Server, ServeError>
    where
        S: 'static,
        I: Fn(&Worker) -> S + Clone + Send + 'static,
        H: Fn(Stream, ConnectionContext<S>) -> F + Clone + Send + 'static,
        F: Future<Output = io::Result<()>> + 'static,
    {
        assert!(
            !self.endpoints.is_empty(),
            "a server without a listener: call `ServerBuilder::listen`"
        );
        if self.raise_fd_limit {
            fd_limit::raise();
        }
        let count = self.workers.how_many();
        let acceptors = match self.balance {
            Balance::ReusePort => count,
            Balance::LeastLoaded => 1,
        };
        let mut addresses = Vec::new();
        let mut worker_states: Vec<WorkerState> =
            (0..count).map(|_| WorkerState::default()).collect();
        for endpoint in self.endpoints {
            let opened = endpoint.open(acceptors)?;
            addresses.push(opened.address);
            for (state, socket) in worker_states.iter_mut().zip(opened.sockets) {
                state.sockets.push(socket);
            }
        }
        if count > 1 {
            let (senders, receivers): (Vec<_>, Vec<_>) =
                (0..count).map(|_| channel(HANDOFF_CAPACITY)).unzip();
            let load = Arc::new((0..count).map(|_| AtomicUsize::new(0)).collect::<Vec<_>>());
            for ((own, state), receiver) in worker_states.iter_mut().enumerate().zip(receivers) {
                state.incoming = Some(receiver);
                if own < acceptors {
                    let (senders, load) = (senders.clone(), load.clone());
                    state.outgoing = Some(Outgoing { senders, load, own, balance: self.balance });
                }
            }
        }
        let counters: Arc<[Counters]> = (0..count).map(|_| Counters::default()).collect();
        let config = Arc::new(ServerConfig {
            limits: Limits::new(self.max_connections, self.max_per_peer),
            counters: counters.clone(),
            accepts_per_second: self.accepts_per_second.map(|all| all / acceptors as f64),
            time_limits: self.time_limits,
            grace_period: self.grace_period,
            on_accept_error: self.on_accept_error,
            on_error: self.on_error,
        });
        let worker_states = Arc::new(Mutex::new(worker_states));
        let workers = self.workers.on_panic(OnPanic::StopAll).start(move |worker| {
            let worker_state = std::mem::take(&mut lock(&worker_states)[worker.index()]);
            let (state, handler, config) = (state.clone(), handler.clone(), config.clone());
            async move {
                let state = state(&worker);
                let server = WorkerServer::new(config, worker, state);
                run_worker(server, worker_state, Rc::new(handler)).await;
            }
        })?;
        Ok(Server { workers, addresses, counters })
    }
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder").field("workers", &self.workers).finish_non_exhaustive()
    }
}

/// Why a server could not start.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The server cannot listen on one of its addresses.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The server's workers cannot start.
    #[error(transparent)]
    Start(#[from] StartError),
}

debug_as_display!(ServeError);
