//! Intrusive lists: the nodes live in pinned futures, so linking costs no allocation.
//!
//! A node knows the cell that points to it, so unlinking needs neither the list nor a search.
//!
//! # Why this file has `unsafe`
//! The list follows raw pointers into memory that others own.

use std::cell::Cell;
use std::ptr;

/// What a node carries to be in a list.
pub(crate) struct Link<T> {
    next: Cell<*const T>,
    /// The cell that points to this node: the list's head or the previous node's `next`.
    /// Null while the node is in no list.
    at: Cell<*const Cell<*const T>>,
}

impl<T> Link<T> {
    pub(crate) const fn new() -> Self {
        Link { next: Cell::new(ptr::null()), at: Cell::new(ptr::null()) }
    }

    pub(crate) fn is_linked(&self) -> bool {
        !self.at.get().is_null()
    }
}

/// A type whose values can be in a [`List`].
pub(crate) trait Linked: Sized {
    fn link(&self) -> &Link<Self>;
}

/// A list of nodes, newest first. It must not move while it is not empty.
pub(crate) struct List<T> {
    first: Cell<*const T>,
}

impl<T: Linked> List<T> {
    pub(crate) const fn new() -> Self {
        List { first: Cell::new(ptr::null()) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.get().is_null()
    }

    /// Puts `node` in front.
    ///
    /// # Safety
    /// `node` is in no list. Until it is unlinked, neither it nor this list moves or goes away.
    #[inline(always)]
    pub(crate) unsafe fn push(&self, node: *const T) {
        let next = self.first.get();
        // SAFETY: the caller vouches for `node`; `next` is linked, hence alive.
        unsafe {
            let link = (*node).link();
            link.next.set(next);
            link.at.set(&self.first);
            if let Some(next) = next.as_ref() {
                next.link().at.set(&link.next);
            }
        }
        self.first.set(node);
    }

    /// Calls `visit` for each node, newest first. `visit` may unlink the node it is given, and
    /// no other.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(&T)) {
        let mut node = self.first.get();
        // SAFETY: linked nodes are alive, and `next` is read before `visit` may unlink.
        while let Some(this) = unsafe { node.as_ref() } {
            node = this.link().next.get();
            visit(this);
        }
    }
}

/// Takes `node` out of the list it is in, if any.
#[inline(always)]
pub(crate) fn unlink<T: Linked>(node: &T) {
    let link = node.link();
    let at = link.at.replace(ptr::null());
    if at.is_null() {
        return;
    }
    let next = link.next.get();
    // SAFETY: `at` is the list's head or the previous node's `next`; both outlive the linkage by
    // `push`'s contract, and `next` is linked, hence alive.
    unsafe {
        (*at).set(next);
        if let Some(next) = next.as_ref() {
            next.link().at.set(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Node(u32, Link<Node>);

    impl Linked for Node {
        fn link(&self) -> &Link<Node> {
            &self.1
        }
    }

    fn values(list: &List<Node>) -> Vec<u32> {
        let mut all = Vec::new();
        list.for_each(|node| all.push(node.0));
        all
    }

    #[test]
    fn nodes_leave_from_any_place() {
        let nodes: Vec<Node> = (0..5).map(|i| Node(i, Link::new())).collect();
        let list = List::new();
        for node in &nodes {
            // SAFETY: nodes and list stay where they are until the end of the test.
            unsafe { list.push(node) };
        }
        assert_eq!(values(&list), [4, 3, 2, 1, 0]);
        unlink(&nodes[4]);
        unlink(&nodes[2]);
        unlink(&nodes[2]);
        unlink(&nodes[0]);
        assert_eq!(values(&list), [3, 1]);
        list.for_each(unlink);
        assert!(list.is_empty() && nodes.iter().all(|n| !n.1.is_linked()));
    }
}
