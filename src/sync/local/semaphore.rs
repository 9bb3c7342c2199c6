//! A number of permits.

use std::cell::Cell;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::{Stands, WaitList};

/// A number of permits that tasks of this thread take and give back: at most so many do something at
/// once.
///
/// Fair: who asks for many is not passed by those who ask for few.
///
/// # Examples
/// ```
/// use corio::sync::local::Semaphore;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let semaphore = Semaphore::new(2);
/// let one = semaphore.acquire(1).await.unwrap();
/// let other = semaphore.acquire(1).await.unwrap();
/// assert!(semaphore.try_acquire(1).is_none());
/// drop(one);
/// assert!(semaphore.try_acquire(1).is_some());
/// # drop(other);
/// # });
/// # Ok::<(), corio::SetupError>(())
/// ```
pub struct Semaphore {
    permits: Cell<usize>,
    closed: Cell<bool>,
    waiting: WaitList<usize>,
}

/// The semaphore was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the semaphore is closed")]
pub struct Closed;

impl Semaphore {
    /// With so many permits.
    pub fn new(permits: usize) -> Self {
        Semaphore {
            permits: Cell::new(permits),
            closed: Cell::new(false),
            waiting: WaitList::new(),
        }
    }

    /// How many permits can be had now.
    pub fn available(&self) -> usize {
        self.permits.get()
    }

    /// Waits for `count` permits. Cancel-safe: a dropped future has taken none.
    ///
    /// # Errors
    /// [`Closed`] if it is, or becomes so while waiting.
    pub fn acquire(&self, count: usize) -> Acquire<'_> {
        Acquire { semaphore: self, count, ticket: None }
    }

    /// Takes `count` permits if they are there and nobody waits for any.
    pub fn try_acquire(&self, count: usize) -> Option<Permit<'_>> {
        if self.closed.get() || !self.waiting.is_empty() || !self.take(count) {
            return None;
        }
        Some(Permit { semaphore: self, count })
    }

    /// Adds permits.
    pub fn add_permits(&self, count: usize) {
        self.permits.set(self.permits.get().saturating_add(count));
        self.hand_out();
    }

    /// Gives no more permits: who waits, or asks later, gets an error.
    pub fn close(&self) {
        self.closed.set(true);
        self.waiting.dismiss(Stands::TurnedAway);
    }

    fn take(&self, count: usize) -> bool {
        let left = self.permits.get().checked_sub(count);
        left.map(|left| self.permits.set(left)).is_some()
    }

    fn hand_out(&self) {
        while self.waiting.serve_first(|count| self.take(count)) {}
    }
}

/// Waits for permits; see [`Semaphore::acquire`].
#[must_use = "futures do nothing unless awaited"]
pub struct Acquire<'a> {
    semaphore: &'a Semaphore,
    count: usize,
    ticket: Option<u64>,
}

impl<'a> Future for Acquire<'a> {
    type Output = Result<Permit<'a>, Closed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (semaphore, count) = (self.semaphore, self.count);
        if self.ticket.is_none() {
            if semaphore.closed.get() {
                return Poll::Ready(Err(Closed));
            }
            if let Some(permit) = semaphore.try_acquire(count) {
                return Poll::Ready(Ok(permit));
            }
        }
        let ticket = *self.ticket.get_or_insert_with(|| semaphore.waiting.add(count));
        let result = match semaphore.waiting.poll(ticket, cx.waker()) {
            Stands::Waiting => return Poll::Pending,
            Stands::Served => Ok(Permit { semaphore, count }),
            Stands::TurnedAway => Err(Closed),
        };
        self.ticket = None;
        Poll::Ready(result)
    }
}

impl Drop for Acquire<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        match self.semaphore.waiting.remove(ticket) {
            Some(Stands::Served) => self.semaphore.add_permits(self.count),
            // Those behind may want less.
            _ => self.semaphore.hand_out(),
        }
    }
}

/// Permits of a [`Semaphore`]; given back when dropped.
#[must_use = "dropping the permits gives them back"]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
    count: usize,
}

impl Permit<'_> {
    /// How many permits this is.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Takes the permits away for good.
    pub fn forget(mut self) {
        self.count = 0;
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.count > 0 {
            self.semaphore.add_permits(self.count);
        }
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore").field("available", &self.available()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Acquire<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquire").field("count", &self.count).finish_non_exhaustive()
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("count", &self.count).finish()
    }
}
