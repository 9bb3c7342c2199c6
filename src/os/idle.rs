//! The idle threads of a pool: the last one to become idle is the first to be woken.
//!
//! With one condition variable for all, they would be woken in turn, and under a light load all
//! threads that a burst has started would remain.

use std::sync::{Arc, Condvar, MutexGuard};
use std::time::{Duration, Instant};

use super::lock::ignore_poison;

/// The idle threads of a pool; part of the state under its lock.
#[derive(Default)]
pub(crate) struct IdleThreads {
    /// Each thread's own condition variable, in the order in which they became idle.
    stack: Vec<Arc<Condvar>>,
    /// The number of threads that were woken, and have not locked the state since.
    woken: usize,
}

impl IdleThreads {
    /// Returns how many threads are about to look for jobs, or will if woken.
    pub(crate) fn len(&self) -> usize {
        self.stack.len() + self.woken
    }

    /// Takes the last thread off the list; the caller notifies it.
    pub(crate) fn wake(&mut self) -> Option<Arc<Condvar>> {
        let thread = self.stack.pop()?;
        self.woken += 1;
        Some(thread)
    }

    /// Wakes all threads.
    pub(crate) fn wake_all(&mut self) {
        while let Some(thread) = self.wake() {
            thread.notify_one();
        }
    }
}

/// Waits until the calling thread, whose condition variable is `own`, is woken: returns `false`; or
/// until `limit` is over: returns `true`. `idle` finds the list in the state.
pub(crate) fn wait<'a, S>(
    mut state: MutexGuard<'a, S>,
    own: &Arc<Condvar>,
    limit: Duration,
    idle: fn(&mut S) -> &mut IdleThreads,
) -> (MutexGuard<'a, S>, bool) {
    let start = Instant::now();
    idle(&mut state).stack.push(own.clone());
    loop {
        let left = limit.saturating_sub(start.elapsed());
        state = ignore_poison(own.wait_timeout(state, left)).0;
        let threads = idle(&mut state);
        match threads.stack.iter().position(|thread| Arc::ptr_eq(thread, own)) {
            None => {
                threads.woken -= 1;
                return (state, false);
            }
            Some(index) if start.elapsed() >= limit => {
                threads.stack.remove(index);
                return (state, true);
            }
            // Condition variables may wake without a reason.
            Some(_) => {}
        }
    }
}
