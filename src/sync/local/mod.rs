//! Locks and channels for tasks of one thread: no atomics, no system calls.
//!
//! All of them are fair (first come, first served), and a future that is dropped while it waits loses
//! nothing: what it had been given goes to the next. Waiting allocates nothing once a queue has grown.

mod barrier;
pub mod mpsc;
mod mutex;
mod notify;
pub mod oneshot;
mod rwlock;
mod semaphore;

pub use barrier::{Barrier, BarrierWait};
pub use mutex::{Mutex, MutexGuard};
pub use notify::{Notified, Notify};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{Acquire, Closed, Permit, Semaphore};

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::task::Waker;

use crate::runtime::waker::LocalWaker;

/// Those who wait, in order; each known by its ticket.
struct WaitList<T> {
    entries: RefCell<VecDeque<Entry<T>>>,
    next: Cell<u64>,
}

struct Entry<T> {
    ticket: u64,
    wants: T,
    /// There while it waits.
    waker: Option<LocalWaker>,
    /// It has got what it wants, if it waits no more; else there is nothing to be had any more.
    served: bool,
}

/// Where somebody on the list stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stands {
    Waiting,
    Served,
    TurnedAway,
}

impl<T> Entry<T> {
    fn stands(&self) -> Stands {
        match (&self.waker, self.served) {
            (Some(_), _) => Stands::Waiting,
            (None, true) => Stands::Served,
            (None, false) => Stands::TurnedAway,
        }
    }
}

impl<T: Copy> WaitList<T> {
    fn new() -> Self {
        WaitList { entries: RefCell::default(), next: Cell::new(0) }
    }

    fn add(&self, wants: T, waker: &Waker) -> u64 {
        let waker = Some(LocalWaker::new(waker));
        let ticket = self.next.replace(self.next.get() + 1);
        self.entries.borrow_mut().push_back(Entry { ticket, wants, waker, served: false });
        ticket
    }

    /// Has `waker` woken from now on, if it still waits; else takes it off the list.
    fn poll(&self, ticket: u64, waker: &Waker) -> Stands {
        let fresh = LocalWaker::new(waker);
        let mut entries = self.entries.borrow_mut();
        let Some(place) = find(&entries, ticket) else { return Stands::TurnedAway };
        let stands = entries[place].stands();
        let old = match stands {
            Stands::Waiting => entries[place].waker.replace(fresh),
            _ => entries.remove(place).and_then(|entry| entry.waker),
        };
        // Wakers are dropped when nothing is borrowed: that may run foreign code.
        drop(entries);
        drop(old);
        stands
    }

    /// Takes somebody off the list who does not want to wait any longer.
    fn remove(&self, ticket: u64) -> Option<Stands> {
        let mut entries = self.entries.borrow_mut();
        let place = find(&entries, ticket)?;
        let entry = entries.remove(place)?;
        drop(entries);
        Some(entry.stands())
    }

    /// Whether nobody waits.
    fn is_empty(&self) -> bool {
        // They are served in order.
        self.entries.borrow().back().is_none_or(|last| last.waker.is_none())
    }

    /// Serves the first who waits, if `serve` says so; `false` if nobody was.
    fn serve_first(&self, serve: impl FnOnce(T) -> bool) -> bool {
        let mut entries = self.entries.borrow_mut();
        let Some(first) = entries.iter_mut().find(|entry| entry.waker.is_some()) else {
            return false;
        };
        if !serve(first.wants) {
            return false;
        }
        first.served = true;
        let waker = first.waker.take();
        drop(entries);
        if let Some(waker) = waker {
            waker.wake_now();
        }
        true
    }

    /// Wakes all who wait now: they are served, or turned away.
    fn dismiss(&self, served: bool) {
        let end = self.next.get();
        loop {
            let mut entries = self.entries.borrow_mut();
            let mut waiting = entries.iter_mut().filter(|entry| entry.ticket < end);
            let Some(entry) = waiting.find(|entry| entry.waker.is_some()) else { return };
            entry.served = served;
            let waker = entry.waker.take();
            drop(entries);
            if let Some(waker) = waker {
                waker.wake_now();
            }
        }
    }
}

fn find<T>(entries: &VecDeque<Entry<T>>, ticket: u64) -> Option<usize> {
    entries.binary_search_by_key(&ticket, |entry| entry.ticket).ok()
}
