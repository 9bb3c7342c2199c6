//! Accepting connections, and handing them to workers and handlers.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::builder::Balance;
use super::connection::ConnectionContext;
use super::limited::{Ended, limited};
use super::limits::{AcceptPace, ConnectionPermit};
use super::serving::Serving;
use super::worker_server::{End, OpenConnection, WorkerServer};
use super::workers::Phase;
use crate::net::{Socket, SocketAddress, Stream};
use crate::op::{AsyncAccept, is_cancelled};
use crate::os::{self, OwnedFd};
use crate::sync::mpsc::{Receiver, Sender};
use crate::task::{RaceOutput, race};
use crate::time::{Instant, sleep, sleep_until, timeout};

/// How many accepted connections can wait for their worker to take them.
pub(super) const HANDOFF_CAPACITY: usize = 256;

/// An accepted connection.
pub(super) struct Accepted {
    fd: OwnedFd,
    /// Other code may have set options of the listener, which the connection has inherited.
    exposed: bool,
    peer: SocketAddress,
    listener: usize,
    permit: ConnectionPermit,
    _load: Option<Load>,
}

/// Counts one connection of a worker until dropped.
pub(super) struct Load {
    /// Of all workers, by number; a vector, so that this is one word.
    all: Arc<Vec<AtomicUsize>>,
    worker: u32,
}

impl Drop for Load {
    fn drop(&mut self) {
        self.all[self.worker as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

/// How a worker hands connections that it has accepted to all workers, by number.
pub(super) struct Outgoing {
    pub(super) senders: Vec<Sender<Accepted>>,
    /// How many connections each worker has.
    pub(super) load: Arc<Vec<AtomicUsize>>,
    /// The number of the worker that accepts.
    pub(super) own: usize,
    pub(super) balance: Balance,
}

impl Outgoing {
    /// Returns the number of the worker that is to serve the next connection.
    fn choose(&self) -> usize {
        let load = |index: usize| self.load[index].load(Ordering::Relaxed);
        let workers = self.load.len();
        // The search starts at the own worker, so that it is chosen if none has fewer, and several
        // workers that search at the same time choose different ones.
        let nearest = (self.own..workers).chain(0..self.own);
        let least = nearest.min_by_key(|&index| load(index)).unwrap_or(self.own);
        match self.balance {
            Balance::LeastLoaded => least,
            Balance::ReusePort => {
                let (own, fewest) = (load(self.own), load(least));
                if own > fewest + fewest / TOLERANCE { least } else { self.own }
            }
        }
    }

    /// Counts one more connection of a worker.
    fn count(&self, worker: usize) -> Load {
        self.load[worker].fetch_add(1, Ordering::Relaxed);
        Load { all: self.load.clone(), worker: worker as u32 }
    }
}

/// With [`Balance::ReusePort`], a worker keeps what it accepts unless it has more connections than
/// another one by a part of this many. Of fewer than this many it may have none more: the kernel's
/// distribution is even for many connections only.
const TOLERANCE: usize = 4;

/// What a worker of the server starts with.
#[derive(Default)]
pub(super) struct WorkerState {
    /// Its listening sockets.
    pub(super) sockets: Vec<Socket>,
    /// Of each worker that accepts, if there are several workers.
    pub(super) outgoing: Option<Outgoing>,
    /// Connections that another worker has accepted for this one.
    pub(super) incoming: Option<Receiver<Accepted>>,
}

/// Runs the server on one worker, until it has stopped.
pub(super) async fn run_worker<S, H, F>(
    server: Rc<WorkerServer<S>>,
    worker_state: WorkerState,
    handler: Rc<H>,
) where
    S: 'static,
    H: Fn(Stream, ConnectionContext<S>) -> F + 'static,
    F: Future<Output = io::Result<()>> + 'static,
{
    let phases = crate::spawn(follow_phases(server.clone()));
    let outgoing = worker_state.outgoing.map(Rc::new);
    let mut acceptors = Vec::new();
    for (index, socket) in worker_state.sockets.into_iter().enumerate() {
        let (server, handler, outgoing) = (server.clone(), handler.clone(), outgoing.clone());
        acceptors.push(crate::spawn(async move {
            let listener = Listener { socket, index, server: &server };
            listener.accept_all(&handler, outgoing.as_deref()).await;
        }));
    }
    // Only the acceptors keep it: when those of all workers have ended, all channels close.
    drop(outgoing);
    let receiver = worker_state.incoming.map(|mut incoming| {
        let server = server.clone();
        crate::spawn(async move {
            while let Some(accepted) = incoming.recv().await {
                serve(&server, &handler, accepted);
            }
        })
    });
    for acceptor in acceptors {
        // A panic in an acceptor is one of `on_accept_error`, or a bug of this crate.
        if let Err(error) = acceptor.await {
            error.resume_panic();
        }
    }
    if let Some(receiver) = receiver {
        // It does not panic: a handler runs in a task of its own.
        let _ = receiver.await;
    }
    server.connections_ended().await;
    phases.cancel();
}

/// Takes this worker through the phases of a stop.
async fn follow_phases<S>(server: Rc<WorkerServer<S>>) {
    server.worker.stopping().await;
    server.phase.set(Phase::Stopping);
    server.wake_all();
    // Connections have until the end of the grace period, or until `abort`, to finish.
    let mut phase = server.worker.phase();
    let aborted = phase.wait_for(|&phase| phase == Phase::Forced);
    match server.config.grace_period {
        Some(period) => drop(timeout(period, aborted).await),
        None => drop(aborted.await),
    }
    server.phase.set(Phase::Forced);
    server.cancel_all();
}

/// One listening socket of one worker.
struct Listener<'a, S> {
    socket: Socket,
    index: usize,
    server: &'a Rc<WorkerServer<S>>,
}

/// The shortest and the longest pause after an accept that failed for lack of resources.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

impl<S: 'static> Listener<'_, S> {
    /// Accepts until the server stops; then accepts the connections that are in the kernel's queue
    /// already, as their peers are connected.
    async fn accept_all<H, F>(&self, handler: &Rc<H>, outgoing: Option<&Outgoing>)
    where
        H: Fn(Stream, ConnectionContext<S>) -> F + 'static,
        F: Future<Output = io::Result<()>> + 'static,
    {
        let (config, phase) = (&*self.server.config, &self.server.phase);
        let mut pace = config.accepts_per_second.map(AcceptPace::new);
        let mut pause = PAUSE.0;
        while phase.get() == Phase::Running {
            if let Some(due) = pace.as_mut().and_then(|pace| pace.wait_until(Instant::now())) {
                race(sleep_until(due), phase.reached(Phase::Stopping)).await;
            }
            // An accept that succeeded while it was cancelled counts.
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
                        self.server.counters().exhausted.add();
                        (config.on_accept_error)(&error);
                        race(sleep(pause), phase.reached(Phase::Stopping)).await;
                        pause = (pause * 2).min(PAUSE.1);
                    }
                }
            }
        }
        // The kernel's queue, unless the server is aborted.
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

    /// Serves an accepted connection, hands it to another worker, or refuses it.
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
        self.server.counters().accepted.add();
        // Waits for room, unless the server is aborted.
        let (limits, phase) = (&self.server.config.limits, &self.server.phase);
        let entered = race(limits.enter(), phase.reached(Phase::Forced));
        let (RaceOutput::First(mut permit, _) | RaceOutput::Second(Some(mut permit), ())) =
            entered.await
        else {
            return self.refuse(fd);
        };
        if !permit.admit(&peer) {
            return self.refuse(fd);
        }
        let exposed = self.socket.is_exposed();
        let mut accepted =
            Accepted { fd, exposed, peer, listener: self.index, permit, _load: None };
        let Some(outgoing) = outgoing else {
            return serve(self.server, handler, accepted);
        };
        let worker = outgoing.choose();
        accepted._load = Some(outgoing.count(worker));
        if worker != outgoing.own {
            match outgoing.senders[worker].try_send(accepted) {
                Ok(()) => return,
                // It takes no more at the moment, or has ended.
                Err(refused) => accepted = refused.into_inner(),
            }
            accepted._load = Some(outgoing.count(outgoing.own));
        }
        serve(self.server, handler, accepted);
    }

    /// Closes an accepted connection.
    fn refuse(&self, fd: OwnedFd) {
        drop(Stream::accepted(fd, self.socket.is_exposed()));
        self.server.counters().refused.add();
    }
}

/// Returns `true` if an accept failed because of its connection, which is gone, and not because of
/// the listener. `accept(2)` lists the errors of the network that it may report.
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
fn serve<S, H, F>(server: &Rc<WorkerServer<S>>, handler: &Rc<H>, accepted: Accepted)
where
    S: 'static,
    H: Fn(Stream, ConnectionContext<S>) -> F + 'static,
    F: Future<Output = io::Result<()>> + 'static,
{
    let Accepted { fd, exposed, peer, listener, permit, _load: load } = accepted;
    let (handler, limits) = (handler.clone(), server.config.time_limits);
    let on_error = &server.config.on_error;
    let reported = on_error.is_some().then(|| Box::new(peer.clone()));
    let ctx = ConnectionContext::new(server.clone(), peer, listener);
    let handle = move || handler(Stream::accepted(fd, exposed), ctx);
    // Two types of tasks, so that a connection without limits has no room for their timers.
    if limits.are_set() {
        let begin = move || limited(limits, handle());
        server.start(permit, reported, |open| Serving::new(open, load, begin, end_limited));
    } else {
        server.start(permit, reported, |open| Serving::new(open, load, handle, end));
    }
}

/// Notes how a handler has ended.
fn end<S>(open: &OpenConnection<S>, result: io::Result<()>) {
    match result {
        Ok(()) => open.set_end(End::Finished),
        Err(error) => open.fail(&error),
    }
}

/// Notes how a handler under time limits has ended.
fn end_limited<S>(open: &OpenConnection<S>, ended: Ended<io::Result<()>>) {
    match ended.output {
        // The error is what the limit has made of the handler's operations.
        Some(Err(_)) if ended.expired => open.set_end(End::TimedOut),
        Some(result) => end(open, result),
        None => open.set_end(End::TimedOut),
    }
}
