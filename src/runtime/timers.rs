//! Timers: a pairing heap whose nodes live inside the futures that sleep.
//!
//! Arming costs a few stores and no allocation, however many there are; the next deadline is at
//! the root. Removing the earliest costs O(log n) amortised. Reference: Fredman, Sedgewick,
//! Sleator and Tarjan, "The pairing heap: a new form of self-adjusting heap", Algorithmica 1986.
//!
//! # Why this file has `unsafe`
//! The heap follows raw pointers to pinned nodes.

use std::cell::Cell;
use std::marker::PhantomPinned;
use std::ptr;
use std::task::Waker;

use super::Runtime;
use super::waker::LocalWaker;

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
    /// The first of the nodes below, linked by `next`.
    child: Cell<*const Timer>,
    next: Cell<*const Timer>,
    /// The previous sibling, or the parent if there is none; null for the root.
    prev: Cell<*const Timer>,
    runtime: Cell<*const Runtime>,
    waker: Cell<LocalWaker>,
    state: Cell<TimerState>,
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
        // SAFETY: pinned until it leaves the heap: by firing, in `disarm`, or in `clear`.
        unsafe { runtime.timers.insert(self) };
    }

    pub(crate) fn set_waker(&self, waker: &Waker) {
        LocalWaker::update(&self.waker, waker);
    }

    /// Takes the timer out of the heap, if it is there.
    pub(crate) fn disarm(&self) {
        if self.state() == TimerState::Armed {
            // SAFETY: an armed timer's runtime is alive: it disarms all when it goes.
            let runtime = unsafe { &*self.runtime.get() };
            // SAFETY: armed means in that heap.
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

/// The heap.
pub(crate) struct Timers {
    root: Cell<*const Timer>,
    /// How many were ever armed.
    armed: Cell<u64>,
}

impl Timers {
    pub(crate) const fn new() -> Self {
        Timers { root: Cell::new(ptr::null()), armed: Cell::new(0) }
    }

    /// The earliest deadline.
    #[inline(always)]
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        // SAFETY: nodes in the heap are alive.
        unsafe { self.root.get().as_ref() }.map(|root| root.deadline.get())
    }

    /// # Safety
    /// The timer is in no heap, and stays in place until it has left this one.
    unsafe fn insert(&self, timer: *const Timer) {
        let order = self.armed.get();
        self.armed.set(order + 1);
        // SAFETY: the caller and the heap keep both alive.
        unsafe {
            (*timer).order.set(order);
            (*timer).child.set(ptr::null());
            (*timer).next.set(ptr::null());
            (*timer).prev.set(ptr::null());
            self.root.set(meld(self.root.get(), timer));
        }
    }

    /// # Safety
    /// The timer is in this heap.
    unsafe fn remove(&self, timer: *const Timer) {
        // SAFETY: everything in the heap is alive.
        unsafe {
            let rest = combine((*timer).child.replace(ptr::null()));
            if ptr::eq(self.root.get(), timer) {
                self.root.set(rest);
                return;
            }
            let (prev, next) = ((*timer).prev.get(), (*timer).next.replace(ptr::null()));
            if let Some(next) = next.as_ref() {
                next.prev.set(prev);
            }
            if ptr::eq((*prev).child.get(), timer) {
                (*prev).child.set(next);
            } else {
                (*prev).next.set(next);
            }
            self.root.set(meld(self.root.get(), rest));
        }
    }

    /// Fires everything due at `now`; returns how many.
    pub(crate) fn fire(&self, now: u64, runtime: &Runtime) -> u64 {
        let mut fired = 0;
        // SAFETY: nodes in the heap are alive; a fired one is out of it before its waker is used.
        while let Some(timer) = unsafe { self.root.get().as_ref() } {
            if timer.deadline.get() > now {
                break;
            }
            // SAFETY: it is the root of this heap.
            unsafe { self.remove(timer) };
            timer.state.set(TimerState::Fired);
            timer.waker.replace(LocalWaker::NONE).wake(runtime);
            fired += 1;
        }
        fired
    }

    /// Takes all timers out without firing them: the runtime goes.
    pub(crate) fn clear(&self) {
        // SAFETY: as in `fire`.
        while let Some(timer) = unsafe { self.root.get().as_ref() } {
            timer.disarm();
        }
    }
}

/// Joins two heaps; the earlier root becomes the parent of the other.
///
/// # Safety
/// Both are null or roots of valid heaps.
unsafe fn meld(a: *const Timer, b: *const Timer) -> *const Timer {
    // SAFETY: what the caller promises.
    unsafe {
        let (Some(left), Some(right)) = (a.as_ref(), b.as_ref()) else {
            return if a.is_null() { b } else { a };
        };
        let key = |timer: &Timer| (timer.deadline.get(), timer.order.get());
        let (top, below) = if key(right) < key(left) { (right, left) } else { (left, right) };
        let first = top.child.get();
        below.next.set(first);
        below.prev.set(top);
        if let Some(first) = first.as_ref() {
            first.prev.set(below);
        }
        top.child.set(below);
        top.prev.set(ptr::null());
        top.next.set(ptr::null());
        top
    }
}

/// Joins a list of siblings into one heap, in two passes: pairs from the left, then all from the
/// right.
///
/// # Safety
/// `first` is null or the first of a list of siblings taken off its parent.
unsafe fn combine(first: *const Timer) -> *const Timer {
    let mut pairs: *const Timer = ptr::null();
    let mut rest = first;
    // SAFETY: everything in the heap is alive; `next` and `prev` are rewritten for what is
    // detached before it is melded.
    unsafe {
        while let Some(a) = rest.as_ref() {
            let b = a.next.replace(ptr::null());
            a.prev.set(ptr::null());
            rest = match b.as_ref() {
                Some(b) => {
                    b.prev.set(ptr::null());
                    b.next.replace(ptr::null())
                }
                None => ptr::null(),
            };
            let pair = meld(a, b);
            (*pair).next.set(pairs);
            pairs = pair;
        }
        let mut all: *const Timer = ptr::null();
        while let Some(pair) = pairs.as_ref() {
            pairs = pair.next.replace(ptr::null());
            all = meld(pair, all);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timer(deadline: u64) -> Box<Timer> {
        let timer = Box::new(Timer::new());
        timer.deadline.set(deadline);
        timer
    }

    /// Against the obvious implementation: a sorted list.
    #[test]
    fn the_heap_agrees_with_a_sorted_list() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |n: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % n
        };
        let timers: Vec<Box<Timer>> = (0..2000).map(|_| timer(random(500))).collect();
        let heap = Timers::new();
        let mut inside: Vec<usize> = Vec::new();
        for step in 0..20_000 {
            let pick = random(timers.len() as u64) as usize;
            if let Some(at) = inside.iter().position(|&i| i == pick) {
                inside.swap_remove(at);
                // SAFETY: it was inserted and not removed since.
                unsafe { heap.remove(&*timers[pick]) };
            } else {
                inside.push(pick);
                // SAFETY: boxed, and outlives the heap's use of it.
                unsafe { heap.insert(&*timers[pick]) };
            }
            let earliest = inside.iter().map(|&i| timers[i].deadline.get()).min();
            assert_eq!(heap.next_deadline(), earliest, "after step {step}");
        }
        inside.sort_by_key(|&i| timers[i].deadline.get());
        for i in inside {
            assert_eq!(heap.next_deadline(), Some(timers[i].deadline.get()));
            // SAFETY: the root is in the heap.
            unsafe { heap.remove(heap.root.get()) };
        }
        assert_eq!(heap.next_deadline(), None);
    }
}
