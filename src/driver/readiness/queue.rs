//! First in, first out: operations linked by their own records, so that waiting costs no memory.
//!
//! # Why this file has `unsafe`
//! It follows the links.

use crate::driver::Token;

/// A queue of operations in flight. Each is in at most one.
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

    /// # Safety
    /// The operation is in flight, so that its record stays in place until it is delivered, and in
    /// no queue.
    pub(super) unsafe fn push(&mut self, op: Token) {
        // SAFETY: what the caller promises.
        let links = unsafe { &op.as_ref().links };
        links.next.set(None);
        links.previous.set(self.last);
        match self.last {
            // SAFETY: operations leave their queue before they are delivered.
            Some(last) => unsafe { last.as_ref() }.links.next.set(Some(op)),
            None => self.first = Some(op),
        }
        self.last = Some(op);
    }

    pub(super) fn pop(&mut self) -> Option<Token> {
        let first = self.first?;
        // SAFETY: it is in this queue.
        unsafe { self.remove(first) };
        Some(first)
    }

    /// # Safety
    /// The operation is in this very queue.
    pub(super) unsafe fn remove(&mut self, op: Token) {
        // SAFETY: operations leave their queue before they are delivered, so its own record is in
        // place, and so are those next to it.
        unsafe {
            let links = &op.as_ref().links;
            let (previous, next) = (links.previous.take(), links.next.take());
            match previous {
                Some(previous) => previous.as_ref().links.next.set(next),
                None => self.first = next,
            }
            match next {
                Some(next) => next.as_ref().links.previous.set(previous),
                None => self.last = previous,
            }
        }
    }

    /// The operation behind `op` in this queue.
    ///
    /// # Safety
    /// As for [`remove`](Self::remove).
    pub(super) unsafe fn after(&self, op: Token) -> Option<Token> {
        // SAFETY: what the caller promises.
        unsafe { op.as_ref() }.links.next.get()
    }
}
