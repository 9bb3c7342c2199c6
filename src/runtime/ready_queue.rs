//! The run queue of a thread.

// # Why this file has `unsafe`
// Tasks are linked through their headers, by raw pointers.

use std::cell::Cell;
use std::ptr;

use super::task::Header;

/// The run queue: tasks linked through their headers, first in, first out.
pub(crate) struct ReadyQueue {
    head: Cell<*const Header>,
    tail: Cell<*const Header>,
}

impl ReadyQueue {
    pub(super) const fn new() -> Self {
        ReadyQueue { head: Cell::new(ptr::null()), tail: Cell::new(ptr::null()) }
    }

    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.head.get().is_null()
    }

    /// Adds a task at the end.
    ///
    /// # Safety
    /// The task is not in the queue, and stays alive while it is there (it is not done, or the
    /// reference of an unfinished task is kept until it is popped).
    #[inline(always)]
    pub(super) unsafe fn push(&self, task: *const Header) {
        // SAFETY: the caller keeps `task` alive, and the tail is queued, so alive.
        unsafe {
            (*task).next.set(ptr::null());
            match self.tail.replace(task).as_ref() {
                None => self.head.set(task),
                Some(last) => last.next.set(task),
            }
        }
    }

    /// Adds a task at the front.
    ///
    /// # Safety
    /// As for [`push`](Self::push).
    pub(super) unsafe fn push_front(&self, task: *const Header) {
        let first = self.head.replace(task);
        // SAFETY: the caller keeps `task` alive.
        unsafe { (*task).next.set(first) };
        if first.is_null() {
            self.tail.set(task);
        }
    }

    /// Moves the first task to the end.
    pub(super) fn rotate(&self) {
        if let Some(first) = self.pop() {
            // SAFETY: it is still queued, hence alive, and has just left the queue.
            unsafe { self.push(first) };
        }
    }

    #[inline(always)]
    pub(super) fn pop(&self) -> Option<*const Header> {
        let task = self.head.get();
        // SAFETY: queued tasks are alive.
        let next = unsafe { task.as_ref() }?.next.get();
        self.head.set(next);
        if next.is_null() {
            self.tail.set(ptr::null());
        }
        Some(task)
    }
}
