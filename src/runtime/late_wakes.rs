//! Wakers of tasks that look again, after a while, at what other tasks have done.
//!
//! Few tasks do, and not often: a list is enough, without the nodes that [timers](super::timers)
//! have in their futures.

use std::cell::RefCell;
use std::task::Waker;

/// Wakers, and when they are to be woken, in nanoseconds since the runtime was created.
#[derive(Default)]
pub(super) struct LateWakes(RefCell<Vec<(u64, Waker)>>);

impl LateWakes {
    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// Adds a waker, unless its task is going to be woken already.
    pub(super) fn add(&self, deadline: u64, waker: &Waker) {
        if self.0.borrow().iter().any(|(_, other)| other.will_wake(waker)) {
            return;
        }
        // It may be foreign code, which may come here again.
        let waker = waker.clone();
        self.0.borrow_mut().push((deadline, waker));
    }

    /// Returns the earliest deadline.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.0.borrow().iter().map(|(deadline, _)| *deadline).min()
    }

    /// Takes a waker whose time has come.
    pub(super) fn take_due(&self, now: u64) -> Option<Waker> {
        let mut wakes = self.0.borrow_mut();
        let due = wakes.iter().position(|(deadline, _)| *deadline <= now)?;
        Some(wakes.remove(due).1)
    }

    /// Drops all wakers.
    pub(super) fn clear(&self) {
        // Dropping them may run foreign code.
        drop(self.0.take());
    }
}
