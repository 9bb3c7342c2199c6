//! A lock-free stack to which any thread posts nodes, and from which one owner takes all at once.

// # Why this file has `unsafe`
// Nodes are linked by raw pointer; a counted reference to each node is passed along with it.

use std::ptr;

use super::sync::{AtomicBool, AtomicPtr, Ordering};

/// The link of a node in an inbox.
pub(crate) struct InboxLink<N> {
    next: AtomicPtr<N>,
    inside: AtomicBool,
}

impl<N> InboxLink<N> {
    pub(crate) fn new() -> Self {
        InboxLink { next: AtomicPtr::new(ptr::null_mut()), inside: AtomicBool::new(false) }
    }

    /// Marks the node as being in the inbox. Returns `true` if it was not: the caller has to post
    /// it. Otherwise it is there already, and its owner will see everything that happened before
    /// this call.
    pub(crate) fn enter(&self) -> bool {
        !self.inside.swap(true, Ordering::AcqRel)
    }

    /// Marks the node as taken by the owner. Everything that happened before each
    /// [`enter`](Self::enter) so far is visible to the owner afterwards.
    pub(crate) fn leave(&self) {
        self.inside.swap(false, Ordering::AcqRel);
    }
}

/// A type whose values can be in an [`Inbox`].
pub(crate) trait InboxNode: Sized {
    fn inbox(&self) -> &InboxLink<Self>;
}

/// A lock-free stack of nodes; see the head of this file.
pub(crate) struct Inbox<N> {
    /// Null: empty. [`closed`]: the inbox is closed.
    head: AtomicPtr<N>,
}

/// Returns the address that marks a closed inbox; no node has it.
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

    /// Adds `node`. Returns `false` if the inbox is closed: the node stays the caller's.
    ///
    /// # Safety
    /// - The node stays alive until it is taken.
    /// - [`InboxLink::enter`] has returned `true` for it, and it was not posted since.
    pub(crate) unsafe fn post(&self, node: *const N) -> bool {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            if head == closed() {
                return false;
            }
            // SAFETY: the caller keeps the node alive, and no other thread posts it.
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

    /// Takes all nodes and calls `visit` for each, in the order of posting.
    pub(crate) fn take(&self, visit: impl FnMut(*const N)) {
        if !self.is_empty() {
            self.empty_into(ptr::null_mut(), visit);
        }
    }

    /// Takes all nodes as `take` does, and closes the inbox.
    pub(crate) fn close(&self, visit: impl FnMut(*const N)) {
        self.empty_into(closed(), visit);
    }

    /// Replaces the head by `new_head` and visits the nodes taken.
    fn empty_into(&self, new_head: *mut N, mut visit: impl FnMut(*const N)) {
        let mut node = self.head.swap(new_head, Ordering::Acquire);
        if node == closed() {
            return;
        }
        let mut oldest: *mut N = ptr::null_mut();
        while !node.is_null() {
            // SAFETY: posted nodes are alive, and once taken no other thread touches their links.
            unsafe {
                let next = (*node).inbox().next.load(Ordering::Relaxed);
                (*node).inbox().next.store(oldest, Ordering::Relaxed);
                oldest = node;
                node = next;
            }
        }
        while !oldest.is_null() {
            let this = oldest;
            // SAFETY: as above; the next node is read first, since `visit` may free this one.
            unsafe {
                oldest = (*this).inbox().next.load(Ordering::Relaxed);
                (*this).inbox().leave();
            }
            visit(this);
        }
    }
}
