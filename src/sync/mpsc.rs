//! A bounded channel from many tasks and threads to one receiver, in order per sender.
//!
//! A channel that is full makes its senders wait, first come, first served: that is what keeps a
//! fast sender from filling the memory of a slow receiver.
//!
//! # Examples
//! ```
//! use corio::sync::channel;
//! let (sender, mut receiver) = channel(16);
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
//! Messages go through a queue without locks, which also tells each side whether the other one waits (`ring.rs`).
//! Who waits, and in which order, is under a lock.
//!
//! # Why this file has `unsafe`
//! The queue relies on there being one receiver.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::ring::{Awaited, Refused, Ring};
use super::wait;
use crate::runtime::sync::{AtomicBool, Mutex, MutexGuard, Ordering, lock, yield_now};

/// After so many messages without a wait, the receiver lets other tasks have their turn.
const STREAK: u32 = 128;

struct State {
    receiver: Option<Waker>,
    /// Senders that wait for a slot, in the order of their tickets.
    waiting: VecDeque<Waiting>,
    next_ticket: u64,
    senders: usize,
}

struct Waiting {
    ticket: u64,
    /// `None`: it is its turn.
    waker: Option<Waker>,
}

struct Shared<T> {
    ring: Ring<T>,
    /// Senders wait: those who come later are to wait, too. (One that has not heard of it yet does no harm.)
    crowded: AtomicBool,
    state: Mutex<State>,
}

impl State {
    fn find(&self, ticket: u64) -> Option<usize> {
        self.waiting.binary_search_by_key(&ticket, |waiting| waiting.ticket).ok()
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No foreign code runs under the lock, but for a sender's waker's clone, which changes nothing.
        lock(&self.state)
    }

    /// Puts a message into the queue, if there is room that nobody waits for.
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
    /// Called by the one receiver.
    unsafe fn pop(&self) -> Option<T> {
        // SAFETY: what the caller promises.
        let (message, awaited) = unsafe { self.ring.pop() }?;
        if awaited == Awaited::Yes {
            self.let_in();
        }
        Some(message)
    }

    #[cold]
    fn let_in(&self) {
        let wakers = self.give_turns(&mut self.lock());
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Tells as many of those who wait as there are free slots, in order, that it is their turn; returns
    /// whom to wake.
    fn give_turns(&self, state: &mut State) -> Vec<Waker> {
        let crowded = !state.waiting.is_empty();
        self.crowded.store(crowded, Ordering::Relaxed);
        let mut free = self.ring.await_room(crowded);
        let mut wakers = Vec::new();
        for waiting in &mut state.waiting {
            if free == 0 {
                break;
            }
            free -= 1;
            wakers.extend(waiting.waker.take());
        }
        wakers
    }

    fn close(&self) {
        self.ring.close();
        let mut state = self.lock();
        let wakers: Vec<_> =
            state.waiting.iter_mut().filter_map(|waiting| waiting.waker.take()).collect();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Makes a channel with room for `capacity` messages, at least one. The memory for all of them is allocated at
/// once.
///
/// # Panics
/// If that is more than an address space can hold.
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let state = State { receiver: None, waiting: VecDeque::new(), next_ticket: 0, senders: 1 };
    let shared = Arc::new(Shared {
        ring: Ring::new(capacity.max(1)),
        crowded: AtomicBool::new(false),
        state: Mutex::new(state),
    });
    (Sender { shared: shared.clone() }, Receiver { shared, streak: 0 })
}

/// The end that sends; see [`channel`](channel()). Clones send to the same receiver.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

/// The receiver is gone; here is the message.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody is left who could receive the message")]
pub struct SendError<T>(pub T);

/// The message was not sent; here it is.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TrySendError<T> {
    /// There is no free slot.
    #[error("the channel is full")]
    Full(T),
    /// The receiver is gone.
    #[error("nobody is left who could receive the message")]
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
    /// The message.
    pub fn into_inner(self) -> T {
        match self {
            TrySendError::Full(value) | TrySendError::Closed(value) => value,
        }
    }
}

impl<T> Sender<T> {
    /// Sends a message, waiting for a slot if the channel is full. Dropping the future before it is
    /// done drops the message, unsent.
    ///
    /// # Errors
    /// The message, if the receiver is gone.
    pub fn send(&self, value: T) -> SendFuture<'_, T> {
        SendFuture { sender: self, value: Some(value), ticket: None }
    }

    /// Sends a message if there is a free slot for it.
    ///
    /// # Errors
    /// The message, if there is none or the receiver is gone.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        self.shared.push(value).map_err(|refused| match refused {
            Refused::Full(value) => TrySendError::Full(value),
            Refused::Closed(value) => TrySendError::Closed(value),
        })
    }

    /// Sends a message from a plain thread, which is parked while the channel is full.
    ///
    /// # Errors
    /// The message, if the receiver is gone.
    ///
    /// # Panics
    /// Within a running context, which it would block.
    #[track_caller]
    pub fn send_blocking(&self, value: T) -> Result<(), SendError<T>> {
        match self.try_send(value) {
            Ok(()) => Ok(()),
            Err(TrySendError::Closed(value)) => Err(SendError(value)),
            Err(TrySendError::Full(value)) => wait(self.send(value)),
        }
    }

    /// Whether the receiver is gone, or has closed the channel.
    pub fn is_closed(&self) -> bool {
        self.shared.ring.is_closed()
    }

    /// How many messages have room.
    pub fn capacity(&self) -> usize {
        self.shared.ring.capacity()
    }

    /// Refuses further messages for the receiver, who gets what was sent, and then the end.
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

/// A message on its way; see [`Sender::send`].
#[must_use = "nothing is sent unless this is awaited"]
pub struct SendFuture<'a, T> {
    sender: &'a Sender<T>,
    value: Option<T>,
    ticket: Option<u64>,
}

// The message is not pinned here.
impl<T> Unpin for SendFuture<'_, T> {}

impl<T> Future for SendFuture<'_, T> {
    type Output = Result<(), SendError<T>>;

    #[inline]
    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.ticket.is_some() {
            return self.wait(cx);
        }
        let value = self.take();
        match self.sender.shared.push(value) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(Refused::Closed(value)) => Poll::Ready(Err(SendError(value))),
            Err(Refused::Full(value)) => {
                self.value = Some(value);
                self.wait(cx)
            }
        }
    }
}

impl<T> SendFuture<'_, T> {
    /// Stands in the queue for a slot; sends when it is its turn.
    #[cold]
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError<T>>> {
        let shared = &*self.sender.shared;
        let mut state = shared.lock();
        let ticket = *self.ticket.get_or_insert_with(|| {
            let ticket = state.next_ticket;
            state.next_ticket += 1;
            state.waiting.push_back(Waiting { ticket, waker: Some(cx.waker().clone()) });
            ticket
        });
        let mut wakers = Vec::new();
        let result = loop {
            wakers.extend(shared.give_turns(&mut state));
            let place = state.find(ticket).expect("who waits is on the list");
            if let Some(waker) = &mut state.waiting[place].waker
                && !shared.ring.is_closed()
            {
                wakers.push(std::mem::replace(waker, cx.waker().clone()));
                break None;
            }
            match shared.ring.push(self.take()) {
                Ok(awaited) => break Some((place, Ok(awaited))),
                Err(Refused::Closed(value)) => break Some((place, Err(SendError(value)))),
                // Somebody who saw no crowd was faster. It stays its turn, before all others.
                Err(Refused::Full(value)) => {
                    self.value = Some(value);
                    state.waiting[place].waker = Some(cx.waker().clone());
                }
            }
        };
        let Some((place, result)) = result else {
            drop(state);
            // The last one is its own former waker, which is not to be woken.
            drop(wakers.pop());
            wakers.into_iter().for_each(Waker::wake);
            return Poll::Pending;
        };
        let own = state.waiting.remove(place);
        wakers.extend(shared.give_turns(&mut state));
        drop(state);
        drop(own);
        self.ticket = None;
        if matches!(result, Ok(Awaited::Yes)) {
            shared.wake_receiver();
        }
        // Its own may be among them, to no harm.
        wakers.into_iter().for_each(Waker::wake);
        Poll::Ready(result.map(drop))
    }

    fn take(&mut self) -> T {
        self.value.take().expect("a message is not sent twice: the future was polled after its end")
    }
}

impl<T> Drop for SendFuture<'_, T> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let shared = &*self.sender.shared;
        let mut state = shared.lock();
        let Some(place) = state.find(ticket) else { return };
        let waiting = state.waiting.remove(place);
        // If it was its turn, it is the next one's now.
        let wakers = shared.give_turns(&mut state);
        drop(state);
        drop(waiting);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// The end that receives; see [`channel`](channel()).
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    streak: u32,
}

/// There is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TryRecvError {
    /// None at the moment.
    #[error("the channel is empty")]
    Empty,
    /// None, and no sender is left.
    #[error("the channel is empty, and no sender is left")]
    Closed,
}

impl<T> Receiver<T> {
    /// The next message; `None` when no sender is left and all messages are received. Cancel-safe: a
    /// future that is dropped has taken nothing.
    pub async fn recv(&mut self) -> Option<T> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// The same, for futures written by hand.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if self.streak >= STREAK {
            self.streak = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let received = match self.next(Some(cx)) {
            Ok(value) => Some(value),
            Err(TryRecvError::Closed) => None,
            Err(TryRecvError::Empty) => {
                self.streak = 0;
                return Poll::Pending;
            }
        };
        self.streak += 1;
        Poll::Ready(received)
    }

    /// The next message if it is there.
    ///
    /// # Errors
    /// [`TryRecvError`] says whether there may be one later.
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        self.next(None)
    }

    /// The next message, for a plain thread, which is parked until there is one; `None` when no sender
    /// is left.
    ///
    /// # Panics
    /// Within a running context, which it would block.
    #[track_caller]
    pub fn recv_blocking(&mut self) -> Option<T> {
        wait(self.recv())
    }

    /// Refuses further messages; those that were sent can still be received.
    pub fn close(&mut self) {
        self.shared.close();
    }

    /// Nobody waits any more: whoever did is not to be woken, nor kept.
    pub(crate) fn rest(&mut self) {
        let waker = self.shared.lock().receiver.take();
        drop(waker);
    }

    /// With a context: it is woken when there is something new.
    #[inline]
    fn next(&mut self, cx: Option<&mut Context<'_>>) -> Result<T, TryRecvError> {
        // SAFETY: this is the one receiver, borrowed for writing.
        match unsafe { self.shared.pop() } {
            Some(message) => Ok(message),
            None => self.wait(cx),
        }
    }

    #[cold]
    fn wait(&mut self, cx: Option<&mut Context<'_>>) -> Result<T, TryRecvError> {
        let shared = &*self.shared;
        // Made without the lock: a foreign waker's `clone` may send a message.
        let waker = cx.as_ref().map(|cx| cx.waker().clone());
        let mut state = shared.lock();
        let old = waker.and_then(|waker| state.receiver.replace(waker));
        let last_word = state.senders == 0 || shared.ring.is_closed();
        drop(state);
        drop(old);
        let empty = shared.ring.await_message();
        // SAFETY: as in `next`.
        if let Some(message) = unsafe { shared.pop() } {
            return Ok(message);
        }
        if empty && last_word {
            return Err(TryRecvError::Closed);
        }
        if !empty && let Some(cx) = cx {
            // A sender that saw nobody wait is putting a message in at this moment, if it is not kept
            // from its processor.
            yield_now();
            cx.waker().wake_by_ref();
        }
        Err(TryRecvError::Empty)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.close();
        let waker = self.shared.lock().receiver.take();
        drop(waker);
        // What a sender is still putting in goes with the last sender.
        // SAFETY: as in `next`.
        while unsafe { self.shared.pop() }.is_some() {}
    }
}

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

    /// All schedules with at most three switches that nothing forces: all there are would be too many.
    fn model(body: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(body);
    }

    /// The slot that a sender waits for is counted without a lock: it must not be missed.
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
    fn a_receiver_that_goes_turns_a_waiting_sender_away() {
        model(|| {
            let (sender, receiver) = channel(1);
            sender.try_send(1).unwrap();
            let sending = thread::spawn(move || assert!(block_on(sender.send(2)).is_err()));
            drop(receiver);
            sending.join().unwrap();
        });
    }
}
