//! A bounded channel from many senders to one receiver, between tasks and threads.
//!
//! Messages of one sender arrive in the order in which they were sent. If the channel is full,
//! senders wait, first come, first served, so that a fast sender cannot fill the memory of a slow
//! receiver.
//!
//! # Examples
//! ```
//! use corio::sync::mpsc;
//! let (sender, mut receiver) = mpsc::channel(16);
//! let other = sender.clone();
//! std::thread::spawn(move || other.send_blocking("from a thread").unwrap());
//! let mut context = corio::IoContext::new(8)?;
//! context.block_on(async move {
//!     assert_eq!(receiver.recv().await, Some("from a thread"));
//!     sender.send("from a task").await.unwrap();
//!     drop(sender);
//!     assert_eq!(receiver.recv().await, Some("from a task"));
//!     assert_eq!(receiver.recv().await, None); // no sender is left
//! });
//! # Ok::<(), corio::SetupError>(())
//! ```
//!
//! # How it works
//! Messages go through a lock-free queue, which also tells each side whether the other one waits.
//! The list of waiting senders is under a lock, which is taken only when one waits.

// # Why this file has `unsafe`
// The queue (`ring.rs`) requires that there is one receiver.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::ring::{Awaited, Refused, Ring};
use super::wait;
use super::wait_list::{Ticket, Turn, WaitList};
use crate::runtime::poll_budget::within_budget;
use crate::runtime::sync::{AtomicBool, Mutex, MutexGuard, Ordering, lock, yield_now};

struct State {
    receiver: Option<Waker>,
    /// Senders that wait for a free slot.
    waiting: WaitList,
    senders: usize,
}

struct Shared<T> {
    ring: Ring<T>,
    /// Senders wait, so senders that come later must wait, too. (A sender that does not see this
    /// yet does no harm.)
    crowded: AtomicBool,
    state: Mutex<State>,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No foreign code runs under the lock but the `clone` of a sender's waker, which changes
        // nothing.
        lock(&self.state)
    }

    /// Puts a message into the queue, if there is a free slot that no sender waits for.
    fn push(&self, message: T) -> Result<(), Refused<T>> {
        if self.crowded.load(Ordering::Relaxed) && !self.ring.is_closed() {
            return Err(Refused::Full(message));
        }
        if self.ring.push(message)? == Awaited::Yes {
            self.wake_receiver();
        }
        Ok(())
    }

    #[cold]
    fn wake_receiver(&self) {
        let receiver = self.lock().receiver.take();
        if let Some(receiver) = receiver {
            receiver.wake();
        }
    }

    /// Takes a message out of the queue.
    ///
    /// # Safety
    /// Only the one receiver calls this.
    unsafe fn pop(&self) -> Option<T> {
        // SAFETY: the caller is the one receiver.
        let (message, awaited) = unsafe { self.ring.pop() }?;
        if awaited == Awaited::Yes {
            self.wake_senders();
        }
        Some(message)
    }

    #[cold]
    fn wake_senders(&self) {
        let mut wakers = Vec::new();
        self.grant_slots(&mut self.lock(), &mut wakers);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Grants the free slots to waiting senders; adds those to be woken to `wakers`.
    fn grant_slots(&self, state: &mut State, wakers: &mut Vec<Waker>) {
        let free = self.free_slots(!state.waiting.is_empty());
        state.waiting.grant(free, wakers);
    }

    /// Returns the number of free slots, and records whether senders wait for them.
    fn free_slots(&self, crowded: bool) -> usize {
        self.crowded.store(crowded, Ordering::Relaxed);
        self.ring.await_room(crowded)
    }

    /// Puts a message into a slot that was granted to senders which do not use it.
    #[cold]
    fn push_past(&self, message: T) -> Result<(), Refused<T>> {
        if !self.crowded.load(Ordering::Relaxed) {
            return Err(Refused::Full(message));
        }
        let mut state = self.lock();
        if state.waiting.has_waiting() || !state.waiting.suspect() {
            return Err(Refused::Full(message));
        }
        self.free_slots(false);
        drop(state);
        self.push(message)
    }

    fn close(&self) {
        self.ring.close();
        let mut wakers = Vec::new();
        self.lock().waiting.grant_all(&mut wakers);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Creates a channel with room for `capacity` messages, at least one. The memory for all of them is
/// allocated at once.
///
/// # Panics
/// If the messages would not fit into the address space.
///
/// # Examples
/// See the [module](self).
#[doc(alias = "sync_channel")]
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let state = State { receiver: None, waiting: WaitList::new(), senders: 1 };
    let shared = Arc::new(Shared {
        ring: Ring::new(capacity.max(1)),
        crowded: AtomicBool::new(false),
        state: Mutex::new(state),
    });
    (Sender { shared: shared.clone() }, Receiver { shared })
}

/// The sending half of a [`channel`]. Clones send to the same receiver.
///
/// # Examples
/// See the [module](self).
#[doc(alias = "SyncSender")]
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

/// The channel is closed; holds the message that was not sent.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("channel closed: the receiver was dropped, or refuses further messages")]
pub struct SendError<T>(pub T);

/// Why [`Sender::try_send`] sent nothing; holds the message.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TrySendError<T> {
    /// There is no free slot.
    #[error("channel full: wait for room by `send`, or drop the message")]
    Full(T),
    /// The receiver was dropped, or has closed the channel.
    #[error("channel closed: the receiver was dropped, or refuses further messages")]
    Closed(T),
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SendError(..)")
    }
}

impl<T> fmt::Debug for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TrySendError::Full(_) => "Full(..)",
            TrySendError::Closed(_) => "Closed(..)",
        })
    }
}

impl<T> TrySendError<T> {
    /// Returns the message.
    pub fn into_inner(self) -> T {
        match self {
            TrySendError::Full(value) | TrySendError::Closed(value) => value,
        }
    }
}

impl<T> Sender<T> {
    /// Sends a message; waits for a free slot if the channel is full. Dropping the future before it
    /// is done drops the message, unsent.
    ///
    /// # Errors
    /// [`SendError`] with the message, if the receiver was dropped or has closed the channel.
    pub fn send(&self, value: T) -> SendFuture<'_, T> {
        SendFuture { sender: self, value: Some(value), ticket: None }
    }

    /// Sends a message if there is a free slot, without waiting.
    ///
    /// # Errors
    /// [`TrySendError`] with the message, if the channel is full, or closed.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        let pushed = match self.shared.push(value) {
            Err(Refused::Full(value)) => self.shared.push_past(value),
            pushed => pushed,
        };
        pushed.map_err(|refused| match refused {
            Refused::Full(value) => TrySendError::Full(value),
            Refused::Closed(value) => TrySendError::Closed(value),
        })
    }

    /// Sends a message from a plain thread, which is blocked while the channel is full.
    ///
    /// # Errors
    /// [`SendError`] with the message, if the receiver was dropped or has closed the channel.
    ///
    /// # Panics
    /// On a thread that runs a context, if the channel is full: the wait would block the context.
    #[doc(alias = "blocking_send")]
    #[track_caller]
    pub fn send_blocking(&self, value: T) -> Result<(), SendError<T>> {
        match self.try_send(value) {
            Ok(()) => Ok(()),
            Err(TrySendError::Closed(value)) => Err(SendError(value)),
            Err(TrySendError::Full(value)) => wait(self.send(value)),
        }
    }

    /// Returns `true` if the receiver was dropped, or has closed the channel.
    pub fn is_closed(&self) -> bool {
        self.shared.ring.is_closed()
    }

    /// Returns how many messages the channel has room for in all.
    pub fn capacity(&self) -> usize {
        self.shared.ring.capacity()
    }

    /// Closes the channel from this side: the receiver gets what was sent, and then the end.
    pub(crate) fn close(&self) {
        self.shared.close();
        self.shared.wake_receiver();
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
        let last = state.senders == 0;
        drop(state);
        if last {
            self.shared.wake_receiver();
        }
    }
}

/// The future returned by [`Sender::send`].
#[must_use = "nothing is sent unless this is awaited"]
pub struct SendFuture<'a, T> {
    sender: &'a Sender<T>,
    value: Option<T>,
    ticket: Option<Ticket>,
}

// The message is not pinned here.
impl<T> Unpin for SendFuture<'_, T> {}

impl<T> Future for SendFuture<'_, T> {
    type Output = Result<(), SendError<T>>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.ticket.is_some() {
            return self.wait(cx);
        }
        within_budget(cx, |cx| {
            let value = self.take();
            match self.sender.shared.push(value) {
                Ok(()) => Poll::Ready(Ok(())),
                Err(Refused::Closed(value)) => Poll::Ready(Err(SendError(value))),
                Err(Refused::Full(value)) => {
                    self.value = Some(value);
                    self.wait(cx)
                }
            }
        })
    }
}

impl<T> SendFuture<'_, T> {
    /// Waits on the list for a slot, and sends when one is granted.
    #[cold]
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError<T>>> {
        let shared = &*self.sender.shared;
        let mut state = shared.lock();
        let mut wakers = Vec::new();
        let result = loop {
            let mut granted = None;
            if !shared.ring.is_closed() {
                let free = shared.free_slots(true);
                match state.waiting.poll(&mut self.ticket, cx.waker(), free, &mut wakers) {
                    Turn::Granted(ticket) => granted = Some(ticket),
                    Turn::Waits(waits) => {
                        drop(state);
                        waits.wake(wakers, cx.waker());
                        return Poll::Pending;
                    }
                }
            }
            match shared.ring.push(self.take()) {
                Ok(awaited) => break Ok(awaited),
                Err(Refused::Closed(value)) => break Err(SendError(value)),
                // A sender that did not see the crowd was faster. This one keeps its place.
                Err(Refused::Full(value)) => {
                    self.value = Some(value);
                    if let Some(ticket) = granted {
                        state.waiting.wait_again(ticket, cx.waker().clone());
                    }
                }
            }
        };
        let own = self.ticket.take().and_then(|ticket| state.waiting.leave(ticket));
        shared.grant_slots(&mut state, &mut wakers);
        drop(state);
        drop(own);
        if matches!(result, Ok(Awaited::Yes)) {
            shared.wake_receiver();
        }
        // This task's own waker may be among them, which does no harm.
        wakers.into_iter().for_each(Waker::wake);
        Poll::Ready(result.map(drop))
    }

    fn take(&mut self) -> T {
        self.value.take().expect("the future of `Sender::send` was polled after it had completed")
    }
}

impl<T> Drop for SendFuture<'_, T> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let shared = &*self.sender.shared;
        let mut wakers = Vec::new();
        let mut state = shared.lock();
        let waker = state.waiting.leave(ticket);
        // A slot that was granted to it goes to the next.
        shared.grant_slots(&mut state, &mut wakers);
        drop(state);
        drop(waker);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// The receiving half of a [`channel`].
///
/// # Examples
/// See the [module](self).
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
}

/// Why there is no message to receive at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TryRecvError {
    /// No message has arrived yet.
    #[error("channel empty: no message has arrived yet")]
    Empty,
    /// All messages are received, and all senders were dropped.
    #[error("channel closed: it is empty, and all senders were dropped")]
    #[doc(alias = "Disconnected")]
    Closed,
}

impl<T> Receiver<T> {
    /// Receives the next message; `None` when no sender is left and all messages are received.
    /// Cancel-safe: a future that is dropped has taken nothing.
    pub async fn recv(&mut self) -> Option<T> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Polls for the next message, as [`recv`](Self::recv) does; for futures written by hand.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        within_budget(cx, |cx| match self.next(Some(cx)) {
            Ok(value) => Poll::Ready(Some(value)),
            Err(TryRecvError::Closed) => Poll::Ready(None),
            Err(TryRecvError::Empty) => Poll::Pending,
        })
    }

    /// Receives the next message if it is there, without waiting.
    ///
    /// # Errors
    /// [`TryRecvError`] says whether there may be one later.
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        self.next(None)
    }

    /// Receives the next message on a plain thread, which is blocked until there is one; `None`
    /// when no sender is left and all messages are received.
    ///
    /// # Panics
    /// On a thread that runs a context, which the wait would block.
    #[doc(alias = "blocking_recv")]
    #[track_caller]
    pub fn recv_blocking(&mut self) -> Option<T> {
        wait(self.recv())
    }

    /// Refuses further messages; those that were sent can still be received.
    pub fn close(&mut self) {
        self.shared.close();
    }

    /// Drops the stored waker: nothing waits for a message any more.
    pub(crate) fn drop_waker(&mut self) {
        let waker = self.shared.lock().receiver.take();
        drop(waker);
    }

    /// Takes the next message. With a context, the task is woken when there is a new one.
    #[inline]
    fn next(&mut self, cx: Option<&mut Context<'_>>) -> Result<T, TryRecvError> {
        // SAFETY: this is the one receiver, borrowed mutably.
        match unsafe { self.shared.pop() } {
            Some(message) => Ok(message),
            None => self.wait(cx),
        }
    }

    #[cold]
    fn wait(&mut self, cx: Option<&mut Context<'_>>) -> Result<T, TryRecvError> {
        let shared = &*self.shared;
        // Cloned without the lock: a foreign waker's `clone` may send a message.
        let waker = cx.as_ref().map(|cx| cx.waker().clone());
        let mut state = shared.lock();
        let old = waker.and_then(|waker| state.receiver.replace(waker));
        let closed = state.senders == 0 || shared.ring.is_closed();
        drop(state);
        drop(old);
        let empty = shared.ring.await_message();
        // SAFETY: as in `next`, this is the one receiver, borrowed mutably.
        if let Some(message) = unsafe { shared.pop() } {
            return Ok(message);
        }
        if empty && closed {
            return Err(TryRecvError::Closed);
        }
        if let Some(cx) = cx.filter(|_| !empty) {
            // A sender that did not see the wait is writing its message at this moment, unless its
            // thread was preempted.
            yield_now();
            cx.waker().wake_by_ref();
        }
        Err(TryRecvError::Empty)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.close();
        self.drop_waker();
        // A message that a sender is still writing is dropped with the last sender.
        // SAFETY: this is the one receiver, borrowed mutably.
        while unsafe { self.shared.pop() }.is_some() {}
    }
}

// No call leaves a message or a count half changed when foreign code (a waker) panics.
impl<T> UnwindSafe for Sender<T> {}
impl<T> RefUnwindSafe for Sender<T> {}
impl<T> UnwindSafe for Receiver<T> {}
impl<T> RefUnwindSafe for Receiver<T> {}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("capacity", &self.capacity()).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let capacity = self.shared.ring.capacity();
        f.debug_struct("Receiver").field("capacity", &capacity).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for SendFuture<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendFuture").field("waits", &self.ticket.is_some()).finish_non_exhaustive()
    }
}

#[cfg(all(test, loom))]
mod models {
    use loom::future::block_on;
    use loom::thread;

    use super::*;

    /// Checks all schedules with at most three forced preemptions; all schedules would be too many.
    fn model(body: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(body);
    }

    /// Free slots are counted without a lock: the one that a sender waits for must not be missed.
    #[test]
    fn a_sender_that_waits_gets_the_slot_that_becomes_free() {
        model(|| {
            let (sender, mut receiver) = channel(1);
            let sending = thread::spawn(move || {
                block_on(sender.send(1)).unwrap();
                block_on(sender.send(2)).unwrap();
            });
            assert_eq!(block_on(receiver.recv()), Some(1));
            assert_eq!(block_on(receiver.recv()), Some(2));
            assert_eq!(block_on(receiver.recv()), None);
            sending.join().unwrap();
        });
    }

    #[test]
    fn two_senders_share_one_slot() {
        model(|| {
            let (sender, mut receiver) = channel(1);
            let other = sender.clone();
            let sending = thread::spawn(move || block_on(other.send(1)).unwrap());
            sender.try_send(2).map_err(|_| ()).ok();
            drop(sender);
            let mut received = 0;
            while block_on(receiver.recv()).is_some() {
                received += 1;
            }
            assert!((1..=2).contains(&received));
            sending.join().unwrap();
        });
    }

    #[test]
    fn dropping_the_receiver_ends_a_waiting_send() {
        model(|| {
            let (sender, receiver) = channel(1);
            sender.try_send(1).unwrap();
            let sending = thread::spawn(move || assert!(block_on(sender.send(2)).is_err()));
            drop(receiver);
            sending.join().unwrap();
        });
    }
}
