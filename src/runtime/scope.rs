//! The scope tree: one structure for everything that tracks operations.
//!
//! Every operation in flight is linked into exactly one scope. Scopes form a tree: the context at
//! the root, below it tasks, below them race branches and timeout blocks. The tree serves
//! cancelling, draining, and the list of what is pending.
//!
//! A scope goes through these states, never back:
//!
//! ```text
//!  open ──cancel──▶ cancelled ──last operation below ends──▶ drained
//!   operations        those in flight are asked to end;        the owner polls its body once
//!   start             new ones fail at once                    more, then drops it
//! ```
//!
//! The error is `ECANCELED`, or [`TIME_LIMIT`](os::TIME_LIMIT) where a time limit is the reason.
//!
//! # Why this file has `unsafe`
//! Scopes live in pinned futures and task cells and point at each other; see [`Scope::attach`].

use crate::os;
use std::cell::Cell;
use std::panic::Location;
use std::ptr;
use std::task::{Context, Poll, Waker};

use super::Runtime;
use super::inflight::Inflight;
use super::list::{Link, Linked, List, unlink};
use super::waker::LocalWaker;

/// What a scope belongs to, for reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Zero, as is nearly all of a new task's scope.
    Task,
    Context,
    Race,
    Timeout,
}

/// How many operations may fail in a cancelled scope before further ones just stay pending, so
/// that a body that ignores errors in a loop comes to rest.
const REFUSALS: u8 = 128;

/// One node of the tree. It must not move once attached. What each operation touches comes first.
#[repr(C)]
pub(crate) struct Scope {
    operations: List<Inflight>,
    /// Zero: open. Else the error number with which operations end here.
    cancelled: Cell<u16>,
    refused: Cell<u8>,
    pub(crate) kind: Kind,
    /// Operations that have ended well here, and in scopes below that are gone.
    ended: Cell<u32>,
    link: Link<Scope>,
    parent: Cell<*const Scope>,
    children: List<Scope>,
    /// Told about each end of an operation once the scope is cancelled.
    waiter: Cell<LocalWaker>,
    pub(crate) location: &'static Location<'static>,
}

impl Linked for Scope {
    fn link(&self) -> &Link<Scope> {
        &self.link
    }
}

/// What came of polling a body in its scope.
pub(crate) enum Step<T> {
    Done(T),
    Pending,
    /// Cancelled, nothing left in flight, and the body still does not end by itself: drop it.
    Ended,
}

impl Scope {
    pub(crate) const fn new(kind: Kind, location: &'static Location<'static>) -> Self {
        Scope {
            link: Link::new(),
            parent: Cell::new(ptr::null()),
            children: List::new(),
            operations: List::new(),
            cancelled: Cell::new(0),
            refused: Cell::new(0),
            waiter: Cell::new(LocalWaker::NONE),
            ended: Cell::new(0),
            kind,
            location,
        }
    }

    pub(crate) fn is_attached(&self) -> bool {
        self.link.is_linked()
    }

    /// Makes this a child of `parent`; it inherits a cancellation.
    ///
    /// # Safety
    /// This scope is not attached, and does not move from now on. It is dropped before its memory
    /// is reused. `parent` likewise does not move, and detaches its children when it is dropped.
    pub(crate) unsafe fn attach(&self, parent: &Scope) {
        self.parent.set(parent);
        if parent.is_cancelled() {
            self.cancelled.set(parent.cancelled.get());
        }
        // SAFETY: what the caller promises.
        unsafe { parent.children.push(self) };
    }

    /// Makes this a child of `parent`, wherever it was before.
    ///
    /// # Safety
    /// As for [`attach`](Self::attach), but it may be attached.
    #[inline(always)]
    pub(crate) unsafe fn follow(&self, parent: &Scope, runtime: &Runtime) {
        if !self.is_attached() {
            // SAFETY: what the caller promises.
            unsafe { self.attach(parent) };
        } else if !ptr::eq(self.parent.get(), parent) {
            // SAFETY: likewise.
            unsafe { self.move_to(parent, runtime) };
        }
    }

    /// # Safety
    /// As for [`follow`](Self::follow).
    #[cold]
    unsafe fn move_to(&self, parent: &Scope, runtime: &Runtime) {
        unlink(self);
        if let Some(old) = self.parent()
            && old.is_cancelled()
        {
            // It may be drained now.
            old.announce(runtime);
        }
        if parent.is_cancelled() {
            self.cancel(parent.errno());
        }
        // SAFETY: what the caller promises, and it has just left the tree.
        unsafe { self.attach(parent) };
    }

    pub(crate) fn parent(&self) -> Option<&Scope> {
        // SAFETY: a parent resets this pointer before it goes; see `release`.
        unsafe { self.parent.get().as_ref() }
    }

    /// Links an operation that is about to be submitted.
    ///
    /// # Safety
    /// `op` is in no scope and stays in place until it is unlinked.
    #[inline(always)]
    pub(crate) unsafe fn enlist(&self, op: &Inflight) {
        // SAFETY: what the caller promises; this scope is pinned, as it is the current one.
        unsafe { self.operations.push(op) };
    }

    /// The error with which operations end here; 0 while it is open.
    fn errno(&self) -> i32 {
        self.cancelled.get().into()
    }

    #[inline(always)]
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.get() != 0
    }

    /// Counts an operation that has ended well.
    #[inline(always)]
    pub(super) fn count_end(&self) {
        self.ended.set(self.ended.get().wrapping_add(1));
    }

    /// How many operations have ended well here and below, as far as their scopes are still there:
    /// good for telling whether anything has happened.
    pub(crate) fn ended(&self) -> u32 {
        let mut ended = self.ended.get();
        self.children.for_each(|child| ended = ended.wrapping_add(child.ended()));
        ended
    }

    /// In a cancelled scope: the error number with which the next operation fails, or `None` if it
    /// is to stay pending.
    ///
    /// Counted in the outermost cancelled scope, so that a body which makes a new scope for each
    /// try (a loop around a timeout) comes to rest too.
    pub(crate) fn refuse(&self) -> Option<i32> {
        let mut outermost = self;
        while let Some(parent) = outermost.parent().filter(|parent| parent.is_cancelled()) {
            outermost = parent;
        }
        let refused = outermost.refused.get();
        outermost.refused.set(refused.saturating_add(1));
        (refused < REFUSALS).then_some(self.errno())
    }

    /// Refuses new operations here and below, and asks those in flight to end, with the error
    /// `errno` if they can be stopped. Where something is cancelled already, its error stays.
    pub(crate) fn cancel(&self, errno: i32) {
        if !self.is_cancelled() {
            // Error numbers are small and positive on every host.
            self.cancelled.set(errno as u16);
        }
        self.operations.for_each(Inflight::cancel);
        self.children.for_each(|child| child.cancel(errno));
    }

    /// The result of an operation in this cancelled scope, given the driver's.
    #[cold]
    pub(super) fn result(&self, result: i32) -> i32 {
        if result == -os::ECANCELED { -self.errno() } else { result }
    }

    /// Whether nothing is in flight here or below.
    pub(crate) fn is_drained(&self) -> bool {
        if !self.operations.is_empty() {
            return false;
        }
        let mut drained = true;
        self.children.for_each(|child| drained = drained && child.is_drained());
        drained
    }

    /// Calls `visit` for every operation in flight here and below.
    pub(crate) fn visit(&self, visit: &mut dyn FnMut(&Inflight)) {
        self.operations.for_each(&mut *visit);
        self.children.for_each(|child| child.visit(visit));
    }

    pub(crate) fn children(&self) -> &List<Scope> {
        &self.children
    }

    /// Takes note that an operation in this cancelled scope has ended: whoever waits for this or
    /// an enclosing scope to drain looks again.
    #[cold]
    pub(super) fn announce(&self, runtime: &Runtime) {
        let mut scope = Some(self);
        while let Some(this) = scope {
            this.waiter.replace(LocalWaker::NONE).wake(runtime);
            scope = this.parent();
        }
    }

    /// Leaves the tree. What is still below (a future that was moved out of the scope's body while
    /// in flight) goes to the parent, or to the root of its own context.
    #[inline(always)]
    pub(crate) fn release(&self) {
        let parent = self.parent.replace(ptr::null());
        unlink(self);
        // SAFETY: the parent was alive as long as we were attached to it.
        let parent = unsafe { parent.as_ref() };
        if let Some(parent) = parent {
            parent.ended.set(parent.ended.get().wrapping_add(self.ended.get()));
        }
        if !self.operations.is_empty() || !self.children.is_empty() {
            self.hand_on(parent);
        }
        if self.is_cancelled() {
            // A task's own waiter refers to the task, which would keep itself alive. It goes last:
            // a foreign one's destructor may panic.
            self.waiter.set(LocalWaker::NONE);
        }
    }

    #[cold]
    fn hand_on(&self, heir: Option<&Scope>) {
        self.operations.for_each(|op| {
            unlink(op);
            op.rehome(heir);
        });
        self.children.for_each(|child| {
            unlink(child);
            child.parent.set(ptr::null());
            if let Some(heir) = heir {
                // SAFETY: the child has just left our list, and is pinned, since it was attached.
                unsafe { child.attach(heir) };
            }
        });
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        if self.is_attached() || !self.operations.is_empty() || !self.children.is_empty() {
            self.release();
        }
    }
}

impl Runtime {
    /// Polls a body with `scope` as the current one, and says whether it is over.
    #[inline(always)]
    pub(crate) fn poll_in<T>(
        &self,
        scope: &Scope,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Step<T> {
        struct Restore<'a>(&'a Runtime, *const Scope);
        impl Drop for Restore<'_> {
            fn drop(&mut self) {
                self.0.current_scope.set(self.1);
            }
        }
        let outer = Restore(self, self.current_scope.replace(scope));
        let polled = poll(cx);
        drop(outer);
        match polled {
            Poll::Ready(value) => Step::Done(value),
            Poll::Pending if scope.is_cancelled() => scope.pending_or_ended(cx),
            Poll::Pending => Step::Pending,
        }
    }
}

impl Scope {
    #[cold]
    fn pending_or_ended<T>(&self, cx: &Context<'_>) -> Step<T> {
        if self.is_drained() {
            return Step::Ended;
        }
        self.wait(cx.waker());
        Step::Pending
    }

    /// Has `waker` woken when an operation of this cancelled scope ends.
    pub(crate) fn wait(&self, waker: &Waker) {
        let waiter = LocalWaker::new(waker);
        // A foreign waker's `clone` may have taken in the last one's end.
        if self.is_drained() { waiter.wake_now() } else { self.waiter.set(waiter) }
    }
}
