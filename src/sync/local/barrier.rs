//! A barrier for tasks on one thread.

use std::cell::Cell;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::task::{Context, Poll};

use super::wait_list::{LocalWaitList, WaitState};
use crate::runtime::poll_budget::within_budget;

/// A barrier for tasks on one thread: each waits until `count` of them have arrived. It can be used
/// again and again.
///
/// # Examples
/// ```
/// use std::rc::Rc;
/// use corio::sync::local::Barrier;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let barrier = Rc::new(Barrier::new(2));
/// let other = barrier.clone();
/// let task = corio::spawn(async move { other.wait().await });
/// let is_leader = barrier.wait().await;
/// assert_ne!(is_leader, task.await.unwrap()); // one of the two
/// # });
/// # Ok::<(), corio::SetupError>(())
/// ```
pub struct Barrier {
    count: usize,
    arrived: Cell<usize>,
    waiting: LocalWaitList<()>,
}

impl Barrier {
    /// Creates a barrier for `count` tasks, at least one.
    pub fn new(count: usize) -> Self {
        Barrier { count: count.max(1), arrived: Cell::new(0), waiting: LocalWaitList::new() }
    }

    /// Waits until `count` tasks have arrived; returns `true` to the one that arrived last. A
    /// future that is dropped while it waits does not count as arrived.
    pub fn wait(&self) -> BarrierWait<'_> {
        BarrierWait { barrier: self, ticket: None }
    }
}

/// The future returned by [`Barrier::wait`].
#[must_use = "futures do nothing unless awaited"]
pub struct BarrierWait<'a> {
    barrier: &'a Barrier,
    ticket: Option<u64>,
}

impl Future for BarrierWait<'_> {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        if self.ticket.is_some() {
            return self.wait(cx);
        }
        within_budget(cx, |cx| {
            let Barrier { count, arrived, waiting } = self.barrier;
            arrived.set(arrived.get() + 1);
            if arrived.get() < *count {
                return self.wait(cx);
            }
            arrived.set(0);
            waiting.release_all(WaitState::Granted);
            Poll::Ready(true)
        })
    }
}

impl BarrierWait<'_> {
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let waiting = &self.barrier.waiting;
        let ticket = *self.ticket.get_or_insert_with(|| waiting.join(()));
        if waiting.poll(ticket, cx.waker()) == WaitState::Waiting {
            return Poll::Pending;
        }
        self.ticket = None;
        Poll::Ready(false)
    }
}

impl Drop for BarrierWait<'_> {
    fn drop(&mut self) {
        let state = self.ticket.and_then(|ticket| self.barrier.waiting.leave(ticket));
        if state == Some(WaitState::Waiting) {
            self.barrier.arrived.set(self.barrier.arrived.get() - 1);
        }
    }
}

// No call leaves the list half changed when foreign code (a waker) panics.
impl UnwindSafe for Barrier {}
impl RefUnwindSafe for Barrier {}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier")
            .field("count", &self.count)
            .field("arrived", &self.arrived.get())
            .finish()
    }
}

impl fmt::Debug for BarrierWait<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BarrierWait").field("waits", &self.ticket.is_some()).finish()
    }
}
