//! The server: accepting, handing out, stopping.

use std::fmt;
use std::io;
#[cfg(unix)]
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::connection::{ConnectionContext, End, Open, Shared};
use super::limited::{TimeLimits, limited};
use super::limits::{Limits, Pace, Slot};
use super::listen::{ListenError, Place};
use super::stats::{Counters, WorkerStats};
use super::workers::{OnPanic, Phase, StartError, StopHandle, Worker, Workers, WorkersBuilder};
use crate::net::{Socket, SocketAddress, Stream, ToSocketAddrs};
use crate::op::{AsyncAccept, is_cancelled};
use crate::os::{self, OwnedFd};
use crate::sync::channel::{Receiver, Sender, channel};
use crate::task::{JoinError, RaceOutput, race};
use crate::time::{Instant, sleep, sleep_until, timeout};

/// How connections get to the workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Balance {
    /// Each worker listens for itself, and the kernel spreads connections by their addresses
    /// (`SO_REUSEPORT`, Linux). Nothing is shared; but it does not know who is busy.
    #[default]
    ReusePort,
    /// The first worker accepts, and gives each connection to the worker that has the fewest.
    LeastLoaded,
}

/// Chooses what a [`Server`] is like.
///
/// # Examples
/// See [`Server`].
#[must_use = "a builder does nothing until `start` is called"]
pub struct ServerBuilder {
    places: Vec<Place>,
    workers: WorkersBuilder,
    balance: Balance,
    max_connections: usize,
    max_per_peer: usize,
    accepts_per_second: Option<f64>,
    time_limits: TimeLimits,
    grace_period: Duration,
    on_accept_error: OnAcceptError,
}

/// Told of accepts that failed.
type OnAcceptError = Arc<dyn Fn(&io::Error) + Send + Sync>;

impl ServerBuilder {
    /// Listens on a TCP address; port 0 is any free one. Can be called several times.
    pub fn listen(mut self, address: impl ToSocketAddrs + fmt::Debug) -> Self {
        self.places.push(Place::tcp(address));
        self
    }

    /// Listens on a Unix socket, whose path must not exist. The file stays when the server ends.
    #[cfg(unix)]
    pub fn listen_unix(mut self, path: impl AsRef<Path>) -> Self {
        self.places.push(Place::Unix(path.as_ref().to_owned()));
        self
    }

    /// Takes over a socket that listens already, TCP or Unix, such as one of
    /// [`inherited_sockets`](super::inherited_sockets).
    pub fn listen_on(mut self, socket: impl Into<OwnedFd>) -> Self {
        self.places.push(Place::Inherited(socket.into()));
        self
    }

    /// What the workers are like. Their [`OnPanic`] is of no account: a panic in a handler ends its
    /// connection, and nothing else.
    pub fn workers(mut self, workers: WorkersBuilder) -> Self {
        self.workers = workers;
        self
    }

    /// How connections get to the workers; default [`Balance::ReusePort`].
    pub fn balance(mut self, balance: Balance) -> Self {
        self.balance = balance;
        self
    }

    /// The most connections that are served at once, at least one; default: no limit. Further ones wait
    /// in the kernel's queue, but for one per listening worker.
    pub fn max_connections(mut self, most: usize) -> Self {
        self.max_connections = most.max(1);
        self
    }

    /// The most connections from one IP address at once, at least one; default: no limit. Further ones
    /// are closed.
    pub fn max_connections_per_peer(mut self, most: usize) -> Self {
        self.max_per_peer = most.max(1);
        self
    }

    /// The most connections accepted in a second, by all workers together, with bursts of 16 per worker;
    /// default: no limit. Further ones wait in the kernel's queue.
    ///
    /// # Panics
    /// If it is not more than zero.
    pub fn accepts_per_second(mut self, most: f64) -> Self {
        assert!(most > 0.0, "a server that accepts {most} connections per second accepts none");
        self.accepts_per_second = Some(most);
        self
    }

    /// How long a connection may take in all; default: for ever. What it has in flight is cancelled
    /// then, with `TimedOut`, and its handler dropped. (A limit for a single operation is
    /// [`with_timeout`](crate::op::Op::with_timeout).)
    pub fn total_timeout(mut self, limit: Duration) -> Self {
        self.time_limits.total = Some(limit);
        self
    }

    /// How long a connection may be idle; default: for ever. It is idle while no operation of its
    /// handler ends well: no bytes move either way, nor anything else. It is cancelled then as by
    /// [`total_timeout`](Self::total_timeout), and [counted](WorkerStats::timed_out) likewise.
    ///
    /// It is looked at four times within the limit, so its end may come a quarter of that late.
    /// Operations that end with an error don't count, nor do those of tasks that the handler has
    /// spawned. A handler that only sleeps or computes, or waits for a peer that takes nothing, or for
    /// something other than an operation, is idle, too.
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
    /// assert_eq!(client.read(&mut [0; 64])?, 0); // it said nothing
    /// server.stop();
    /// assert_eq!(server.join().timed_out, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.time_limits.idle = Some(limit);
        self
    }

    /// How long connections may go on after [`stop`](Server::stop); default 10 s. Those that are still
    /// there are cancelled then.
    pub fn grace_period(mut self, period: Duration) -> Self {
        self.grace_period = period;
        self
    }

    /// Calls `report` with the error of each accept that failed for want of room, such as `EMFILE`, or of
    /// memory. The worker pauses then, for 10 ms at first and up to a second if that goes on; connections
    /// wait in the kernel's queue meanwhile. Default: they are [counted](WorkerStats::exhausted) only.
    pub fn on_accept_error(mut self, report: impl Fn(&io::Error) + Send + Sync + 'static) -> Self {
        self.on_accept_error = Arc::new(report);
        self
    }

    /// Starts the server: `state` is called once on each worker, and `handler` there with each of its
    /// connections.
    ///
    /// # Errors
    /// When it can't listen, or its workers can't start. Nothing is left behind then.
    ///
    /// # Panics
    /// If there is nothing to listen on.
    pub fn start<S, I, H, F>(self, state: I, handler: H) -> Result<Server, ServeError>
    where
        S: 'static,
        I: Fn(&Worker) -> S + Clone + Send + 'static,
        H: Fn(Stream, ConnectionContext<S>) -> F + Clone + Send + 'static,
        F: Future<Output = io::Result<()>> + 'static,
    {
        assert!(!self.places.is_empty(), "a server needs something to listen on: call `listen`");
        let count = self.workers.how_many();
        let acceptors = match self.balance {
            Balance::ReusePort => count,
            Balance::LeastLoaded => 1,
        };
        let mut addresses = Vec::new();
        let mut worker_states: Vec<WorkerState> =
            (0..count).map(|_| WorkerState::default()).collect();
        for place in self.places {
            let opened = place.open(acceptors)?;
            addresses.push(opened.address);
            for (state, socket) in worker_states.iter_mut().zip(opened.sockets) {
                state.sockets.push(socket);
            }
        }
        if self.balance == Balance::LeastLoaded {
            let mut senders = Vec::new();
            for state in &mut worker_states {
                let (sender, receiver) = channel(ON_THE_WAY);
                state.incoming = Some(receiver);
                senders.push(sender);
            }
            let load = (0..count).map(|_| AtomicUsize::new(0)).collect();
            worker_states[0].outgoing = Some(Outgoing { senders, load });
        }
        let counters: Arc<[Counters]> = (0..count).map(|_| Counters::default()).collect();
        let common = Common {
            limits: Limits::new(self.max_connections, self.max_per_peer),
            counters: counters.clone(),
            each_per_second: self.accepts_per_second.map(|all| all / acceptors as f64),
            time_limits: self.time_limits,
            grace_period: self.grace_period,
            on_accept_error: self.on_accept_error,
        };
        let worker_states = Arc::new(std::sync::Mutex::new(worker_states));
        let workers = self.workers.on_panic(OnPanic::StopAll).start(move |worker| {
            let worker_state = std::mem::take(
                &mut worker_states.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
                    [worker.index()],
            );
            let (state, handler, common) = (state.clone(), handler.clone(), common.clone());
            async move {
                let shared = Shared::new(worker.clone(), state(&worker), common.counters.clone());
                work(shared, worker_state, Rc::new(common), Rc::new(handler)).await;
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

/// Why a server can't start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// It can't listen.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Its workers can't start.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// Accepted connections on their way to a worker, at most.
const ON_THE_WAY: usize = 256;

/// An accepted connection.
struct Accepted {
    fd: OwnedFd,
    peer: SocketAddress,
    listener: usize,
    slot: Slot,
    _load: Option<Load>,
}

/// One more connection that a worker has.
struct Load(Arc<[AtomicUsize]>, usize);

impl Drop for Load {
    fn drop(&mut self) {
        self.0[self.1].fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where the first worker sends connections.
struct Outgoing {
    senders: Vec<Sender<Accepted>>,
    load: Arc<[AtomicUsize]>,
}

impl Outgoing {
    fn least_loaded(&self) -> usize {
        let load = |&index: &usize| self.load[index].load(Ordering::Relaxed);
        (0..self.load.len()).min_by_key(load).unwrap_or(0)
    }
}

/// A worker's part of the server.
#[derive(Default)]
struct WorkerState {
    sockets: Vec<Socket>,
    outgoing: Option<Outgoing>,
    incoming: Option<Receiver<Accepted>>,
}

#[derive(Clone)]
struct Common {
    limits: Arc<Limits>,
    counters: Arc<[Counters]>,
    each_per_second: Option<f64>,
    time_limits: TimeLimits,
    grace_period: Duration,
    on_accept_error: OnAcceptError,
}

/// A worker's program.
async fn work<S, H, F>(
    shared: Rc<Shared<S>>,
    state: WorkerState,
    common: Rc<Common>,
    handler: Rc<H>,
) where
    S: 'static,
    H: Fn(Stream, ConnectionContext<S>) -> F + 'static,
    F: Future<Output = io::Result<()>> + 'static,
{
    let phases = crate::spawn(follow_phases(shared.clone(), common.grace_period));
    let outgoing = state.outgoing.map(Rc::new);
    let mut acceptors = Vec::new();
    for (index, socket) in state.sockets.into_iter().enumerate() {
        let (shared, common) = (shared.clone(), common.clone());
        let (handler, outgoing) = (handler.clone(), outgoing.clone());
        acceptors.push(crate::spawn(async move {
            let listener = Listener { socket, index, shared: &shared, common: &common };
            listener.accept_all(&handler, outgoing.as_deref()).await;
        }));
    }
    // The acceptors alone have it: when they are gone, the others' channels end.
    drop(outgoing);
    if let Some(mut incoming) = state.incoming {
        while let Some(accepted) = incoming.recv().await {
            serve(&shared, &common, &handler, accepted);
        }
    }
    for acceptor in acceptors {
        // It has no panic of its own but for a broken promise of ours.
        if let Err(error) = acceptor.await {
            error.resume_panic();
        }
    }
    shared.emptied().await;
    phases.cancel();
}

/// Takes this worker through the phases of a stop.
async fn follow_phases<S>(shared: Rc<Shared<S>>, grace_period: Duration) {
    shared.worker.stopping().await;
    shared.phase.set(Phase::Stopping);
    // What can finish does, until the end of poll_budget or the second signal.
    let mut phase = shared.worker.phase();
    let forced = phase.wait_for(|&phase| phase == Phase::Forced);
    let _ = timeout(grace_period, forced).await;
    shared.phase.set(Phase::Forced);
    shared.cancel_all();
}

/// One listening socket of one worker.
struct Listener<'a, S> {
    socket: Socket,
    index: usize,
    shared: &'a Rc<Shared<S>>,
    common: &'a Rc<Common>,
}

/// The shortest and the longest pause after an accept that found no room.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

impl<S: 'static> Listener<'_, S> {
    /// Until the server stops; then those that are in the kernel's queue already, whose peers believe to
    /// be connected.
    async fn accept_all<H, F>(&self, handler: &Rc<H>, outgoing: Option<&Outgoing>)
    where
        H: Fn(Stream, ConnectionContext<S>) -> F + 'static,
        F: Future<Output = io::Result<()>> + 'static,
    {
        let phase = &self.shared.phase;
        let mut pace = self.common.each_per_second.map(Pace::new);
        let mut pause = PAUSE.0;
        while phase.get() == Phase::Running {
            if let Some(due) = pace.as_mut().and_then(|pace| pace.next(Instant::now())) {
                race(sleep_until(due), phase.reached(Phase::Stopping)).await;
            }
            // An accept that came too late to stop is one all the same.
            let accepted = match race(self.accept(), phase.reached(Phase::Stopping)).await {
                RaceOutput::First(accepted, _) | RaceOutput::Second(Some(accepted), ()) => accepted,
                RaceOutput::Second(None, ()) => break,
            };
            match accepted {
                Ok((fd, peer)) => {
                    pause = PAUSE.0;
                    self.take(fd, peer, handler, outgoing).await;
                }
                Err(error) if is_cancelled(&error) => {}
                Err(error) => {
                    if !is_gone(&error) {
                        self.shared.count().exhausted.add();
                        (self.common.on_accept_error)(&error);
                        race(sleep(pause), phase.reached(Phase::Stopping)).await;
                        pause = (pause * 2).min(PAUSE.1);
                    }
                }
            }
        }
        // Those of the queue; a server that is forced to stop has no time for them.
        while phase.get() < Phase::Forced {
            match self.accept().with_timeout(Duration::ZERO).await {
                Ok((fd, peer)) => self.take(fd, peer, handler, outgoing).await,
                Err(error) if is_gone(&error) => {}
                Err(_) => return,
            }
        }
    }

    fn accept(&self) -> AsyncAccept<'_> {
        AsyncAccept::new(&self.socket)
    }

    /// What becomes of an accepted connection.
    async fn take<H, F>(
        &self,
        fd: OwnedFd,
        peer: SocketAddress,
        handler: &Rc<H>,
        outgoing: Option<&Outgoing>,
    ) where
        H: Fn(Stream, ConnectionContext<S>) -> F + 'static,
        F: Future<Output = io::Result<()>> + 'static,
    {
        self.shared.count().accepted.add();
        // Waits for room. A forced stop does not wait for it.
        let entered = race(self.common.limits.enter(), self.shared.phase.reached(Phase::Forced));
        let (RaceOutput::First(mut slot, _) | RaceOutput::Second(Some(mut slot), ())) =
            entered.await
        else {
            return self.shared.count().refused.add();
        };
        if !slot.admit(&peer) {
            return self.shared.count().refused.add();
        }
        let mut accepted = Accepted { fd, peer, listener: self.index, slot, _load: None };
        let Some(outgoing) = outgoing else {
            return serve(self.shared, self.common, handler, accepted);
        };
        let worker = outgoing.least_loaded();
        outgoing.load[worker].fetch_add(1, Ordering::Relaxed);
        accepted._load = Some(Load(outgoing.load.clone(), worker));
        if outgoing.senders[worker].send(accepted).await.is_err() {
            self.shared.count().refused.add();
        }
    }
}

/// Whether an accept failed because of its connection, which is gone, and not of the listener.
/// `accept(2)` lists what the network's pending errors can be.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
    ) || error.raw_os_error() == Some(os::EPROTO)
}

/// Starts a connection's task.
fn serve<S, H, F>(shared: &Rc<Shared<S>>, common: &Common, handler: &Rc<H>, accepted: Accepted)
where
    S: 'static,
    H: Fn(Stream, ConnectionContext<S>) -> F + 'static,
    F: Future<Output = io::Result<()>> + 'static,
{
    let Accepted { fd, peer, listener, slot, _load } = accepted;
    let (handler, limits) = (handler.clone(), common.time_limits);
    shared.start(slot, move |open: Open<S>| async move {
        let _load = _load;
        let ctx = ConnectionContext { shared: open.shared.clone(), peer, listener };
        let handled = handler(Stream::accepted(fd), ctx);
        if !limits.are_set() {
            return open.end(if handled.await.is_ok() { End::Finished } else { End::Failed });
        }
        let ended = limited(limits, handled).await;
        open.end(match ended.output {
            Some(Ok(())) => End::Finished,
            Some(Err(_)) if !ended.expired => End::Failed,
            // The error is what the limit has made of its operations.
            _ => End::TimedOut,
        });
    });
}

/// Serves connections on workers: you write what is done with one of them.
///
/// Dropping it stops it, as [`stop`](Self::stop) does, and waits for that.
///
/// # Stopping
/// 1. New connections are refused: no worker accepts any more, and the sockets are closed. Those that
///    the kernel had accepted by then are served.
/// 2. Handlers are told ([`ConnectionContext::stopping`]), and what can finish does.
/// 3. What is left after the [grace period](ServerBuilder::grace_period), or when
///    [`abort`](Self::abort) is called, is cancelled.
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
///             let mut chunks = stream.recv_stream();
///             while let Some(chunk) = chunks.recv().await? {
///                 stream.send_all(chunk).await.0?;
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
    workers: Workers<()>,
    addresses: Vec<SocketAddress>,
    counters: Arc<[Counters]>,
}

impl Server {
    /// A server to be configured.
    pub fn builder() -> ServerBuilder {
        ServerBuilder {
            places: Vec::new(),
            workers: Workers::builder(),
            balance: Balance::default(),
            max_connections: usize::MAX,
            max_per_peer: usize::MAX,
            accepts_per_second: None,
            time_limits: TimeLimits::default(),
            grace_period: Duration::from_secs(10),
            on_accept_error: Arc::new(|_| {}),
        }
    }

    /// Where it listens, in the order in which that was asked for.
    pub fn addresses(&self) -> &[SocketAddress] {
        &self.addresses
    }

    /// What each worker has done so far.
    pub fn stats(&self) -> Vec<WorkerStats> {
        self.counters.iter().map(Counters::snapshot).collect()
    }

    /// What all of them have.
    pub fn totals(&self) -> WorkerStats {
        self.stats().into_iter().sum()
    }

    /// Asks it to stop; see [Stopping](#stopping).
    pub fn stop(&self) {
        self.workers.stop();
    }

    /// Asks it to stop now: what is being done is cancelled.
    pub fn abort(&self) {
        self.workers.abort();
    }

    /// A way to stop it from elsewhere.
    pub fn stopper(&self) -> StopHandle {
        self.workers.stopper()
    }

    /// Waits until it has stopped, which it does not by itself; gives what it has done.
    ///
    /// # Panics
    /// With the panic of a worker, if one panicked outside of a handler, such as when its state was
    /// made. The others have stopped then.
    pub fn join(self) -> WorkerStats {
        for result in self.workers.join() {
            result.unwrap_or_else(|error: JoinError| error.resume_panic());
        }
        self.counters.iter().map(Counters::snapshot).sum()
    }
}
