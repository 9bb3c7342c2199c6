//! The latest value of something, for any number of watchers on any threads: a configuration, a
//! state, a request to stop.
//!
//! # Examples
//! ```
//! use corio::sync::watch;
//! let (sender, mut receiver) = watch(1);
//! assert_eq!(receiver.get(), 1);
//! sender.send(2);
//! sender.send(3);
//! let mut context = corio::IoContext::new(8)?;
//! context.block_on(async move {
//!     receiver.changed().await.unwrap();
//!     assert_eq!(receiver.get(), 3); // the one between was never seen
//!     drop(sender);
//!     assert!(receiver.changed().await.is_err());
//! });
//! # Ok::<(), corio::SetupError>(())
//! ```

use std::fmt;
use std::sync::Arc;
use std::task::{Poll, Waker};

use crate::runtime::sync::{Mutex, MutexGuard, lock};

struct State<T> {
    value: T,
    /// Counts the values sent.
    version: u64,
    /// One place per receiver that has waited, and the places that are free again.
    waiting: Vec<Option<Waker>>,
    free: Vec<usize>,
    senders: usize,
}

impl<T> State<T> {
    /// What there is to tell whoever has seen the version `seen`, which is told of it.
    fn news_since(&self, seen: &mut u64) -> Poll<Result<(), Closed>> {
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
        // A closure of `send_with`, or a `clone` of `get`, may have panicked: the value is whole.
        lock(&self.0)
    }

    fn wake(&self, mut state: MutexGuard<'_, State<T>>) {
        let wakers: Vec<Waker> = state.waiting.iter_mut().filter_map(Option::take).collect();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Makes a value that can be watched.
pub fn watch<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let state = State { value, version: 0, waiting: Vec::new(), free: Vec::new(), senders: 1 };
    let shared = Arc::new(Shared(Mutex::new(state)));
    (Sender { shared: shared.clone() }, Receiver { shared, seen: 0, place: None })
}

/// The end that changes the value; see [`watch`](watch()). Clones change the same value.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Sender<T> {
    /// Replaces the value, and wakes whoever waits for a change.
    pub fn send(&self, value: T) {
        let mut state = self.shared.lock();
        let old = std::mem::replace(&mut state.value, value);
        state.version += 1;
        self.shared.wake(state);
        drop(old);
    }

    /// Changes the value in place, under a lock, and wakes whoever waits for a change.
    pub fn send_with(&self, change: impl FnOnce(&mut T)) {
        let mut state = self.shared.lock();
        change(&mut state.value);
        state.version += 1;
        self.shared.wake(state);
    }

    /// One more watcher, for whom the present value is not new.
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

/// The end that watches; see [`watch`](watch()). A clone has seen what its original has.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
    /// Its place among those that wait.
    place: Option<usize>,
}

/// No sender is left, so the value will not change any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody is left who could change the value")]
pub struct Closed;

impl<T> Receiver<T> {
    /// The present value. It stays new for [`changed`](Self::changed) if it was.
    pub fn get(&self) -> T
    where
        T: Clone,
    {
        self.shared.lock().value.clone()
    }

    /// Looks at the present value, under a lock.
    pub fn with<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.shared.lock().value)
    }

    /// Whether the value is one that [`changed`](Self::changed) has not told of.
    pub fn has_changed(&self) -> bool {
        self.shared.lock().version != self.seen
    }

    /// Waits for a value that it has not told of yet. Cancel-safe.
    ///
    /// # Errors
    /// [`Closed`] if there is none, and no sender is left.
    pub async fn changed(&mut self) -> Result<(), Closed> {
        let Receiver { shared, seen, place } = self;
        std::future::poll_fn(|cx| {
            let news = shared.lock().news_since(seen);
            if news.is_ready() {
                return news;
            }
            // Made without the lock: a foreign waker's `clone` may send a value.
            let waker = cx.waker().clone();
            let mut state = shared.lock();
            let news = state.news_since(seen);
            if news.is_ready() {
                return news;
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
        })
        .await
    }

    /// Waits until the value, perhaps the present one, is as wanted. Cancel-safe.
    ///
    /// # Errors
    /// [`Closed`] if it is not, and no sender is left.
    pub async fn wait_for(&mut self, mut wanted: impl FnMut(&T) -> bool) -> Result<(), Closed> {
        loop {
            // Not to be told of what it is about to look at.
            let (found, seen) = {
                let state = self.shared.lock();
                (wanted(&state.value), state.version)
            };
            self.seen = seen;
            if found {
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
