//! Notifications between tasks of one thread.

use std::cell::Cell;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::task::{Context, Poll};

use super::wait_list::{LocalWaitList, WaitState};
use crate::runtime::poll_budget::within_budget;

/// Notifies tasks of one thread that wait for an event. It stores at most one notification.
///
/// # Examples
/// ```
/// use std::rc::Rc;
/// use corio::sync::local::Notify;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let ready = Rc::new(Notify::new());
/// let waits = ready.clone();
/// let task = corio::spawn(async move { waits.notified().await });
/// ready.notify_one(); // stored, as the task does not wait yet
/// task.await.unwrap();
/// # });
/// # Ok::<(), corio::SetupError>(())
/// ```
#[derive(Default)]
pub struct Notify {
    waiting: LocalWaitList<()>,
    /// A notification was sent while no task waited.
    stored: Cell<bool>,
}

impl Notify {
    /// Creates a `Notify` without a stored notification.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notifies the task that has waited longest. If no task waits, stores the notification for the
    /// next call of [`notified`](Self::notified).
    pub fn notify_one(&self) {
        if !self.waiting.grant_first(|()| true) {
            self.stored.set(true);
        }
    }

    /// Notifies all tasks that wait now. Stores nothing for tasks that wait later.
    #[doc(alias = "notify_waiters")]
    pub fn notify_all(&self) {
        // Released, not granted: a waiter that is dropped passes nothing on.
        self.waiting.release_all(WaitState::Released);
    }

    /// Waits for a notification, from its first poll on. Cancel-safe: a notification that a dropped
    /// future had received goes to the next task.
    pub fn notified(&self) -> Notified<'_> {
        Notified { notify: self, ticket: None }
    }
}

/// The future returned by [`Notify::notified`].
#[must_use = "futures do nothing unless awaited"]
pub struct Notified<'a> {
    notify: &'a Notify,
    ticket: Option<u64>,
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.ticket.is_some() {
            return self.wait(cx);
        }
        within_budget(
            cx,
            |cx| {
                if self.notify.stored.take() { Poll::Ready(()) } else { self.wait(cx) }
            },
        )
    }
}

impl Notified<'_> {
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let waiting = &self.notify.waiting;
        let ticket = *self.ticket.get_or_insert_with(|| waiting.join(()));
        if waiting.poll(ticket, cx.waker()) == WaitState::Waiting {
            return Poll::Pending;
        }
        self.ticket = None;
        Poll::Ready(())
    }
}

impl Drop for Notified<'_> {
    fn drop(&mut self) {
        let state = self.ticket.and_then(|ticket| self.notify.waiting.leave(ticket));
        if state == Some(WaitState::Granted) {
            self.notify.notify_one();
        }
    }
}

// No call leaves the list half changed when foreign code (a waker) panics.
impl UnwindSafe for Notify {}
impl RefUnwindSafe for Notify {}

impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notify").field("stored", &self.stored.get()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Notified<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notified").field("waits", &self.ticket.is_some()).finish()
    }
}
