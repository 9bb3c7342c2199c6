//! Telling others that something has happened.

use std::cell::Cell;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::{Stands, WaitList};

/// Wakes tasks of this thread that wait for something to happen.
///
/// # Examples
/// ```
/// use std::rc::Rc;
/// use corio::sync::local::Notify;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let bell = Rc::new(Notify::new());
/// let rings = bell.clone();
/// let task = corio::spawn(async move { rings.notified().await });
/// bell.notify_one(); // also if the task does not wait yet
/// task.await.unwrap();
/// # });
/// # Ok::<(), corio::SetupError>(())
/// ```
#[derive(Default)]
pub struct Notify {
    waiting: WaitList<()>,
    /// Somebody was notified while nobody waited.
    rung: Cell<bool>,
}

impl Default for WaitList<()> {
    fn default() -> Self {
        WaitList::new()
    }
}

impl Notify {
    /// Nothing has happened yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Wakes the one who has waited longest; if nobody waits, the next who does goes on at once.
    pub fn notify_one(&self) {
        if !self.waiting.serve_first(|()| true) {
            self.rung.set(true);
        }
    }

    /// Wakes all who wait now. Nothing is kept for those who come later.
    pub fn notify_all(&self) {
        self.waiting.dismiss(Stands::Served);
    }

    /// Waits to be notified, from its first poll on. Cancel-safe: a notification that a dropped future
    /// had got goes to the next.
    pub fn notified(&self) -> Notified<'_> {
        Notified { notify: self, ticket: None }
    }
}

/// Waits for a notification; see [`Notify::notified`].
#[must_use = "futures do nothing unless awaited"]
pub struct Notified<'a> {
    notify: &'a Notify,
    ticket: Option<u64>,
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Notify { waiting, rung } = self.notify;
        if self.ticket.is_none() && rung.take() {
            return Poll::Ready(());
        }
        let ticket = *self.ticket.get_or_insert_with(|| waiting.add(()));
        if waiting.poll(ticket, cx.waker()) == Stands::Waiting {
            return Poll::Pending;
        }
        self.ticket = None;
        Poll::Ready(())
    }
}

impl Drop for Notified<'_> {
    fn drop(&mut self) {
        let stands = self.ticket.and_then(|ticket| self.notify.waiting.remove(ticket));
        if stands == Some(Stands::Served) {
            self.notify.notify_one();
        }
    }
}

impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notify").field("rung", &self.rung.get()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Notified<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notified").field("waits", &self.ticket.is_some()).finish()
    }
}
