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
use std::mem;
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
    waker: LocalWaker,
    stands: Stands,
}

/// Where somebody on the list stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stands {
    Waiting,
    Served,
    TurnedAway,
}

impl<T: Copy> WaitList<T> {
    fn new() -> Self {
        WaitList { entries: RefCell::default(), next: Cell::new(0) }
    }

    /// Puts somebody on the list, who [polls](Self::poll) at once for its waker: it stands there
    /// first, as a foreign waker's `clone` may be what serves it.
    fn add(&self, wants: T) -> u64 {
        let (waker, stands) = (LocalWaker::NONE, Stands::Waiting);
        let ticket = self.next.replace(self.next.get() + 1);
        self.entries.borrow_mut().push_back(Entry { ticket, wants, waker, stands });
        ticket
    }

    /// Has `waker` woken from now on, if it still waits; else takes it off the list.
    fn poll(&self, ticket: u64, waker: &Waker) -> Stands {
        let fresh = LocalWaker::new(waker);
        let mut entries = self.entries.borrow_mut();
        let Some(place) = find(&entries, ticket) else { return Stands::TurnedAway };
        let stands = entries[place].stands;
        let old = match stands {
            Stands::Waiting => Some(mem::replace(&mut entries[place].waker, fresh)),
            _ => entries.remove(place).map(|entry| entry.waker),
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
        Some(entry.stands)
    }

    /// Whether nobody waits.
    fn is_empty(&self) -> bool {
        // They are served in order.
        self.entries.borrow().back().is_none_or(|last| last.stands != Stands::Waiting)
    }

    /// Serves the first who waits, if `serve` says so; `false` if nobody was.
    fn serve_first(&self, serve: impl FnOnce(T) -> bool) -> bool {
        let mut entries = self.entries.borrow_mut();
        let place = first_waiting(&entries);
        let Some(first) = entries.get_mut(place) else { return false };
        if !serve(first.wants) {
            return false;
        }
        first.stands = Stands::Served;
        let waker = mem::replace(&mut first.waker, LocalWaker::NONE);
        drop(entries);
        waker.wake_now();
        true
    }

    /// Wakes all who wait now: they are served, or turned away, all before the first is woken.
    fn dismiss(&self, stands: Stands) {
        let mut entries = self.entries.borrow_mut();
        let start = first_waiting(&entries);
        let Some(mut ticket) = entries.get(start).map(|entry| entry.ticket) else { return };
        entries.range_mut(start..).for_each(|entry| entry.stands = stands);
        drop(entries);
        let end = self.next.get();
        // What is woken may change the list, so each is looked up by its ticket.
        loop {
            let mut entries = self.entries.borrow_mut();
            let place = entries.partition_point(|entry| entry.ticket < ticket);
            let Some(entry) = entries.get_mut(place).filter(|entry| entry.ticket < end) else {
                return;
            };
            ticket = entry.ticket + 1;
            let waker = mem::replace(&mut entry.waker, LocalWaker::NONE);
            drop(entries);
            waker.wake_now();
        }
    }
}

/// Where those begin who still wait: behind all who do not.
fn first_waiting<T>(entries: &VecDeque<Entry<T>>) -> usize {
    entries.partition_point(|entry| entry.stands != Stands::Waiting)
}

fn find<T>(entries: &VecDeque<Entry<T>>, ticket: u64) -> Option<usize> {
    // Without gaps, which only those leave who give up, the first one's ticket tells the place.
    let place = ticket.wrapping_sub(entries.front()?.ticket) as usize;
    if entries.get(place).is_some_and(|entry| entry.ticket == ticket) {
        return Some(place);
    }
    entries.binary_search_by_key(&ticket, |entry| entry.ticket).ok()
}
