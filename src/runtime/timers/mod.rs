//! Timers, whose nodes live inside the futures that sleep: arming one costs a few stores and no
//! allocation, however many there are.
//!
//! ```text
//!          armed                      its tick comes              its time comes
//!  future ───────▶ wheel (by ticks) ────────────────▶ heap (exact) ──────────────▶ fired
//!     └──────────── due within this tick ──────────────▲
//! ```
//!
//! A tick is 65.5 µs. The heap, which alone is sorted, holds only what is due in the current one, so it
//! is small and in the cache; timers further away lie unsorted in the wheel, and most timers of a server
//! are disarmed there. When a timer fires is exact all the same, but for crowds: more than 32 that are due in
//! one tick fire at its end, as a wait for each would cost more than all that they do.
//!
//! # Why this file has `unsafe`
//! Heap and wheel follow raw pointers to pinned nodes.

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

/// One timer. Armed, it must not move.
pub(crate) struct Timer {
    /// Nanoseconds since the runtime's origin.
    deadline: Cell<u64>,
    /// Among equal deadlines, the order of arming.
    order: Cell<u64>,
    /// In the heap: the first of the nodes below, linked by `next`.
    child: Cell<*const Timer>,
    /// The next sibling in the heap, or the next in the wheel's list.
    next: Cell<*const Timer>,
    /// The previous sibling, or the parent if there is none; null for the root, and for the first in a
    /// list.
    prev: Cell<*const Timer>,
    runtime: Cell<*const Runtime>,
    waker: Cell<LocalWaker>,
    state: Cell<TimerState>,
    /// Where in the wheel; `None`: in the heap.
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

    /// Starts the timer.
    ///
    /// # Safety
    /// The timer is pinned and not armed; it is dropped before its memory is reused.
    pub(crate) unsafe fn arm(&self, runtime: &Runtime, deadline: u64, waker: &Waker) {
        debug_assert_ne!(self.state(), TimerState::Armed);
        self.deadline.set(deadline);
        self.runtime.set(runtime);
        self.waker.set(LocalWaker::with_current(runtime, waker));
        self.state.set(TimerState::Armed);
        // SAFETY: pinned until it leaves these: by firing, in `disarm`, or in `clear`.
        unsafe { runtime.timers.insert(self) };
    }

    pub(crate) fn set_waker(&self, waker: &Waker) {
        LocalWaker::update(&self.waker, waker);
    }

    /// Takes the timer out, if it is armed.
    pub(crate) fn disarm(&self) {
        if self.state() == TimerState::Armed {
            // SAFETY: an armed timer's runtime is alive: it disarms all when it goes.
            let runtime = unsafe { &*self.runtime.get() };
            // SAFETY: armed means in there.
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
    /// Those of the current tick and before.
    heap: Heap,
    /// Those of later ticks.
    wheel: Wheel,
    /// When to look again, [`NEVER`] or [`STALE`], which is to be found out. May be too early: a look in vain.
    next: Cell<u64>,
    /// How many were ever armed.
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

    /// When to look again: the earliest deadline, but for crowds.
    #[inline(always)]
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        match self.next.get() {
            NEVER => None,
            STALE => self.look(),
            next => Some(next),
        }
    }

    #[inline(never)]
    fn look(&self) -> Option<u64> {
        // What is in the heap is due before anything in the wheel.
        let next = match self.heap.first() {
            Some(_) if self.heap.len() > CROWD => Some(self.wheel.end_of_tick()),
            Some(first) => Some(first.deadline.get()),
            None => self.wheel.next(),
        };
        // A deadline at the end of time never comes, and one at its beginning has passed.
        self.next.set(next.unwrap_or(NEVER).max(STALE + 1));
        next.filter(|&next| next != NEVER)
    }

    /// # Safety
    /// The timer is in no heap or wheel, and stays in place until it has left these.
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
        // SAFETY: what the caller promises.
        unsafe { self.place(timer) };
    }

    /// # Safety
    /// As for [`insert`](Self::insert).
    unsafe fn place(&self, timer: *const Timer) {
        // SAFETY: what the caller promises.
        unsafe {
            if !self.wheel.insert(timer) {
                self.heap.insert(timer);
            }
        }
    }

    /// # Safety
    /// The timer is in here.
    unsafe fn remove(&self, timer: *const Timer) {
        // SAFETY: what the caller promises; `place` tells where.
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

    /// Fires everything due at `now`; returns how many.
    pub(crate) fn fire(&self, now: u64, runtime: &Runtime) -> u64 {
        if self.next_deadline().is_none_or(|next| next > now) {
            return 0;
        }
        // SAFETY: what comes off the wheel is in nothing, and stays in place as before.
        self.wheel.advance(now, |timer| unsafe { self.place(timer) });
        self.next.set(STALE);
        let mut fired = 0;
        while let Some(timer) = self.heap.first().filter(|first| first.deadline.get() <= now) {
            // SAFETY: it is in the heap, and out of it before its waker is used.
            unsafe { self.heap.remove(timer) };
            timer.state.set(TimerState::Fired);
            timer.waker.replace(LocalWaker::NONE).wake(runtime);
            fired += 1;
        }
        fired
    }

    /// Takes all timers out without firing them: the runtime goes.
    pub(crate) fn clear(&self) {
        while let Some(timer) = self.heap.first().or_else(|| self.wheel.any()) {
            timer.disarm();
        }
    }
}

#[cfg(test)]
mod tests;
