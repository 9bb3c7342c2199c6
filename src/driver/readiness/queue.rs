//! A first-in, first-out queue of operations, linked by their own records, so that waiting costs no
//! memory.

// # Why this file has `unsafe`
// It follows the links.

use crate::driver::Token;
use crate::driver::record::record;

/// A queue of operations in flight.
///
/// Each operation is in at most one queue, and leaves it before it is delivered: so the records of
/// all that are linked are in place.
#[derive(Debug, Default)]
pub(super) struct Queue {
    first: Option<Token>,
    last: Option<Token>,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(super) fn first(&self) -> Option<Token> {
        self.first
    }

    /// Appends an operation.
    ///
    /// # Safety
    /// - `op` is in flight or being submitted, and in no queue;
    /// - it is removed from this queue before it is delivered, or before `submit` returns `Some`.
    pub(super) unsafe fn push(&mut self, op: Token) {
        // SAFETY: item 1.
        let links = unsafe { &record(op).links };
        links.next.set(None);
        links.previous.set(self.last);
        match self.last {
            // SAFETY: by item 2 of its own `push` it is still in flight.
            Some(last) => unsafe { record(last) }.links.next.set(Some(op)),
            None => self.first = Some(op),
        }
        self.last = Some(op);
    }

    /// Removes the oldest operation.
    pub(super) fn pop(&mut self) -> Option<Token> {
        let first = self.first?;
        // SAFETY: it is in this queue.
        unsafe { self.remove(first) };
        Some(first)
    }

    /// Removes an operation.
    ///
    /// # Safety
    /// `op` is in this queue.
    pub(super) unsafe fn remove(&mut self, op: Token) {
        // SAFETY: it and its neighbours are in this queue, hence in flight (item 2 of `push`).
        unsafe {
            let links = &record(op).links;
            let (previous, next) = (links.previous.take(), links.next.take());
            match previous {
                Some(previous) => record(previous).links.next.set(next),
                None => self.first = next,
            }
            match next {
                Some(next) => record(next).links.previous.set(previous),
                None => self.last = previous,
            }
        }
    }

    /// Returns the operation behind `op`.
    ///
    /// # Safety
    /// `op` is in this queue.
    pub(super) unsafe fn after(&self, op: Token) -> Option<Token> {
        // SAFETY: in this queue, hence in flight (item 2 of `push`).
        unsafe { record(op) }.links.next.get()
    }
}
