//! One value, once, to another task or thread.
//!
//! # Examples
//! ```
//! use corio::sync::oneshot;
//! let (sender, receiver) = oneshot();
//! std::thread::spawn(move || sender.send("from a thread"));
//! let mut context = corio::IoContext::new(8)?;
//! assert_eq!(context.block_on(receiver), Ok("from a thread"));
//! # Ok::<(), corio::SetupError>(())
//! ```

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::wait;
use crate::runtime::sync::{Mutex, lock};

struct State<T> {
    value: Option<T>,
    receiver: Option<Waker>,
    sender: Option<Waker>,
    sender_gone: bool,
    receiver_gone: bool,
}

type Shared<T> = Arc<Mutex<State<T>>>;

/// Makes a channel for one value. It is one allocation.
pub fn oneshot<T>() -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Mutex::new(State {
        value: None,
        receiver: None,
        sender: None,
        sender_gone: false,
        receiver_gone: false,
    }));
    (Sender { shared: shared.clone() }, Receiver { shared })
}

/// The end that sends; see [`oneshot`](oneshot()).
pub struct Sender<T> {
    shared: Shared<T>,
}

impl<T> Sender<T> {
    /// Sends the value. It never waits.
    ///
    /// # Errors
    /// The value, if the receiver is gone.
    pub fn send(self, value: T) -> Result<(), T> {
        let mut state = lock(&self.shared);
        if state.receiver_gone {
            return Err(value);
        }
        state.value = Some(value);
        Ok(())
        // Dropping the sender wakes.
    }

    /// Whether nobody can receive any more.
    pub fn is_closed(&self) -> bool {
        lock(&self.shared).receiver_gone
    }

    /// Waits until the receiver is gone, so that the work for it can be given up. Cancel-safe.
    pub async fn closed(&mut self) {
        std::future::poll_fn(|cx| {
            // Made without the lock, as in `Receiver::poll`.
            let waker = cx.waker().clone();
            let mut state = lock(&self.shared);
            if state.receiver_gone {
                return Poll::Ready(());
            }
            let old = state.sender.replace(waker);
            drop(state);
            drop(old);
            Poll::Pending
        })
        .await;
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = lock(&self.shared);
        state.sender_gone = true;
        let (receiver, own) = (state.receiver.take(), state.sender.take());
        drop(state);
        drop(own);
        if let Some(receiver) = receiver {
            receiver.wake();
        }
    }
}

/// The end that receives: a future; see [`oneshot`](oneshot()). Dropping it tells the sender.
#[must_use = "a receiver does nothing unless awaited"]
pub struct Receiver<T> {
    shared: Shared<T>,
}

/// The sender was dropped without sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sender was dropped without sending a value")]
pub struct RecvError;

impl<T> Receiver<T> {
    /// Waits on a plain thread.
    ///
    /// # Errors
    /// [`RecvError`] if the sender was dropped without sending.
    ///
    /// # Panics
    /// Within a running context, which it would block.
    #[track_caller]
    pub fn recv_blocking(self) -> Result<T, RecvError> {
        wait(self)
    }

    /// Takes the value if it is there, without waiting.
    pub fn try_recv(&mut self) -> Option<T> {
        lock(&self.shared).value.take()
    }
}

impl<T> Future for Receiver<T> {
    type Output = Result<T, RecvError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // Made without the lock: a foreign waker's `clone` may send the value.
        let waker = cx.waker().clone();
        let mut state = lock(&self.shared);
        if let Some(value) = state.value.take() {
            return Poll::Ready(Ok(value));
        }
        if state.sender_gone {
            return Poll::Ready(Err(RecvError));
        }
        let old = state.receiver.replace(waker);
        drop(state);
        drop(old);
        Poll::Pending
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = lock(&self.shared);
        state.receiver_gone = true;
        let (value, sender, own) = (state.value.take(), state.sender.take(), state.receiver.take());
        drop(state);
        drop((value, own));
        if let Some(sender) = sender {
            sender.wake();
        }
    }
}

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
