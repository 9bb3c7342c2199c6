//! A counting semaphore for tasks of one thread.

use std::cell::Cell;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::wait_list::{LocalWaitList, WaitState};
use crate::error::debug_as_display;
use crate::runtime::poll_budget::within_budget;

/// A counting semaphore for tasks of one thread: limits how many of them do something at once.
///
/// Fair: a task that asks for many permits is not passed by tasks that ask for few.
///
/// # Examples
/// ```
/// use corio::sync::local::Semaphore;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let semaphore = Semaphore::new(2);
/// let first = semaphore.acquire(1).await.unwrap();
/// let second = semaphore.acquire(1).await.unwrap();
/// assert!(semaphore.try_acquire(1).is_none());
/// drop(first);
/// assert!(semaphore.try_acquire(1).is_some());
/// # drop(second);
/// # });
/// # Ok::<(), corio::SetupError>(())
/// ```
pub struct Semaphore {
    permits: Cell<usize>,
    closed: Cell<bool>,
    waiting: LocalWaitList<usize>,
}

/// The semaphore was closed.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("semaphore closed: it gives no more permits")]
#[doc(alias = "AcquireError")]
pub struct Closed;

debug_as_display!(Closed);

impl Semaphore {
    /// Creates a semaphore with `permits` permits.
    pub fn new(permits: usize) -> Self {
        Semaphore {
            permits: Cell::new(permits),
            closed: Cell::new(false),
            waiting: LocalWaitList::new(),
        }
    }

    /// Returns how many permits are available now.
    #[doc(alias = "available_permits")]
    pub fn available(&self) -> usize {
        self.permits.get()
    }

    /// Waits for `count` permits. Cancel-safe: a dropped future has taken none.
    ///
    /// # Errors
    /// [`Closed`] if the semaphore is closed, or is closed during the wait.
    #[doc(alias = "acquire_many")]
    pub fn acquire(&self, count: usize) -> Acquire<'_> {
        Acquire { semaphore: self, request: Request { count, ticket: None } }
    }

    /// Waits for `count` permits that own the semaphore instead of borrowing it, so that they can
    /// move into a spawned task. Cancel-safe: a dropped future has taken none.
    ///
    /// # Errors
    /// [`Closed`] if the semaphore is closed, or is closed during the wait.
    ///
    /// # Examples
    /// At most two tasks work at once, and no more are spawned before:
    /// ```
    /// use std::rc::Rc;
    /// use corio::sync::local::Semaphore;
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let semaphore = Rc::new(Semaphore::new(2));
    /// for _ in 0..10 {
    ///     let permit = semaphore.clone().acquire_owned(1).await?;
    ///     corio::spawn(async move {
    ///         corio::sleep(std::time::Duration::from_millis(1)).await; // the work
    ///         drop(permit);
    ///     });
    /// }
    /// // Wait for the last ones.
    /// semaphore.acquire(2).await?;
    /// # Ok::<(), corio::sync::local::Closed>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "acquire_many_owned")]
    pub fn acquire_owned(self: Rc<Self>, count: usize) -> AcquireOwned {
        AcquireOwned { semaphore: self, request: Request { count, ticket: None } }
    }

    /// Takes `count` permits if they are available and no task waits for any.
    pub fn try_acquire(&self, count: usize) -> Option<Permit<'_>> {
        self.try_take(count).then(|| Permit { semaphore: self, count })
    }

    /// Takes `count` permits that own the semaphore, if they are available and no task waits for
    /// any.
    pub fn try_acquire_owned(self: Rc<Self>, count: usize) -> Option<OwnedPermit> {
        self.try_take(count).then(|| OwnedPermit { semaphore: self, count })
    }

    /// Adds `count` permits.
    pub fn add_permits(&self, count: usize) {
        self.permits.set(self.permits.get().saturating_add(count));
        self.grant_waiting();
    }

    /// Closes the semaphore: tasks that wait for permits, now or later, get [`Closed`].
    pub fn close(&self) {
        self.closed.set(true);
        self.waiting.release_all(WaitState::Released);
    }

    fn try_take(&self, count: usize) -> bool {
        !self.closed.get() && !self.waiting.has_waiting() && self.take(count)
    }

    fn take(&self, count: usize) -> bool {
        let remaining = self.permits.get().checked_sub(count);
        remaining.map(|remaining| self.permits.set(remaining)).is_some()
    }

    fn grant_waiting(&self) {
        while self.waiting.grant_first(|count| self.take(count)) {}
    }
}

/// What [`Acquire`] and [`AcquireOwned`] share: a request for permits, and its place on the list.
struct Request {
    count: usize,
    ticket: Option<u64>,
}

impl Request {
    fn poll(&mut self, semaphore: &Semaphore, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        if self.ticket.is_some() {
            return self.wait(semaphore, cx);
        }
        within_budget(cx, |cx| {
            if semaphore.closed.get() {
                Poll::Ready(Err(Closed))
            } else if semaphore.try_take(self.count) {
                Poll::Ready(Ok(()))
            } else {
                self.wait(semaphore, cx)
            }
        })
    }

    fn wait(&mut self, semaphore: &Semaphore, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        let ticket = *self.ticket.get_or_insert_with(|| semaphore.waiting.join(self.count));
        let result = match semaphore.waiting.poll(ticket, cx.waker()) {
            WaitState::Waiting => return Poll::Pending,
            WaitState::Granted => Ok(()),
            WaitState::Released => Err(Closed),
        };
        self.ticket = None;
        Poll::Ready(result)
    }

    fn cancel(&self, semaphore: &Semaphore) {
        let Some(ticket) = self.ticket else { return };
        match semaphore.waiting.leave(ticket) {
            Some(WaitState::Granted) => semaphore.add_permits(self.count),
            // Those behind may want fewer.
            _ => semaphore.grant_waiting(),
        }
    }
}

/// The future returned by [`Semaphore::acquire`].
#[must_use = "futures do nothing unless awaited"]
pub struct Acquire<'a> {
    semaphore: &'a Semaphore,
    request: Request,
}

impl<'a> Future for Acquire<'a> {
    type Output = Result<Permit<'a>, Closed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (semaphore, count) = (self.semaphore, self.request.count);
        let granted = self.request.poll(semaphore, cx);
        granted.map_ok(|()| Permit { semaphore, count })
    }
}

impl Drop for Acquire<'_> {
    fn drop(&mut self) {
        self.request.cancel(self.semaphore);
    }
}

/// The future returned by [`Semaphore::acquire_owned`].
#[must_use = "futures do nothing unless awaited"]
pub struct AcquireOwned {
    semaphore: Rc<Semaphore>,
    request: Request,
}

impl Future for AcquireOwned {
    type Output = Result<OwnedPermit, Closed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let AcquireOwned { semaphore, request } = &mut *self;
        let granted = request.poll(semaphore, cx);
        granted.map_ok(|()| OwnedPermit { semaphore: semaphore.clone(), count: request.count })
    }
}

impl Drop for AcquireOwned {
    fn drop(&mut self) {
        self.request.cancel(&self.semaphore);
    }
}

/// Permits of a [`Semaphore`]; given back when dropped.
#[must_use = "dropping the permits gives them back"]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
    count: usize,
}

impl Permit<'_> {
    /// Returns the number of permits.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Drops the permits without giving them back.
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

/// Permits that own their [`Semaphore`]; given back when dropped.
#[must_use = "dropping the permits gives them back"]
#[doc(alias = "OwnedSemaphorePermit")]
pub struct OwnedPermit {
    semaphore: Rc<Semaphore>,
    count: usize,
}

impl OwnedPermit {
    /// Returns the number of permits.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Drops the permits without giving them back.
    pub fn forget(mut self) {
        self.count = 0;
    }
}

impl Drop for OwnedPermit {
    fn drop(&mut self) {
        if self.count > 0 {
            self.semaphore.add_permits(self.count);
        }
    }
}

// No call leaves the list half changed when foreign code (a waker) panics.
impl UnwindSafe for Semaphore {}
impl RefUnwindSafe for Semaphore {}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore").field("available", &self.available()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Acquire<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.request.count;
        f.debug_struct("Acquire").field("count", &count).finish_non_exhaustive()
    }
}

impl fmt::Debug for AcquireOwned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.request.count;
        f.debug_struct("AcquireOwned").field("count", &count).finish_non_exhaustive()
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("count", &self.count).finish()
    }
}

impl fmt::Debug for OwnedPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedPermit").field("count", &self.count).finish()
    }
}
