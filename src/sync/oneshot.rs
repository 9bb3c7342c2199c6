//! A channel for one value, between tasks and threads.
//!
//! # Examples
//! ```
//! use corio::sync::oneshot;
//! let (sender, receiver) = oneshot::channel();
//! std::thread::spawn(move || sender.send("from a thread"));
//! let mut context = corio::IoContext::new(8)?;
//! assert_eq!(context.block_on(receiver), Ok("from a thread"));
//! # Ok::<(), corio::SetupError>(())
//! ```

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::wait;
use crate::error::debug_as_display;
use crate::runtime::poll_budget::within_budget;
use crate::runtime::sync::{Mutex, lock};

struct State<T> {
    value: Option<T>,
    receiver: Option<Waker>,
    sender: Option<Waker>,
    sender_dropped: bool,
    receiver_dropped: bool,
}

type Shared<T> = Arc<Mutex<State<T>>>;

/// Creates a channel for one value, with one allocation.
///
/// # Examples
/// See the [module](self).
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Mutex::new(State {
        value: None,
        receiver: None,
        sender: None,
        sender_dropped: false,
        receiver_dropped: false,
    }));
    (Sender { shared: shared.clone() }, Receiver { shared })
}

/// The sending half of a [`channel`].
///
/// # Examples
/// See the [module](self).
pub struct Sender<T> {
    shared: Shared<T>,
}

impl<T> Sender<T> {
    /// Sends the value, without waiting.
    ///
    /// # Errors
    /// The value, if the receiver was dropped.
    pub fn send(self, value: T) -> Result<(), T> {
        let mut state = lock(&self.shared);
        if state.receiver_dropped {
            return Err(value);
        }
        state.value = Some(value);
        Ok(())
        // Dropping the sender wakes the receiver.
    }

    /// Returns `true` if the receiver was dropped.
    pub fn is_closed(&self) -> bool {
        lock(&self.shared).receiver_dropped
    }

    /// Waits until the receiver is dropped, so that work for it can be abandoned. Cancel-safe.
    pub async fn closed(&mut self) {
        std::future::poll_fn(|cx| within_budget(cx, |cx| self.poll_closed(cx))).await;
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Cloned without the lock, as in `Receiver::poll_value`.
        let waker = cx.waker().clone();
        let mut state = lock(&self.shared);
        if state.receiver_dropped {
            return Poll::Ready(());
        }
        let old = state.sender.replace(waker);
        drop(state);
        drop(old);
        Poll::Pending
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = lock(&self.shared);
        state.sender_dropped = true;
        let (receiver, own) = (state.receiver.take(), state.sender.take());
        drop(state);
        drop(own);
        if let Some(receiver) = receiver {
            receiver.wake();
        }
    }
}

/// The receiving half of a [`channel`]: a future. Dropping it completes [`Sender::closed`].
///
/// # Examples
/// See the [module](self).
#[must_use = "a receiver does nothing unless awaited"]
pub struct Receiver<T> {
    shared: Shared<T>,
}

/// The sender was dropped without sending.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("oneshot channel closed: the sender was dropped without sending a value")]
pub struct RecvError;

debug_as_display!(RecvError);

impl<T> Receiver<T> {
    /// Receives the value on a plain thread, which is blocked until it is there.
    ///
    /// # Errors
    /// [`RecvError`] if the sender was dropped without sending.
    ///
    /// # Panics
    /// On a thread that runs a context, which the wait would block.
    #[doc(alias = "blocking_recv")]
    #[track_caller]
    pub fn recv_blocking(self) -> Result<T, RecvError> {
        wait(self)
    }

    /// Takes the value if it is there, without waiting.
    pub fn try_recv(&mut self) -> Option<T> {
        lock(&self.shared).value.take()
    }

    fn poll_value(&self, cx: &mut Context<'_>) -> Poll<Result<T, RecvError>> {
        // Cloned without the lock: a foreign waker's `clone` may send the value.
        let waker = cx.waker().clone();
        let mut state = lock(&self.shared);
        if let Some(value) = state.value.take() {
            return Poll::Ready(Ok(value));
        }
        if state.sender_dropped {
            return Poll::Ready(Err(RecvError));
        }
        let old = state.receiver.replace(waker);
        drop(state);
        drop(old);
        Poll::Pending
    }
}

impl<T> Future for Receiver<T> {
    type Output = Result<T, RecvError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        within_budget(cx, |cx| self.poll_value(cx))
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = lock(&self.shared);
        state.receiver_dropped = true;
        let (value, sender, own) = (state.value.take(), state.sender.take(), state.receiver.take());
        drop(state);
        drop((value, own));
        if let Some(sender) = sender {
            sender.wake();
        }
    }
}

// No call leaves a message or a count half changed when foreign code (a waker) panics.
impl<T> UnwindSafe for Sender<T> {}
impl<T> RefUnwindSafe for Sender<T> {}
impl<T> UnwindSafe for Receiver<T> {}
impl<T> RefUnwindSafe for Receiver<T> {}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("closed", &self.is_closed()).finish()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("ready", &lock(&self.shared).value.is_some()).finish()
    }
}
