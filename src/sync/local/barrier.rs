//! A point that tasks pass together.

use std::cell::Cell;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::{Stands, WaitList};

/// A point that `count` tasks of this thread pass together, again and again.
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
/// let leads = barrier.wait().await;
/// assert_ne!(leads, task.await.unwrap()); // one of them
/// # });
/// # Ok::<(), corio::SetupError>(())
/// ```
pub struct Barrier {
    count: usize,
    here: Cell<usize>,
    waiting: WaitList<()>,
}

impl Barrier {
    /// For `count` tasks, at least one.
    pub fn new(count: usize) -> Self {
        Barrier { count: count.max(1), here: Cell::new(0), waiting: WaitList::new() }
    }

    /// Waits until `count` tasks are here; `true` for the one that came last. A dropped future has not
    /// come.
    pub fn wait(&self) -> BarrierWait<'_> {
        BarrierWait { barrier: self, ticket: None }
    }
}

/// Waits for the others; see [`Barrier::wait`].
#[must_use = "futures do nothing unless awaited"]
pub struct BarrierWait<'a> {
    barrier: &'a Barrier,
    ticket: Option<u64>,
}

impl Future for BarrierWait<'_> {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        let Barrier { count, here, waiting } = self.barrier;
        if self.ticket.is_none() {
            here.set(here.get() + 1);
            if here.get() == *count {
                here.set(0);
                waiting.dismiss(Stands::Served);
                return Poll::Ready(true);
            }
        }
        let ticket = *self.ticket.get_or_insert_with(|| waiting.add(()));
        if waiting.poll(ticket, cx.waker()) == Stands::Waiting {
            return Poll::Pending;
        }
        self.ticket = None;
        Poll::Ready(false)
    }
}

impl Drop for BarrierWait<'_> {
    fn drop(&mut self) {
        let stands = self.ticket.and_then(|ticket| self.barrier.waiting.remove(ticket));
        if stands == Some(Stands::Waiting) {
            self.barrier.here.set(self.barrier.here.get() - 1);
        }
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier")
            .field("count", &self.count)
            .field("here", &self.here.get())
            .finish()
    }
}

impl fmt::Debug for BarrierWait<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BarrierWait").field("waits", &self.ticket.is_some()).finish()
    }
}
