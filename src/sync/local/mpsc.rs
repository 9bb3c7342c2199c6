//! A bounded channel from many senders to one receiver, between tasks of one thread.
//!
//! # Examples
//! ```
//! use corio::sync::local::mpsc;
//! # let mut context = corio::IoContext::new(8)?;
//! # context.block_on(async {
//! let (sender, mut receiver) = mpsc::channel(2);
//! corio::spawn(async move {
//!     for n in 0..10 {
//!         sender.send(std::rc::Rc::new(n)).await.unwrap();
//!     }
//! });
//! let mut sum = 0;
//! while let Some(n) = receiver.recv().await {
//!     sum += *n;
//! }
//! assert_eq!(sum, 45);
//! # });
//! # Ok::<(), corio::SetupError>(())
//! ```

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;
use std::task::{Context, Poll};

use super::semaphore::{Permit, Semaphore};
use crate::runtime::poll_budget::within_budget;
use crate::runtime::waker::LocalWaker;
pub use crate::sync::mpsc::{SendError, TryRecvError, TrySendError};

struct Shared<T> {
    room: Semaphore,
    queue: RefCell<VecDeque<T>>,
    receiver: Cell<LocalWaker>,
    senders: Cell<usize>,
    closed: Cell<bool>,
}

impl<T> Shared<T> {
    fn push(&self, permit: Permit<'_>, value: T) {
        permit.forget();
        self.queue.borrow_mut().push_back(value);
        self.receiver.replace(LocalWaker::NONE).wake_now();
    }
}

/// Creates a channel with room for `capacity` messages, at least one.
///
/// # Examples
/// See the [module](self).
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Rc::new(Shared {
        room: Semaphore::new(capacity.max(1)),
        queue: RefCell::default(),
        receiver: Cell::new(LocalWaker::NONE),
        senders: Cell::new(1),
        closed: Cell::new(false),
    });
    (Sender { shared: shared.clone() }, Receiver { shared })
}

/// The sending half of a [`channel`]. Clones send to the same receiver.
pub struct Sender<T> {
    shared: Rc<Shared<T>>,
}

impl<T> Sender<T> {
    /// Sends a message; waits for room if the channel is full. Dropping the future before it is
    /// done drops the message, unsent.
    ///
    /// # Errors
    /// [`SendError`] with the message, if the receiver was dropped or has closed the channel.
    pub async fn send(&self, value: T) -> Result<(), SendError<T>> {
        match self.shared.room.acquire(1).await {
            // The channel may have been closed since room was granted.
            Ok(permit) if !self.is_closed() => {
                self.shared.push(permit, value);
                Ok(())
            }
            _ => Err(SendError(value)),
        }
    }

    /// Sends a message if there is room, without waiting.
    ///
    /// # Errors
    /// [`TrySendError`] with the message, if the channel is full, or closed.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        match self.shared.room.try_acquire(1) {
            Some(permit) => {
                self.shared.push(permit, value);
                Ok(())
            }
            None if self.is_closed() => Err(TrySendError::Closed(value)),
            None => Err(TrySendError::Full(value)),
        }
    }

    /// Returns `true` if the receiver was dropped, or has closed the channel.
    pub fn is_closed(&self) -> bool {
        self.shared.closed.get()
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.senders.set(self.shared.senders.get() + 1);
        Sender { shared: self.shared.clone() }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let remaining = self.shared.senders.get() - 1;
        self.shared.senders.set(remaining);
        if remaining == 0 {
            self.shared.receiver.replace(LocalWaker::NONE).wake_now();
        }
    }
}

/// The receiving half of a [`channel`].
pub struct Receiver<T> {
    shared: Rc<Shared<T>>,
}

impl<T> Receiver<T> {
    /// Receives the next message; `None` when no sender is left and all messages are received.
    /// Cancel-safe: a future that is dropped has taken nothing.
    pub async fn recv(&mut self) -> Option<T> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Polls for the next message, as [`recv`](Self::recv) does; for futures written by hand.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        within_budget(cx, |cx| {
            let mut received = self.try_recv();
            if matches!(received, Err(TryRecvError::Empty)) {
                LocalWaker::update(&self.shared.receiver, cx.waker());
                // A foreign waker's `clone` may have sent something.
                received = self.try_recv();
                if matches!(received, Err(TryRecvError::Empty)) {
                    return Poll::Pending;
                }
                self.shared.receiver.set(LocalWaker::NONE);
            }
            Poll::Ready(received.ok())
        })
    }

    /// Receives the next message if it is there, without waiting.
    ///
    /// # Errors
    /// [`TryRecvError`] says whether there may be one later.
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        let value = self.shared.queue.borrow_mut().pop_front();
        match value {
            Some(value) => {
                self.shared.room.add_permits(1);
                Ok(value)
            }
            None if self.shared.senders.get() == 0 || self.shared.closed.get() => {
                Err(TryRecvError::Closed)
            }
            None => Err(TryRecvError::Empty),
        }
    }

    /// Refuses further messages; those that were sent can still be received.
    pub fn close(&mut self) {
        self.shared.closed.set(true);
        self.shared.room.close();
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.close();
        // The waker must not keep the task that polled this alive.
        drop(self.shared.receiver.replace(LocalWaker::NONE));
        let unreceived = self.shared.queue.take();
        drop(unreceived);
    }
}

// No call leaves a message or a count half changed when foreign code (a waker) panics.
impl<T> UnwindSafe for Sender<T> {}
impl<T> RefUnwindSafe for Sender<T> {}
impl<T> UnwindSafe for Receiver<T> {}
impl<T> RefUnwindSafe for Receiver<T> {}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}
