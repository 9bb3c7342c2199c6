//! A channel that keeps only the latest value, for any number of receivers on any threads: a
//! configuration, a state, a request to stop.
//!
//! # Examples
//! ```
//! use corio::sync::watch;
//! let (sender, mut receiver) = watch::channel(1);
//! assert_eq!(receiver.get(), 1);
//! sender.send(2);
//! sender.send(3);
//! let mut context = corio::IoContext::new(8)?;
//! context.block_on(async move {
//!     receiver.changed().await.unwrap();
//!     assert_eq!(receiver.get(), 3); // 2 was never seen
//!     drop(sender);
//!     assert!(receiver.changed().await.is_err());
//! });
//! # Ok::<(), corio::SetupError>(())
//! ```

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::error::debug_as_display;
use crate::runtime::poll_budget::within_budget;
use crate::runtime::sync::{Mutex, MutexGuard, lock};

struct State<T> {
    value: T,
    /// Counts the values sent.
    version: u64,
    /// One place for each receiver that has waited.
    waiting: Vec<Option<Waker>>,
    /// The places in `waiting` of receivers that were dropped.
    free: Vec<usize>,
    senders: usize,
}

impl<T> State<T> {
    /// Returns ready, and updates `seen`, if the value is newer than the version `seen`; or if
    /// there will be no newer one.
    fn poll_changed(&self, seen: &mut u64) -> Poll<Result<(), Closed>> {
        if self.version != *seen {
            *seen = self.version;
            return Poll::Ready(Ok(()));
        }
        if self.senders == 0 { Poll::Ready(Err(Closed)) } else { Poll::Pending }
    }
}

struct Shared<T>(Mutex<State<T>>);

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // A closure of `send_with`, or a `clone` in `get`, may have panicked; the value is whole.
        lock(&self.0)
    }

    fn wake(&self, mut state: MutexGuard<'_, State<T>>) {
        let wakers: Vec<Waker> = state.waiting.iter_mut().filter_map(Option::take).collect();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Creates a channel that holds `value`.
///
/// # Examples
/// See the [module](self).
pub fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let state = State { value, version: 0, waiting: Vec::new(), free: Vec::new(), senders: 1 };
    let shared = Arc::new(Shared(Mutex::new(state)));
    (Sender { shared: shared.clone() }, Receiver { shared, seen: 0, place: None })
}

/// The sending half of a [`channel`]. Clones change the same value.
///
/// # Examples
/// See the [module](self).
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Sender<T> {
    /// Replaces the value, and wakes all receivers that wait for a change.
    pub fn send(&self, value: T) {
        let mut state = self.shared.lock();
        let old = std::mem::replace(&mut state.value, value);
        state.version += 1;
        self.shared.wake(state);
        drop(old);
    }

    /// Changes the value in place, under a lock, and wakes all receivers that wait for a change.
    #[doc(alias = "send_modify")]
    pub fn send_with(&self, change: impl FnOnce(&mut T)) {
        let mut state = self.shared.lock();
        change(&mut state.value);
        state.version += 1;
        self.shared.wake(state);
    }

    /// Creates one more receiver, which counts the current value as seen.
    pub fn subscribe(&self) -> Receiver<T> {
        let seen = self.shared.lock().version;
        Receiver { shared: self.shared.clone(), seen, place: None }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.lock().senders += 1;
        Sender { shared: self.shared.clone() }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.senders -= 1;
        if state.senders == 0 {
            self.shared.wake(state);
        }
    }
}

/// The receiving half of a [`channel`]. A clone has seen the values that its original has seen.
///
/// # Examples
/// See the [module](self).
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
    /// Its place in `State::waiting`.
    place: Option<usize>,
}

/// All senders were dropped, so the value will not change any more.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("watch channel closed: all senders were dropped")]
pub struct Closed;

debug_as_display!(Closed);

impl<T> Receiver<T> {
    /// Returns the current value. [`changed`](Self::changed) still reports it if it was new.
    pub fn get(&self) -> T
    where
        T: Clone,
    {
        self.shared.lock().value.clone()
    }

    /// Calls `look` with the current value, under a lock, and returns its result.
    #[doc(alias = "borrow")]
    pub fn with<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.shared.lock().value)
    }

    /// Returns `true` if there is a value that [`changed`](Self::changed) has not reported yet.
    pub fn has_changed(&self) -> bool {
        self.shared.lock().version != self.seen
    }

    /// Waits for a value that it has not reported yet. Cancel-safe.
    ///
    /// # Errors
    /// [`Closed`] if there is none, and no sender is left.
    pub async fn changed(&mut self) -> Result<(), Closed> {
        poll_fn(|cx| within_budget(cx, |cx| self.poll_changed(cx))).await
    }

    fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        let Receiver { shared, seen, place } = self;
        let changed = shared.lock().poll_changed(seen);
        if changed.is_ready() {
            return changed;
        }
        // Cloned without the lock: a foreign waker's `clone` may send a value.
        let waker = cx.waker().clone();
        let mut state = shared.lock();
        let changed = state.poll_changed(seen);
        if changed.is_ready() {
            return changed;
        }
        let place = *place.get_or_insert_with(|| match state.free.pop() {
            Some(place) => place,
            None => {
                state.waiting.push(None);
                state.waiting.len() - 1
            }
        });
        let old = state.waiting[place].replace(waker);
        drop(state);
        drop(old);
        Poll::Pending
    }

    /// Waits until `wanted` returns `true` for the current or a later value. Cancel-safe.
    ///
    /// # Errors
    /// [`Closed`] if no such value came, and no sender is left.
    pub async fn wait_for(&mut self, mut wanted: impl FnMut(&T) -> bool) -> Result<(), Closed> {
        loop {
            // The value looked at here counts as reported.
            let mut look = || {
                let state = self.shared.lock();
                let found = wanted(&state.value);
                self.seen = state.version;
                found
            };
            if poll_fn(|cx| within_budget(cx, |_| Poll::Ready(look()))).await {
                return Ok(());
            }
            self.changed().await?;
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Receiver { shared: self.shared.clone(), seen: self.seen, place: None }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let Some(place) = self.place else { return };
        let mut state = self.shared.lock();
        let waker = state.waiting[place].take();
        state.free.push(place);
        drop(state);
        drop(waker);
    }
}

impl<T: fmt::Debug> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with(|value| f.debug_struct("Receiver").field("value", value).finish())
    }
}

impl<T: fmt::Debug> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("value", &self.shared.lock().value).finish()
    }
}
