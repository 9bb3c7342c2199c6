//! A lock-free stack by which any thread hands nodes to one owner, who takes all at once.
//!
//! # Why this file has `unsafe`
//! Nodes are linked by raw pointer; whoever posts one gives a reference along with it.

use std::ptr;

use super::sync::{AtomicBool, AtomicPtr, Ordering};

/// What a node carries to be in an inbox.
pub(crate) struct InboxLink<N> {
    next: AtomicPtr<N>,
    inside: AtomicBool,
}

impl<N> InboxLink<N> {
    pub(crate) fn new() -> Self {
        InboxLink { next: AtomicPtr::new(ptr::null_mut()), inside: AtomicBool::new(false) }
    }

    /// `true`: the node was outside, and the caller has to post it. `false`: it is inside already,
    /// and its owner will see everything that happened before this call.
    pub(crate) fn enter(&self) -> bool {
        !self.inside.swap(true, Ordering::AcqRel)
    }

    /// The owner has taken the node out; what was done before each [`enter`](Self::enter) so far
    /// is visible now.
    pub(crate) fn leave(&self) {
        self.inside.swap(false, Ordering::AcqRel);
    }
}

pub(crate) trait InboxNode: Sized {
    fn inbox(&self) -> &InboxLink<Self>;
}

/// See the module's page.
pub(crate) struct Inbox<N> {
    /// Null: empty. [`closed`]: nothing can be posted any more.
    head: AtomicPtr<N>,
}

/// An address that no node has.
fn closed<N>() -> *mut N {
    ptr::without_provenance_mut(1)
}

impl<N: InboxNode> Inbox<N> {
    pub(crate) fn new() -> Self {
        Inbox { head: AtomicPtr::new(ptr::null_mut()) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head.load(Ordering::Acquire).is_null()
    }

    /// Adds `node`; `false`: the inbox is closed, and the node stays the caller's.
    ///
    /// # Safety
    /// The node stays alive until it is taken, and [`InboxLink::enter`] gave `true` for it.
    pub(crate) unsafe fn post(&self, node: *const N) -> bool {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            if head == closed() {
                return false;
            }
            // SAFETY: the caller keeps the node alive, and nobody else posts it.
            unsafe { (*node).inbox().next.store(head, Ordering::Relaxed) };
            match self.head.compare_exchange_weak(
                head,
                node.cast_mut(),
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => head = now,
            }
        }
    }

    /// Takes everything out and calls `visit` for each node, in the order of posting.
    pub(crate) fn take(&self, visit: impl FnMut(*const N)) {
        if !self.is_empty() {
            self.empty_into(ptr::null_mut(), visit);
        }
    }

    /// The same, and nothing can be posted afterwards.
    pub(crate) fn close(&self, visit: impl FnMut(*const N)) {
        self.empty_into(closed(), visit);
    }

    fn empty_into(&self, left: *mut N, mut visit: impl FnMut(*const N)) {
        let mut node = self.head.swap(left, Ordering::Acquire);
        if node == closed() {
            return;
        }
        let mut oldest: *mut N = ptr::null_mut();
        while !node.is_null() {
            // SAFETY: posted nodes are alive, and are ours alone once taken.
            unsafe {
                let next = (*node).inbox().next.load(Ordering::Relaxed);
                (*node).inbox().next.store(oldest, Ordering::Relaxed);
                oldest = node;
                node = next;
            }
        }
        while !oldest.is_null() {
            let this = oldest;
            // SAFETY: as above; `visit` may free its node, so the next one is read before.
            unsafe {
                oldest = (*this).inbox().next.load(Ordering::Relaxed);
                (*this).inbox().leave();
            }
            visit(this);
        }
    }
}
