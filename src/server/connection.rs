//! A worker's connections: what a handler gets, and how its end is counted.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use super::limits::Slot;
use super::stats::Counters;
use super::workers::{Phase, Worker};
use crate::net::SocketAddress;
use crate::sync::local::Notify;
use crate::task::JoinHandle;

/// What one worker's connections share.
pub(super) struct Shared<S> {
    pub(super) worker: Worker,
    pub(super) state: S,
    pub(super) counters: Arc<[Counters]>,
    pub(super) phase: Latch,
    /// The tasks that are there, so that they can be cancelled.
    tasks: RefCell<HashMap<u64, JoinHandle<()>>>,
    next: Cell<u64>,
}

impl<S> Shared<S> {
    pub(super) fn new(worker: Worker, state: S, counters: Arc<[Counters]>) -> Rc<Self> {
        Rc::new(Shared {
            worker,
            state,
            counters,
            phase: Latch::default(),
            tasks: RefCell::default(),
            next: Cell::new(0),
        })
    }

    pub(super) fn count(&self) -> &Counters {
        &self.counters[self.worker.index()]
    }

    /// Starts a connection's task.
    pub(super) fn start<F>(self: &Rc<Self>, slot: Slot, body: impl FnOnce(Open<S>) -> F)
    where
        F: Future<Output = ()> + 'static,
        S: 'static,
    {
        if self.phase.get() == Phase::Forced {
            // Nobody would cancel it any more.
            return self.count().refused.add();
        }
        let id = self.next.replace(self.next.get() + 1);
        self.count().started.add();
        let open = Open { shared: self.clone(), id, end: Cell::new(End::Dropped), _slot: slot };
        let task = crate::spawn(body(open));
        self.tasks.borrow_mut().insert(id, task);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tasks.borrow().is_empty()
    }

    /// Waits until no connection is left.
    pub(super) async fn emptied(&self) {
        while !self.is_empty() {
            self.phase.changed.notified().await;
        }
    }

    pub(super) fn cancel_all(&self) {
        self.tasks.borrow().values().for_each(JoinHandle::cancel);
    }
}

/// How a connection's task ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Finished,
    Failed,
    TimedOut,
    /// It never came to an end of its own.
    Dropped,
}

/// One connection being served; counts its end when dropped.
pub(super) struct Open<S> {
    pub(super) shared: Rc<Shared<S>>,
    id: u64,
    end: Cell<End>,
    _slot: Slot,
}

impl<S> Open<S> {
    pub(super) fn end(&self, end: End) {
        self.end.set(end);
    }
}

impl<S> Drop for Open<S> {
    fn drop(&mut self) {
        let count = self.shared.count();
        let cancelled = self.shared.phase.get() == Phase::Forced;
        match self.end.get() {
            End::Finished => &count.finished,
            End::Failed if cancelled => &count.cancelled,
            End::Failed => &count.failed,
            End::TimedOut => &count.timed_out,
            End::Dropped if cancelled => &count.cancelled,
            End::Dropped => &count.panicked,
        }
        .add();
        // Dropping a task's own handle lets it come to its end.
        let task = self.shared.tasks.borrow_mut().remove(&self.id);
        drop(task);
        if self.shared.is_empty() {
            self.shared.phase.changed.notify_all();
        }
    }
}

/// What a handler may want to know besides its connection.
///
/// # Examples
/// See [`Server`](super::Server).
pub struct ConnectionContext<S = ()> {
    pub(super) shared: Rc<Shared<S>>,
    pub(super) peer: SocketAddress,
    pub(super) listener: usize,
}

impl<S> ConnectionContext<S> {
    /// The worker's own state, made by it when it started.
    pub fn state(&self) -> &S {
        &self.shared.state
    }

    /// Who has connected.
    pub fn peer(&self) -> &SocketAddress {
        &self.peer
    }

    /// Which of the server's listeners accepted it, in the order in which they were added.
    pub fn listener(&self) -> usize {
        self.listener
    }

    /// The worker that serves it.
    pub fn worker(&self) -> &Worker {
        &self.shared.worker
    }

    /// Whether the server is stopping: finish what is begun, and begin nothing new.
    pub fn is_stopping(&self) -> bool {
        self.shared.phase.get() >= Phase::Stopping
    }

    /// Waits until the server is stopping. [Race](crate::race()) it against waiting for the *next* request: who
    /// was let in, and has not been answered yet, is owed an answer to the first.
    pub async fn stopping(&self) {
        self.shared.phase.reached(Phase::Stopping).await;
    }
}

impl<S> fmt::Debug for ConnectionContext<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionContext").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// The phase as one worker knows it, so that its connections need not ask anything shared.
#[derive(Default)]
pub(super) struct Latch {
    phase: Cell<Phase>,
    /// Also told when the last connection ends.
    changed: Notify,
}

impl Latch {
    pub(super) fn get(&self) -> Phase {
        self.phase.get()
    }

    pub(super) fn set(&self, phase: Phase) {
        self.phase.set(phase);
        self.changed.notify_all();
    }

    pub(super) async fn reached(&self, phase: Phase) {
        while self.get() < phase {
            self.changed.notified().await;
        }
    }
}
