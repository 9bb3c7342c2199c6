//! The order of whole transfers: those that send on one handle run one after another, in the order
//! of their first polls, and so do those that receive. So no bytes of one come between those of
//! another, whatever number of system calls each takes.
//!
//! A transfer that waits for its place is not in flight: it may be dropped. Single sends and
//! receives have no order, and take no part.

// # Why this file has `unsafe`
// The file of a transfer is dropped by hand, which costs fewer instructions.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::ControlFlow;
use std::task::Waker;

use super::source::Source;
use crate::os;
use crate::runtime::Runtime;

/// Breaks [`prepare`](super::Operation::prepare) of an operation that has to wait for its place:
/// no result of a system call.
pub(super) const WAIT: i32 = i32::MIN;

/// What [`Order`] knows of transfers that send.
pub(super) const SENDING: u8 = 0;

/// What it knows of transfers that receive.
pub(super) const RECEIVING: u8 = 1;

/// The whole transfers of one handle.
#[derive(Default)]
pub(super) struct Order {
    /// For each direction [`BUSY`] and [`WAITED_FOR`]. A byte each, so that the common cases
    /// compare and store it whole.
    states: [Cell<u8>; 2],
    /// Created when a transfer has to wait for the first time.
    queues: Cell<Option<Box<[Queue; 2]>>>,
}

/// A transfer is under way.
const BUSY: u8 = 1;

/// Others wait for its end.
const WAITED_FOR: u8 = 2;

/// The transfers that wait to go on in one direction, in order.
#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiter>,
    last_ticket: Place,
}

#[derive(Debug)]
struct Waiter {
    ticket: Place,
    /// `None`: it is this one's turn.
    waker: Option<Waker>,
    /// How often everything had been cancelled when this began to wait.
    cancels: u64,
}

impl Order {
    /// Takes a place that no transfer has, and none waits for.
    #[inline(always)]
    pub(super) fn take(&self, direction: u8) -> bool {
        let state = &self.states[usize::from(direction)];
        let is_free = state.get() == 0;
        if is_free {
            state.set(BUSY);
        }
        is_free
    }

    /// Gives a place up, unless others wait for it.
    #[inline(always)]
    pub(super) fn give_up(&self, direction: u8) -> bool {
        let state = &self.states[usize::from(direction)];
        let is_last = state.get() == BUSY;
        if is_last {
            state.set(0);
        }
        is_last
    }

    /// Takes a place that no transfer has, whether or not others wait for it.
    fn take_slow(&self, direction: u8) -> bool {
        let state = &self.states[usize::from(direction)];
        let old = state.replace(state.get() | BUSY);
        old & BUSY == 0
    }

    /// Calls `f` with a direction's queue, during which nothing else uses it: `f` calls no foreign
    /// code, nor drops a waker.
    fn with<R>(&self, direction: u8, f: impl FnOnce(&mut Queue) -> R) -> R {
        let mut queues = self.queues.take().unwrap_or_default();
        let result = f(&mut queues[usize::from(direction)]);
        let is_empty = queues[usize::from(direction)].waiting.is_empty();
        let state = &self.states[usize::from(direction)];
        state.set(state.get() & BUSY | if is_empty { 0 } else { WAITED_FOR });
        self.queues.set(Some(queues));
        result
    }

    /// Lets the next transfer run; the one that was under way has ended.
    #[cold]
    fn call_next(&self, direction: u8) {
        let waker = self.with(direction, |queue| queue.waiting.front_mut()?.waker.take());
        match waker {
            Some(waker) => waker.wake(),
            None => {
                let state = &self.states[usize::from(direction)];
                state.set(state.get() & !BUSY);
            }
        }
    }
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Order").field("states", &self.states).finish_non_exhaustive()
    }
}

/// The file of a whole transfer, and the transfer's place among others on it.
#[derive(Debug)]
pub(super) struct Ordered<'a, const DIRECTION: u8> {
    pub(super) source: ManuallyDrop<Source<'a>>,
    place: Place,
}

/// A transfer's place: none, that of the one under way, or else the ticket of one that waits.
type Place = u32;
const NONE: Place = 0;
const HAS: Place = Place::MAX;

impl<'a, const DIRECTION: u8> Ordered<'a, DIRECTION> {
    pub(super) fn new(source: Source<'a>) -> Self {
        Ordered { source: ManuallyDrop::new(source), place: NONE }
    }

    /// Holds the file, and takes the place of this transfer; breaks with [`WAIT`] if others are
    /// before it.
    #[inline(always)]
    pub(super) fn hold(&mut self) -> ControlFlow<i32> {
        // A transfer that has its place comes here again only when its task has yielded.
        if self.source.hold_first(DIRECTION)? {
            self.place = HAS;
            return ControlFlow::Continue(());
        }
        self.hold_later()
    }

    #[cold]
    fn hold_later(&mut self) -> ControlFlow<i32> {
        let own = self.place;
        if own == HAS {
            return ControlFlow::Continue(());
        }
        let Some(order) = self.source.order() else { return ControlFlow::Continue(()) };
        if own == NONE {
            if order.take_slow(DIRECTION) {
                self.place = HAS;
                return ControlFlow::Continue(());
            }
            return ControlFlow::Break(WAIT);
        }
        let begun = order.with(DIRECTION, |queue| {
            let is_called = |first: &&mut Waiter| first.ticket == own && first.waker.is_none();
            queue.waiting.front_mut().filter(is_called)?;
            queue.waiting.pop_front()
        });
        let Some(Waiter { cancels, .. }) = begun else { return ControlFlow::Break(WAIT) };
        self.place = HAS;
        if cancels != Runtime::with(|runtime| runtime.cancels.get()) {
            return ControlFlow::Break(-os::ECANCELED);
        }
        ControlFlow::Continue(())
    }

    /// Waits for the place, after `hold` has broken with [`WAIT`].
    #[cold]
    pub(super) fn wait(&mut self, waker: &Waker) {
        let Some(order) = self.source.order() else { return };
        let (waker, place) = (waker.clone(), self.place);
        let cancels = Runtime::with(|runtime| runtime.cancels.get());
        let (ticket, old) = order.with(DIRECTION, |queue| {
            let own = |waiter: &&mut Waiter| place == waiter.ticket;
            if let Some(waiter) = queue.waiting.iter_mut().find(own) {
                return (waiter.ticket, waiter.waker.replace(waker));
            }
            // Those that wait are far fewer than there are tickets.
            queue.last_ticket = (queue.last_ticket + 1) % (HAS - 1);
            let ticket = queue.last_ticket + 1;
            queue.waiting.push_back(Waiter { ticket, waker: Some(waker), cancels });
            (ticket, None)
        });
        self.place = ticket;
        drop(old);
    }
}

impl<const DIRECTION: u8> Drop for Ordered<'_, DIRECTION> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.place != HAS || !self.source.release_first(DIRECTION) {
            self.drop_slow();
        }
    }
}

impl<const DIRECTION: u8> Ordered<'_, DIRECTION> {
    #[cold]
    fn drop_slow(&mut self) {
        if self.place != NONE {
            leave(&self.source, DIRECTION, self.place);
        }
        // SAFETY: called by `drop` alone, so it is not used again.
        unsafe { ManuallyDrop::drop(&mut self.source) };
    }
}

/// Gives up a place, or leaves the queue.
fn leave(source: &Source<'_>, direction: u8, place: Place) {
    let Some(order) = source.order() else { return };
    if place == HAS {
        if !order.give_up(direction) {
            order.call_next(direction);
        }
        return;
    }
    let waiter = order.with(direction, |queue| {
        let index = queue.waiting.iter().position(|one| place == one.ticket)?;
        queue.waiting.remove(index)
    });
    if waiter.is_some_and(|waiter| waiter.waker.is_none()) {
        order.call_next(direction);
    }
}
