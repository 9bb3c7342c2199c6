//! A channel for one value, between tasks of one thread.
//!
//! # Examples
//! ```
//! use corio::sync::local::oneshot;
//! # let mut context = corio::IoContext::new(8)?;
//! # context.block_on(async {
//! let (sender, receiver) = oneshot::channel();
//! corio::spawn(async move { sender.send(std::rc::Rc::new(5)) });
//! assert_eq!(*receiver.await.unwrap(), 5);
//! # });
//! # Ok::<(), corio::SetupError>(())
//! ```

use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::runtime::poll_budget::within_budget;
use crate::runtime::waker::LocalWaker;
pub use crate::sync::oneshot::RecvError;

struct Shared<T> {
    value: RefCell<Option<T>>,
    receiver: Cell<LocalWaker>,
    /// The sender was dropped. Set before the receiver is woken, which may poll at once.
    sender_dropped: Cell<bool>,
}

/// Creates a channel for one value, with one allocation.
///
/// # Examples
/// See the [module](self).
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let shared = Rc::new(Shared {
        value: RefCell::new(None),
        receiver: Cell::new(LocalWaker::NONE),
        sender_dropped: Cell::new(false),
    });
    (Sender { shared: shared.clone() }, Receiver { shared })
}

/// The sending half of a [`channel`].
pub struct Sender<T> {
    shared: Rc<Shared<T>>,
}

/// The receiving half of a [`channel`]: a future.
#[must_use = "a receiver does nothing unless awaited"]
pub struct Receiver<T> {
    shared: Rc<Shared<T>>,
}

impl<T> Sender<T> {
    /// Sends the value, without waiting.
    ///
    /// # Errors
    /// The value, if the receiver was dropped.
    pub fn send(self, value: T) -> Result<(), T> {
        if self.is_closed() {
            return Err(value);
        }
        self.shared.value.replace(Some(value));
        Ok(())
        // Dropping the sender wakes the receiver.
    }

    /// Returns `true` if the receiver was dropped.
    pub fn is_closed(&self) -> bool {
        Rc::strong_count(&self.shared) == 1
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.shared.sender_dropped.set(true);
        self.shared.receiver.replace(LocalWaker::NONE).wake_now();
    }
}

impl<T> Receiver<T> {
    /// Takes the value if it is there, without waiting.
    pub fn try_recv(&mut self) -> Option<T> {
        self.shared.value.take()
    }

    fn poll_value(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, RecvError>> {
        if !self.shared.sender_dropped.get() {
            LocalWaker::update(&self.shared.receiver, cx.waker());
            // A foreign waker's `clone` may have sent the value.
            if !self.shared.sender_dropped.get() {
                return Poll::Pending;
            }
            self.shared.receiver.set(LocalWaker::NONE);
        }
        Poll::Ready(self.try_recv().ok_or(RecvError))
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        // The waker must not keep the task that polled this alive.
        drop(self.shared.receiver.replace(LocalWaker::NONE));
    }
}

impl<T> Future for Receiver<T> {
    type Output = Result<T, RecvError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        within_budget(cx, |cx| self.poll_value(cx))
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
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}
