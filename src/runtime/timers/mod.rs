//! The timer queue. A timer's node lives inside the future that sleeps, so arming one takes a few
//! stores and no allocation, however many there are.
//!
//! ```text
//!          armed                      its tick comes              its time comes
//!  future ───────▶ wheel (by ticks) ────────────────▶ heap (exact) ──────────────▶ fired
//!     └──────────── due within this tick ──────────────▲
//! ```
//!
//! A tick is 65.5 µs. Only the heap is sorted. It holds the timers of the current tick, so it is
//! small and stays in the cache. Later timers are unsorted in the wheel; most timers of a server
//! are disarmed there. Timers still fire at their exact deadline, except where more than 32 are due
//! in one tick: these fire at its end, as a wait for each would cost more than the work they do.

// # Why this file has `unsafe`
// Heap and wheel follow raw pointers to pinned nodes.

mod heap;
mod wheel;

use std::cell::Cell;
use std::marker::PhantomPinned;
use std::ptr;
use std::task::Waker;

use super::Runtime;
use super::waker::LocalWaker;
use heap::Heap;
use wheel::{CROWD, Place, Wheel};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimerState {
    Idle,
    Armed,
    Fired,
}

/// A timer's node. It must not move while it is armed.
pub(crate) struct Timer {
    /// In nanoseconds since the runtime was created.
    deadline: Cell<u64>,
    /// The order of arming, for equal deadlines.
    order: Cell<u64>,
    /// In the heap: the first child; the others are linked by `next`.
    child: Cell<*const Timer>,
    /// The next sibling in the heap, or the next node in the wheel's list.
    next: Cell<*const Timer>,
    /// In the heap: the previous sibling, or the parent for the first one; null for the root. In
    /// the wheel: the previous node of the list; null for the first one.
    prev: Cell<*const Timer>,
    runtime: Cell<*const Runtime>,
    waker: Cell<LocalWaker>,
    state: Cell<TimerState>,
    /// The position in the wheel; `None` while in the heap.
    place: Cell<Option<Place>>,
    _pinned: PhantomPinned,
}

impl Timer {
    pub(crate) const fn new() -> Self {
        Timer {
            deadline: Cell::new(0),
            order: Cell::new(0),
            child: Cell::new(ptr::null()),
            next: Cell::new(ptr::null()),
            prev: Cell::new(ptr::null()),
            runtime: Cell::new(ptr::null()),
            waker: Cell::new(LocalWaker::NONE),
            state: Cell::new(TimerState::Idle),
            place: Cell::new(None),
            _pinned: PhantomPinned,
        }
    }

    pub(crate) fn state(&self) -> TimerState {
        self.state.get()
    }

    /// Arms the timer, to wake `waker` at `deadline`.
    ///
    /// # Safety
    /// - The timer is pinned and not armed.
    /// - It is dropped before its memory is reused.
    pub(crate) unsafe fn arm(&self, runtime: &Runtime, deadline: u64, waker: &Waker) {
        debug_assert_ne!(self.state(), TimerState::Armed);
        self.deadline.set(deadline);
        self.runtime.set(runtime);
        self.waker.set(LocalWaker::with_current(runtime, waker));
        self.state.set(TimerState::Armed);
        // SAFETY: pinned, and removed before its memory is reused: when it fires, in `disarm`,
        // which `drop` calls, or in `clear`.
        unsafe { runtime.timers.insert(self) };
    }

    pub(crate) fn set_waker(&self, waker: &Waker) {
        LocalWaker::update(&self.waker, waker);
    }

    /// Disarms the timer, if it is armed.
    pub(crate) fn disarm(&self) {
        if self.state() == TimerState::Armed {
            // SAFETY: an armed timer's runtime is alive: it disarms all timers before it is
            // dropped.
            let runtime = unsafe { &*self.runtime.get() };
            // SAFETY: an armed timer is in the heap or the wheel.
            unsafe { runtime.timers.remove(self) };
            self.state.set(TimerState::Idle);
            self.waker.set(LocalWaker::NONE);
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.disarm();
    }
}

/// All timers of a runtime.
pub(crate) struct Timers {
    /// The timers of the current tick and before.
    heap: Heap,
    /// The timers of later ticks.
    wheel: Wheel,
    /// When to check the timers next, in nanoseconds, or [`NEVER`], or [`STALE`]: it has to be
    /// computed. It may be too early; then that check fires nothing.
    next: Cell<u64>,
    /// How many timers were armed so far.
    armed: Cell<u64>,
}

const STALE: u64 = 0;
const NEVER: u64 = u64::MAX;

impl Timers {
    pub(crate) const fn new() -> Self {
        Timers {
            heap: Heap::new(),
            wheel: Wheel::new(),
            next: Cell::new(NEVER),
            armed: Cell::new(0),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.heap.is_empty() && self.wheel.is_empty()
    }

    /// Returns when to check the timers next: the earliest deadline, or the end of its tick if more
    /// than [`CROWD`] timers are due in it.
    #[inline(always)]
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        match self.next.get() {
            NEVER => None,
            STALE => self.compute_next(),
            next => Some(next),
        }
    }

    #[inline(never)]
    fn compute_next(&self) -> Option<u64> {
        // Every timer in the heap is due before those in the wheel.
        let next = match self.heap.first() {
            Some(_) if self.heap.len() > CROWD => Some(self.wheel.end_of_tick()),
            Some(first) => Some(first.deadline.get()),
            None => self.wheel.next(),
        };
        // A deadline of `u64::MAX` is never reached, and one of 0 has passed.
        self.next.set(next.unwrap_or(NEVER).max(STALE + 1));
        next.filter(|&next| next != NEVER)
    }

    /// Adds a timer that was just armed.
    ///
    /// # Safety
    /// The timer is in no heap or wheel, and stays in place until it is removed.
    unsafe fn insert(&self, timer: *const Timer) {
        let order = self.armed.get();
        self.armed.set(order + 1);
        // SAFETY: the caller keeps it alive.
        let deadline = unsafe {
            (*timer).order.set(order);
            (*timer).deadline.get()
        };
        if deadline < self.next.get() {
            self.next.set(deadline);
        }
        // SAFETY: the same contract.
        unsafe { self.place(timer) };
    }

    /// Adds a timer to the wheel, or to the heap if it is due in the current tick.
    ///
    /// # Safety
    /// As for [`insert`](Self::insert).
    unsafe fn place(&self, timer: *const Timer) {
        // SAFETY: the same contract; a timer that the wheel has not added is in neither.
        unsafe {
            if !self.wheel.insert(timer) {
                self.heap.insert(timer);
            }
        }
    }

    /// Removes a timer.
    ///
    /// # Safety
    /// The timer is in the heap or the wheel.
    unsafe fn remove(&self, timer: *const Timer) {
        // SAFETY: the timer's `place` says in which of them it is.
        unsafe {
            match (*timer).place.take() {
                None => self.heap.remove(timer),
                Some(place) => self.wheel.remove(timer, place),
            }
            if (*timer).deadline.get() <= self.next.get() {
                self.next.set(STALE);
            }
        }
    }

    /// Fires all timers that are due at `now` and returns how many there were.
    pub(crate) fn fire(&self, now: u64, runtime: &Runtime) -> u64 {
        if self.next_deadline().is_none_or(|next| next > now) {
            return 0;
        }
        // SAFETY: a timer that the wheel passes on is in no list any more, and stays in place as
        // before.
        self.wheel.advance(now, |timer| unsafe { self.place(timer) });
        self.next.set(STALE);
        let mut fired = 0;
        while let Some(timer) = self.heap.first().filter(|first| first.deadline.get() <= now) {
            // SAFETY: it is in the heap, and is removed before its waker is used.
            unsafe { self.heap.remove(timer) };
            timer.state.set(TimerState::Fired);
            timer.waker.replace(LocalWaker::NONE).wake(runtime);
            fired += 1;
        }
        fired
    }

    /// Disarms all timers, as the runtime is being dropped.
    pub(crate) fn clear(&self) {
        while let Some(timer) = self.heap.first().or_else(|| self.wheel.any()) {
            timer.disarm();
        }
    }
}

#[cfg(test)]
mod tests;
