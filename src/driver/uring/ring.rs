//! The ring: its mapped queues, and the handle that enters it.

// # Why this file has `unsafe`
// The submitter borrows from the ring beside it, and the queues of the ring are shared memory of
// which only one handle may exist at a time.

use std::ptr::NonNull;

use io_uring::{IoUring, Submitter, cqueue, squeue};

/// A ring and its submitter.
///
/// The fields are dropped in the order of their declaration: the submitter, which borrows from the
/// memory, before the memory.
pub(super) struct Ring {
    submitter: Submitter<'static>,
    memory: Memory,
}

/// The ring itself, at a fixed address.
struct Memory(NonNull<IoUring>);

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `Box::leak` in `Ring::new`. The one long-lived borrow, the
        // submitter, is the field before this one in `Ring`, so it has been dropped; queue handles
        // borrow the `Ring`, or end before it by `completions`' list.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

impl Ring {
    pub(super) fn new(ring: IoUring) -> Self {
        let memory = Memory(NonNull::from(Box::leak(Box::new(ring))));
        // SAFETY: the allocation stays where it is until `Memory` is dropped, which is after the
        // submitter (see `Ring`). It is never borrowed mutably.
        let submitter = unsafe { memory.0.as_ref() }.submitter();
        Ring { submitter, memory }
    }

    #[inline(always)]
    pub(super) fn get(&self) -> &IoUring {
        // SAFETY: freed only when `self` is dropped, and never borrowed mutably.
        unsafe { self.memory.0.as_ref() }
    }

    #[inline(always)]
    pub(super) fn submitter(&self) -> &Submitter<'_> {
        &self.submitter
    }

    /// Saves the kernel a descriptor lookup per `io_uring_enter(2)` (5.18). Without it the calls
    /// are merely slower, so that a refusal is ignored.
    pub(super) fn register_ring_fd(&mut self) {
        let _ = self.submitter.register_ring_fd();
    }

    /// Returns the one handle to the submission queue.
    #[inline(always)]
    pub(super) fn sq(&mut self) -> squeue::SubmissionQueue<'_> {
        // SAFETY: the handle borrows `self` mutably, so that no second one can exist meanwhile.
        unsafe { self.memory.0.as_ref().submission_shared() }
    }

    /// Returns the one handle to the completion queue.
    ///
    /// # Safety
    /// - Until the handle is dropped, no other is created, by this function or [`cq`](Self::cq);
    /// - the handle is dropped before the ring is.
    #[inline(always)]
    pub(super) unsafe fn completions<'a>(&self) -> cqueue::CompletionQueue<'a> {
        // SAFETY: item 1 makes it the only handle; by item 2 the memory outlives it.
        unsafe { self.memory.0.as_ref().completion_shared() }
    }

    /// Returns a handle to the completion queue that cannot outlive this borrow.
    ///
    /// # Safety
    /// No handle from [`completions`](Self::completions) exists.
    pub(super) unsafe fn cq(&mut self) -> cqueue::CompletionQueue<'_> {
        // SAFETY: item 1 by this function's only item, and as `self` is borrowed mutably; item 2 by
        // the handle's lifetime.
        unsafe { self.completions() }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let _ = self.submitter.unregister_ring_fd();
    }
}
