//! Intrusive lists: the nodes live in pinned futures, so linking costs no allocation.
//!
//! A node has the address of the cell that points to it, so unlinking needs neither the list nor a
//! search.

// # Why this file has `unsafe`
// The list follows raw pointers into memory that it does not own.

use std::cell::Cell;
use std::ptr;

/// The part of a node by which it is in a list.
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

/// An intrusive list, newest node first. It must not move while it is not empty.
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
    /// - `node` is valid, and in no list;
    /// - until it is unlinked, neither it nor this list is moved or freed.
    #[inline(always)]
    pub(crate) unsafe fn push(&self, node: *const T) {
        let next = self.first.get();
        // SAFETY: item 1 for `node`; `next` is linked, hence alive by item 2 of its own `push`.
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

    /// Returns the newest node.
    pub(crate) fn first(&self) -> Option<*const T> {
        Some(self.first.get()).filter(|first| !first.is_null())
    }

    /// Calls `visit` for each node, newest first. `visit` may unlink the node that it gets, and no
    /// other. Debug builds panic where that is breached so that a dangling pointer would follow.
    pub(crate) fn for_each(&self, visit: impl FnMut(&T)) {
        self.for_newest(u64::MAX, visit);
    }

    /// Does the same for the `most` newest nodes.
    #[inline]
    pub(crate) fn for_newest(&self, mut most: u64, mut visit: impl FnMut(&T)) {
        let mut node = self.first.get();
        // SAFETY: linked nodes are alive (item 2 of `push`). `node` was linked when it was read,
        // and `visit` has unlinked at most the node before it.
        while let Some(this) = unsafe { node.as_ref() } {
            if most == 0 {
                return;
            }
            most -= 1;
            #[cfg(test)]
            steps::count();
            node = this.link().next.get();
            #[cfg(debug_assertions)]
            let this_visit = visits::Visit::new(node.cast());
            #[cfg(debug_assertions)]
            let _entered = this_visit.enter();
            visit(this);
        }
    }
}

/// Takes `node` out of the list it is in, if any.
#[inline(always)]
pub(crate) fn unlink<T: Linked>(node: &T) {
    let link = node.link();
    let at = link.at.get();
    if at.is_null() {
        return;
    }
    #[cfg(debug_assertions)]
    visits::assert_not_next(ptr::from_ref(node).cast());
    link.at.set(ptr::null());
    let next = link.next.get();
    // SAFETY: `at` is the list's head or the previous node's `next`: both are in place while `node`
    // is linked (item 2 of `push`). `next` is linked, hence alive.
    unsafe {
        (*at).set(next);
        if let Some(next) = next.as_ref() {
            next.link().at.set(at);
        }
    }
}

/// The visits of [`List::for_each`] that are under way on this thread, for a debug assertion.
#[cfg(debug_assertions)]
mod visits {
    use std::cell::Cell;
    use std::ptr;

    thread_local! {
        static INNERMOST: Cell<*const Visit> = const { Cell::new(ptr::null()) };
    }

    /// One call of `visit`, in the stack frame of `for_each`.
    pub(super) struct Visit {
        next: *const (),
        outer: *const Visit,
    }

    /// Ends a visit when it is dropped, before the [`Visit`] that it borrows.
    pub(super) struct Entered<'a>(&'a Visit);

    impl Visit {
        pub(super) fn new(next: *const ()) -> Self {
            Visit { next, outer: INNERMOST.get() }
        }

        pub(super) fn enter(&self) -> Entered<'_> {
            INNERMOST.set(self);
            Entered(self)
        }
    }

    impl Drop for Entered<'_> {
        fn drop(&mut self) {
            INNERMOST.set(self.0.outer);
        }
    }

    pub(super) fn assert_not_next(node: *const ()) {
        let mut visit = INNERMOST.get();
        // SAFETY: a visit is in the chain only while `Entered` borrows it.
        while let Some(this) = unsafe { visit.as_ref() } {
            assert!(this.next != node, "a visit of a list unlinked the node that comes next");
            visit = this.outer;
        }
    }
}

/// The steps of this thread along lists, for tests of how many there are.
#[cfg(test)]
pub(crate) mod steps {
    use std::cell::Cell;

    thread_local! {
        static STEPS: Cell<u64> = const { Cell::new(0) };
    }

    pub(super) fn count() {
        STEPS.set(STEPS.get() + 1);
    }

    /// Returns the steps since the last call.
    pub(crate) fn take() -> u64 {
        STEPS.take()
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
    #[cfg(debug_assertions)]
    #[should_panic(expected = "unlinked the node that comes next")]
    fn a_visit_that_unlinks_another_node_is_caught() {
        let nodes: Vec<Node> = (0..2).map(|i| Node(i, Link::new())).collect();
        let list = List::new();
        for node in &nodes {
            // SAFETY: nodes and list stay where they are until the end of the test.
            unsafe { list.push(node) };
        }
        list.for_each(|_| unlink(&nodes[0]));
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
