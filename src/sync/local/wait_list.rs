//! The list of waiting tasks that the locks and channels of one thread share.
//!
//! The counterpart of [`sync::wait_list`](crate::sync::wait_list) without a lock: it borrows itself
//! for a moment only, and calls no foreign code (wakers) meanwhile.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::mem;
use std::task::Waker;

use crate::runtime::waker::LocalWaker;

/// Tasks of one thread that wait, first come, first served; each is known by its ticket.
pub(super) struct LocalWaitList<T> {
    waiters: RefCell<VecDeque<Waiter<T>>>,
    next_ticket: Cell<u64>,
}

struct Waiter<T> {
    ticket: u64,
    wants: T,
    waker: LocalWaker,
    state: WaitState,
}

/// What a task on the list has been given.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum WaitState {
    /// Nothing yet.
    Waiting,
    /// What it waits for.
    Granted,
    /// All were released at once: what they wait for was closed, or all were notified.
    Released,
}

impl<T: Copy> LocalWaitList<T> {
    /// Creates an empty list.
    pub(super) fn new() -> Self {
        LocalWaitList { waiters: RefCell::default(), next_ticket: Cell::new(0) }
    }

    /// Adds a task at the end, and returns its ticket. The caller [polls](Self::poll) at once,
    /// which stores the waker: the task is on the list first, as a foreign waker's `clone` may be
    /// what grants what it waits for.
    pub(super) fn join(&self, wants: T) -> u64 {
        let (waker, state) = (LocalWaker::NONE, WaitState::Waiting);
        let ticket = self.next_ticket.replace(self.next_ticket.get() + 1);
        self.waiters.borrow_mut().push_back(Waiter { ticket, wants, waker, state });
        ticket
    }

    /// Stores `waker` if the task still waits; otherwise removes the task from the list.
    pub(super) fn poll(&self, ticket: u64, waker: &Waker) -> WaitState {
        let fresh = LocalWaker::new(waker);
        let mut waiters = self.waiters.borrow_mut();
        let Some(place) = find(&waiters, ticket) else { return WaitState::Released };
        let state = waiters[place].state;
        let old = match state {
            WaitState::Waiting => Some(mem::replace(&mut waiters[place].waker, fresh)),
            _ => remove(&mut waiters, place).map(|waiter| waiter.waker),
        };
        // Wakers are dropped when nothing is borrowed: that may run foreign code.
        drop(waiters);
        drop(old);
        state
    }

    /// Removes a task whose future is dropped, and returns what it had been given.
    pub(super) fn leave(&self, ticket: u64) -> Option<WaitState> {
        let mut waiters = self.waiters.borrow_mut();
        let place = find(&waiters, ticket)?;
        let waiter = remove(&mut waiters, place)?;
        drop(waiters);
        Some(waiter.state)
    }

    /// Returns `true` if a task waits that has been given nothing.
    pub(super) fn has_waiting(&self) -> bool {
        // They are served in order.
        self.waiters.borrow().back().is_some_and(|last| last.state == WaitState::Waiting)
    }

    /// Grants the first waiting task what it wants, if `take` agrees; returns `false` if it does
    /// not, or no task waits.
    pub(super) fn grant_first(&self, take: impl FnOnce(T) -> bool) -> bool {
        let mut waiters = self.waiters.borrow_mut();
        let place = first_waiting(&waiters);
        let Some(first) = waiters.get_mut(place) else { return false };
        if !take(first.wants) {
            return false;
        }
        first.state = WaitState::Granted;
        let waker = mem::replace(&mut first.waker, LocalWaker::NONE);
        drop(waiters);
        waker.wake_now();
        true
    }

    /// Gives `state` to all tasks that wait now, all before the first is woken.
    pub(super) fn release_all(&self, state: WaitState) {
        let mut waiters = self.waiters.borrow_mut();
        let start = first_waiting(&waiters);
        let Some(mut ticket) = waiters.get(start).map(|waiter| waiter.ticket) else { return };
        waiters.range_mut(start..).for_each(|waiter| waiter.state = state);
        drop(waiters);
        let end = self.next_ticket.get();
        // A task that is woken may change the list, so each is looked up by its ticket.
        loop {
            let mut waiters = self.waiters.borrow_mut();
            let place = waiters.partition_point(|waiter| waiter.ticket < ticket);
            let Some(waiter) = waiters.get_mut(place).filter(|waiter| waiter.ticket < end) else {
                return;
            };
            ticket = waiter.ticket + 1;
            let waker = mem::replace(&mut waiter.waker, LocalWaker::NONE);
            drop(waiters);
            waker.wake_now();
        }
    }
}

impl<T: Copy> Default for LocalWaitList<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns the place of the first task that has been given nothing: it is behind all that have.
fn first_waiting<T>(waiters: &VecDeque<Waiter<T>>) -> usize {
    waiters.partition_point(|waiter| waiter.state != WaitState::Waiting)
}

/// A list with room for no more than this many waiters keeps its memory.
const LARGE: usize = 1024;

/// Removes a waiter. A list that has become much shorter gives memory back; not all of it, so that
/// it does not grow again soon.
fn remove<T>(waiters: &mut VecDeque<Waiter<T>>, place: usize) -> Option<Waiter<T>> {
    let waiter = waiters.remove(place);
    if waiters.capacity() > LARGE && waiters.len() < waiters.capacity() / 8 {
        waiters.shrink_to(2 * waiters.len());
    }
    waiter
}

fn find<T>(waiters: &VecDeque<Waiter<T>>, ticket: u64) -> Option<usize> {
    // Without gaps, which only dropped futures leave, the place follows from the first ticket.
    let place = ticket.wrapping_sub(waiters.front()?.ticket) as usize;
    if waiters.get(place).is_some_and(|waiter| waiter.ticket == ticket) {
        return Some(place);
    }
    waiters.binary_search_by_key(&ticket, |waiter| waiter.ticket).ok()
}
