//! The server as one of its workers runs it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::limited::TimeLimits;
use super::limits::{ConnectionPermit, Limits};
use super::stats::Counters;
use super::workers::{Phase, Worker};
use crate::net::SocketAddress;
use crate::runtime::poll_budget::consume_budget;
use crate::sync::local::Notify;
use crate::task::JoinHandle;

/// Called with the error of an accept that failed.
pub(super) type OnAcceptError = dyn Fn(&io::Error) + Send + Sync;
/// Called with the peer of a connection and the error of its handler.
pub(super) type OnError = dyn Fn(&SocketAddress, &io::Error) + Send + Sync;

/// What all workers of a server share: its options, limits and counters.
pub(super) struct ServerConfig {
    pub(super) limits: Arc<Limits>,
    pub(super) counters: Arc<[Counters]>,
    /// Accepts per second of each worker that accepts; `None`: no limit.
    pub(super) accepts_per_second: Option<f64>,
    pub(super) time_limits: TimeLimits,
    /// `None`: for ever.
    pub(super) grace_period: Option<Duration>,
    pub(super) on_accept_error: Box<OnAcceptError>,
    pub(super) on_error: Option<Box<OnError>>,
}

/// A table with room for no more than this many connections stays as it is.
const LARGE: usize = 1024;

/// The server as one worker runs it: the worker's state, phase and open connections.
pub(super) struct WorkerServer<S> {
    pub(super) config: Arc<ServerConfig>,
    pub(super) worker: Worker,
    pub(super) state: S,
    pub(super) phase: LocalPhase,
    /// The tasks of open connections, so that they can be cancelled.
    tasks: RefCell<HashMap<u64, JoinHandle<()>>>,
    next_id: Cell<u64>,
}

impl<S> WorkerServer<S> {
    pub(super) fn new(config: Arc<ServerConfig>, worker: Worker, state: S) -> Rc<Self> {
        Rc::new(WorkerServer {
            config,
            worker,
            state,
            phase: LocalPhase::default(),
            tasks: RefCell::default(),
            next_id: Cell::new(0),
        })
    }

    /// Returns this worker's counters.
    pub(super) fn counters(&self) -> &Counters {
        &self.config.counters[self.worker.index()]
    }

    /// Starts a connection's task. `peer` is for [`ServerConfig::on_error`].
    pub(super) fn start<F>(
        self: &Rc<Self>,
        permit: ConnectionPermit,
        peer: Option<Box<SocketAddress>>,
        body: impl FnOnce(OpenConnection<S>) -> F,
    ) where
        F: Future<Output = ()> + 'static,
        S: 'static,
    {
        if self.phase.get() == Phase::Forced {
            // All connections have been cancelled already; this one would not be.
            return self.counters().refused.add();
        }
        let id = self.next_id.replace(self.next_id.get() + 1);
        self.counters().started.add();
        let task = crate::spawn(body(OpenConnection::new(self.clone(), id, permit, peer)));
        self.tasks.borrow_mut().insert(id, task);
    }

    /// Forgets a connection's task, which has ended.
    pub(super) fn remove(&self, id: u64) {
        // Dropping a task's own handle lets it run to its end.
        let task = {
            let mut tasks = self.tasks.borrow_mut();
            let task = tasks.remove(&id);
            // After a burst its memory goes back; not at once, so that it is not needed again soon.
            if tasks.capacity() > LARGE && tasks.len() < tasks.capacity() / 8 {
                let room = 2 * tasks.len();
                tasks.shrink_to(room);
            }
            task
        };
        drop(task);
        if self.has_no_connections() {
            self.phase.changed.notify_all();
        }
    }

    fn has_no_connections(&self) -> bool {
        self.tasks.borrow().is_empty()
    }

    /// Waits until no connection is left.
    pub(super) async fn connections_ended(&self) {
        while !self.has_no_connections() {
            self.phase.changed.notified().await;
        }
    }

    /// Polls the tasks of all connections once more: see
    /// [`is_stopping`](super::ConnectionContext::is_stopping).
    pub(super) fn wake_all(&self) {
        self.tasks.borrow().values().for_each(JoinHandle::wake);
    }

    /// Cancels the tasks of all connections.
    pub(super) fn cancel_all(&self) {
        self.tasks.borrow().values().for_each(JoinHandle::cancel);
    }
}

/// One worker's copy of the phase, so that its connections read nothing that threads share.
#[derive(Default)]
pub(super) struct LocalPhase {
    phase: Cell<Phase>,
    /// Notified when the phase changes, and when the last connection ends.
    changed: Notify,
}

impl LocalPhase {
    pub(super) fn get(&self) -> Phase {
        self.phase.get()
    }

    pub(super) fn set(&self, phase: Phase) {
        self.phase.set(phase);
        self.changed.notify_all();
    }

    /// Waits until the phase is at least `phase`.
    pub(super) async fn reached(&self, phase: Phase) {
        consume_budget().await;
        while self.get() < phase {
            self.changed.notified().await;
        }
    }
}

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
