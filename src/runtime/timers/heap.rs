//! A pairing heap of timers: the exact part of the timer queue.
//!
//! The earliest deadline is at the root; removing it costs O(log n) amortised. Reference: Fredman,
//! Sedgewick, Sleator and Tarjan, "The pairing heap: a new form of self-adjusting heap",
//! Algorithmica 1986.

// # Why this file has `unsafe`
// The heap follows raw pointers to pinned nodes.

use std::cell::Cell;
use std::ptr;

use super::Timer;

/// The timers of the current tick and before, ordered by deadline.
pub(super) struct Heap {
    root: Cell<*const Timer>,
    len: Cell<usize>,
}

impl Heap {
    pub(super) const fn new() -> Self {
        Heap { root: Cell::new(ptr::null()), len: Cell::new(0) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.root.get().is_null()
    }

    pub(super) fn len(&self) -> usize {
        self.len.get()
    }

    /// Returns the earliest timer.
    #[inline(always)]
    pub(super) fn first(&self) -> Option<&Timer> {
        // SAFETY: nodes in the heap are alive.
        unsafe { self.root.get().as_ref() }
    }

    /// Adds a timer.
    ///
    /// # Safety
    /// The timer is in no heap or wheel, and stays in place until it is removed from this heap.
    pub(super) unsafe fn insert(&self, timer: *const Timer) {
        self.len.set(self.len.get() + 1);
        // SAFETY: the caller keeps `timer` alive, and what is in the heap is alive.
        unsafe {
            (*timer).child.set(ptr::null());
            (*timer).next.set(ptr::null());
            (*timer).prev.set(ptr::null());
            self.root.set(meld(self.root.get(), timer));
        }
    }

    /// Removes a timer.
    ///
    /// # Safety
    /// The timer is in this heap.
    pub(super) unsafe fn remove(&self, timer: *const Timer) {
        self.len.set(self.len.get() - 1);
        // SAFETY: what is in the heap is alive.
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
}

/// Merges two heaps; the earlier root becomes the parent of the other.
///
/// # Safety
/// Both are null or roots of valid heaps.
unsafe fn meld(a: *const Timer, b: *const Timer) -> *const Timer {
    // SAFETY: what is in a valid heap is alive.
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

/// Merges a list of siblings into one heap, in two passes: pairs from the left, then all pairs from
/// the right.
///
/// # Safety
/// `first` is null or the first of a list of siblings that was detached from its parent.
unsafe fn combine(first: *const Timer) -> *const Timer {
    let mut pairs: *const Timer = ptr::null();
    let mut rest = first;
    // SAFETY: what is in the heap is alive; `next` and `prev` of each detached root are reset
    // before it is melded.
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
