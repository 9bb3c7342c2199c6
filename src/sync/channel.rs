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
//! context.run_until_done(async move {
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
//! Senders push under a lock. The receiver takes everything there is under the lock, and hands it
//! out one by one without: one lock for many messages. A slot is free again when its message is
//! handed out, which the receiver counts in `freed`; whoever finds no slot adds that up. A sender
//! that waits says so in `crowded` *before* it looks at `freed` for the last time, and the receiver
//! looks at `crowded` *after* it has counted, so that one of them sees the other.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::wait;
use crate::runtime::sync::{AtomicBool, AtomicUsize, Mutex, MutexGuard, Ordering, lock};

/// After so many messages without a wait, the receiver lets other tasks have their turn.
const STREAK: u32 = 128;

struct State<T> {
    queue: VecDeque<T>,
    /// Free slots that are known of; see `Shared::freed`.
    room: usize,
    receiver: Option<Waker>,
    /// Senders that wait for a slot, in the order of their tickets.
    waiting: VecDeque<Waiting>,
    next_ticket: u64,
    senders: usize,
    closed: bool,
}

struct Waiting {
    ticket: u64,
    /// `None`: there is a slot for it.
    waker: Option<Waker>,
}

pub(crate) struct Shared<T> {
    state: Mutex<State<T>>,
    /// Slots that the receiver has freed since somebody last looked.
    freed: AtomicUsize,
    /// Somebody waits for a slot.
    crowded: AtomicBool,
    capacity: usize,
}

impl<T> State<T> {
    /// Whether somebody waits in vain. Slots are given in order, so the last one tells.
    fn is_crowded(&self) -> bool {
        self.waiting.back().is_some_and(|last| last.waker.is_some())
    }

    fn find(&self, ticket: u64) -> Option<usize> {
        self.waiting.binary_search_by_key(&ticket, |waiting| waiting.ticket).ok()
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No foreign code runs under the lock, but for a waker's clone, which changes nothing.
        lock(&self.state)
    }

    /// Takes a free slot, if there is one that nobody waits for.
    fn take_slot(&self, state: &mut State<T>) -> bool {
        if state.room == 0 {
            state.room = self.freed.swap(0, Ordering::SeqCst);
        }
        let free = state.room > 0 && !state.is_crowded();
        state.room -= usize::from(free);
        free
    }

    /// Gives free slots to those who wait, in order; returns whom to wake.
    fn grant(&self, state: &mut State<T>) -> Vec<Waker> {
        state.room += self.freed.swap(0, Ordering::SeqCst);
        let mut wakers = Vec::new();
        for waiting in state.waiting.iter_mut().filter(|waiting| waiting.waker.is_some()) {
            if state.room == 0 {
                return wakers;
            }
            state.room -= 1;
            wakers.extend(waiting.waker.take());
        }
        self.crowded.store(false, Ordering::SeqCst);
        wakers
    }

    /// Puts a message into a slot that the caller has; wakes the receiver if it waits.
    fn push(&self, mut state: MutexGuard<'_, State<T>>, value: T) {
        state.queue.push_back(value);
        let receiver = state.receiver.take();
        drop(state);
        if let Some(receiver) = receiver {
            receiver.wake();
        }
    }

    /// The receiver has handed a message out.
    fn free_slot(&self) {
        self.freed.fetch_add(1, Ordering::SeqCst);
        if self.crowded.load(Ordering::SeqCst) {
            self.let_in();
        }
    }

    #[cold]
    fn let_in(&self) {
        let wakers = self.grant(&mut self.lock());
        wakers.into_iter().for_each(Waker::wake);
    }

    fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let wakers: Vec<_> =
            state.waiting.iter_mut().filter_map(|waiting| waiting.waker.take()).collect();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Makes a channel with room for `capacity` messages, at least one.
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let capacity = capacity.max(1);
    let state = State {
        queue: VecDeque::new(),
        room: capacity,
        receiver: None,
        waiting: VecDeque::new(),
        next_ticket: 0,
        senders: 1,
        closed: false,
    };
    let shared = Arc::new(Shared {
        state: Mutex::new(state),
        freed: AtomicUsize::new(0),
        crowded: AtomicBool::new(false),
        capacity,
    });
    (Sender { shared: shared.clone() }, Receiver { shared, taken: VecDeque::new(), streak: 0 })
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
    pub fn send(&self, value: T) -> Sending<'_, T> {
        Sending { sender: self, value: Some(value), ticket: None }
    }

    /// Sends a message if there is a free slot for it.
    ///
    /// # Errors
    /// The message, if there is none or the receiver is gone.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        let mut state = self.shared.lock();
        if state.closed {
            return Err(TrySendError::Closed(value));
        }
        if !self.shared.take_slot(&mut state) {
            drop(state);
            return Err(TrySendError::Full(value));
        }
        self.shared.push(state, value);
        Ok(())
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
        self.shared.lock().closed
    }

    /// How many messages have room.
    pub fn capacity(&self) -> usize {
        self.shared.capacity
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
        let receiver = if state.senders == 0 { state.receiver.take() } else { None };
        drop(state);
        if let Some(receiver) = receiver {
            receiver.wake();
        }
    }
}

/// A message on its way; see [`Sender::send`].
#[must_use = "nothing is sent unless this is awaited"]
pub struct Sending<'a, T> {
    sender: &'a Sender<T>,
    value: Option<T>,
    ticket: Option<u64>,
}

// The message is not pinned here.
impl<T> Unpin for Sending<'_, T> {}

impl<T> Future for Sending<'_, T> {
    type Output = Result<(), SendError<T>>;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let shared = &*self.sender.shared;
        let mut state = shared.lock();
        let place = self.ticket.and_then(|ticket| state.find(ticket));
        if state.closed {
            if let Some(place) = place {
                state.waiting.remove(place);
            }
            drop(state);
            self.ticket = None;
            return Poll::Ready(Err(SendError(self.take())));
        }
        if let Some(place) = place {
            if let Some(waker) = &mut state.waiting[place].waker {
                let old = std::mem::replace(waker, cx.waker().clone());
                drop(state);
                drop(old);
                return Poll::Pending;
            }
            state.waiting.remove(place);
        } else if !shared.take_slot(&mut state) {
            return self.wait(state, cx);
        }
        self.ticket = None;
        let value = self.take();
        shared.push(state, value);
        Poll::Ready(Ok(()))
    }
}

impl<T> Sending<'_, T> {
    /// Gets into the queue for a slot, unless one has become free just now.
    fn wait(
        &mut self,
        mut state: MutexGuard<'_, State<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendError<T>>> {
        let shared = &*self.sender.shared;
        // Said before `freed` is looked at for the last time.
        shared.crowded.store(true, Ordering::SeqCst);
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.waiting.push_back(Waiting { ticket, waker: Some(cx.waker().clone()) });
        let wakers = shared.grant(&mut state);
        if state.is_crowded() {
            drop(state);
            self.ticket = Some(ticket);
            wakers.into_iter().for_each(Waker::wake);
            return Poll::Pending;
        }
        state.waiting.pop_back();
        shared.push(state, self.take());
        // One of them is our own, to no harm.
        wakers.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(()))
    }

    fn take(&mut self) -> T {
        self.value.take().expect("a message is not sent twice: the future was polled after its end")
    }
}

impl<T> Drop for Sending<'_, T> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let shared = &*self.sender.shared;
        let mut state = shared.lock();
        let Some(place) = state.find(ticket) else { return };
        let waiting = state.waiting.remove(place);
        // A slot that it was given goes to the next.
        let mut wakers = Vec::new();
        if waiting.as_ref().is_some_and(|waiting| waiting.waker.is_none()) {
            state.room += 1;
            wakers = shared.grant(&mut state);
        }
        drop(state);
        drop(waiting);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// The end that receives; see [`channel`](channel()).
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    /// Taken from the queue, not yet handed out.
    taken: VecDeque<T>,
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

    /// With a context: it is woken when there is something new.
    fn next(&mut self, cx: Option<&mut Context<'_>>) -> Result<T, TryRecvError> {
        if self.taken.is_empty() {
            let mut state = self.shared.lock();
            if state.queue.is_empty() {
                if state.senders == 0 || state.closed {
                    return Err(TryRecvError::Closed);
                }
                if let Some(cx) = cx {
                    let old = state.receiver.replace(cx.waker().clone());
                    drop(state);
                    drop(old);
                }
                return Err(TryRecvError::Empty);
            }
            std::mem::swap(&mut state.queue, &mut self.taken);
        }
        let value = self.taken.pop_front().expect("there is one");
        self.shared.free_slot();
        Ok(value)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.close();
        let mut state = self.shared.lock();
        let left = (std::mem::take(&mut state.queue), state.receiver.take());
        drop(state);
        drop(left);
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("capacity", &self.capacity()).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let capacity = self.shared.capacity;
        f.debug_struct("Receiver").field("capacity", &capacity).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Sending<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sending").field("waits", &self.ticket.is_some()).finish_non_exhaustive()
    }
}

#[cfg(all(test, loom))]
mod models {
    use loom::future::block_on;
    use loom::thread;

    use super::*;

    /// The slot that a sender waits for is counted without a lock: it must not be missed.
    #[test]
    fn a_sender_that_waits_gets_the_slot_that_becomes_free() {
        loom::model(|| {
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
        loom::model(|| {
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
        loom::model(|| {
            let (sender, receiver) = channel(1);
            sender.try_send(1).unwrap();
            let sending = thread::spawn(move || assert!(block_on(sender.send(2)).is_err()));
            drop(receiver);
            sending.join().unwrap();
        });
    }
}
