//! The scope tree, which tracks the operations in flight of tasks, races and timeouts.
//!
//! Every operation in flight is linked into exactly one scope. Scopes form a tree: the context at
//! the root, below it tasks, below them race branches and timeout blocks. The tree is used to
//! cancel, to wait until nothing is in flight, and to list the operations in flight.
//!
//! A scope passes through these states in this order:
//!
//! ```text
//!  open ──cancel──▶ cancelled ──last operation below ends──▶ drained
//!   operations        those in flight are cancelled;           the owner polls its body once
//!   start             new ones fail at once                    more, then drops it
//! ```
//!
//! Operations end with `ECANCELED`, or with [`TIME_LIMIT`](os::TIME_LIMIT) if a time limit has
//! cancelled the scope.

// # Why this file has `unsafe`
// Scopes live in pinned futures and task cells and point at each other; see [`Scope::attach`].

use std::cell::Cell;
use std::marker::PhantomPinned;
use std::panic::Location;
use std::ptr;
use std::task::{Poll, Waker};

use super::Runtime;
use super::list::{Link, Linked, List, unlink};
use super::tracked_op::TrackedOp;
use super::waker::LocalWaker;
use crate::os;

/// What a scope belongs to, for reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// First, so that it is zero, like nearly all of a new task's scope.
    Task,
    Context,
    /// The parent of all tasks, below the context: nothing else is in it.
    Tasks,
    Race,
    TryJoin,
    Timeout,
}

/// How many operations may fail in a cancelled scope before further ones stay pending instead, and
/// how often its body may spend its [budget](super::poll_budget), so that one that ignores errors
/// in a loop does not keep the thread busy.
const REFUSALS: u8 = 128;

/// Stands for `ECANCELED` in a scope that its context has cancelled by ending. If the scope
/// outlives that context, it is open again in the next. No error number has this value.
const BY_CONTEXT: u16 = u16::MAX;

/// A node of the scope tree. It must not move once attached. The fields that each operation touches
/// come first.
#[repr(C)]
pub(crate) struct Scope {
    operations: List<TrackedOp>,
    /// Zero while open, else the error number with which operations end here, or [`BY_CONTEXT`].
    cancelled: Cell<u16>,
    refused: Cell<u8>,
    pub(crate) kind: Kind,
    /// How many operations have succeeded here, and in scopes below that were dropped.
    succeeded: Cell<u32>,
    link: Link<Scope>,
    parent: Cell<*const Scope>,
    children: List<Scope>,
    /// Woken at each completion of an operation once the scope is cancelled.
    waiter: Cell<LocalWaker>,
    pub(crate) location: &'static Location<'static>,
    /// Others point at it, so that not even its destructor has it for itself.
    pinned: PhantomPinned,
}

impl Linked for Scope {
    fn link(&self) -> &Link<Scope> {
        &self.link
    }
}

/// The result of polling a body in its scope.
pub(crate) enum Step<T> {
    Done(T),
    Pending,
    /// Cancelled with nothing in flight, and the body is still pending: the owner drops it.
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
            succeeded: Cell::new(0),
            kind,
            location,
            pinned: PhantomPinned,
        }
    }

    pub(crate) fn is_attached(&self) -> bool {
        self.link.is_linked()
    }

    /// Makes this a child of `parent`. If `parent` is cancelled, so is this.
    ///
    /// # Safety
    /// - This scope is not attached, and does not move from now on.
    /// - This scope is dropped before its memory is reused.
    /// - `parent` does not move, and detaches its children when it is dropped.
    pub(crate) unsafe fn attach(&self, parent: &Scope) {
        self.parent.set(parent);
        if parent.is_cancelled() && !self.is_cancelled() {
            self.cancelled.set(parent.cancelled.get());
        }
        // SAFETY: not attached, so in no list; neither moves while linked, and each unlinks when
        // dropped (all by this function's contract).
        unsafe { parent.children.push(self) };
    }

    /// Makes this a child of `parent`, also if it is another scope's child.
    ///
    /// # Safety
    /// As for [`attach`](Self::attach), except that this scope may be attached.
    #[inline(always)]
    pub(crate) unsafe fn follow(&self, parent: &Scope, runtime: &Runtime) {
        if !self.is_attached() {
            // SAFETY: not attached; the rest is this function's contract.
            unsafe { self.attach(parent) };
        } else if !ptr::eq(self.parent.get(), parent) {
            // SAFETY: the same contract.
            unsafe { self.move_to(parent, runtime) };
        }
    }

    /// Makes this, which has another parent, a child of `parent`.
    ///
    /// # Safety
    /// As for [`follow`](Self::follow).
    #[cold]
    unsafe fn move_to(&self, parent: &Scope, runtime: &Runtime) {
        unlink(self);
        if let Some(old) = self.parent().filter(|old| old.is_cancelled()) {
            // It may be drained now.
            old.wake_waiters(runtime);
        }
        if parent.is_cancelled() {
            self.mark_cancelled(parent.cancelled.get());
        }
        // SAFETY: it has just left the tree; the rest is this function's contract.
        unsafe { self.attach(parent) };
    }

    pub(crate) fn parent(&self) -> Option<&Scope> {
        // SAFETY: a parent resets this pointer before it is dropped; see `release`.
        unsafe { self.parent.get().as_ref() }
    }

    /// Links an operation into this scope.
    ///
    /// # Safety
    /// - `op` is in no scope and stays in place until it is unlinked.
    /// - This scope is pinned.
    #[inline(always)]
    pub(crate) unsafe fn link_operation(&self, op: &TrackedOp) {
        // SAFETY: both items of this function's contract.
        unsafe { self.operations.push(op) };
    }

    /// Returns the error number with which operations end here; 0 while the scope is open.
    fn errno(&self) -> i32 {
        match self.cancelled.get() {
            BY_CONTEXT => os::ECANCELED,
            errno => errno.into(),
        }
    }

    #[inline(always)]
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.get() != 0
    }

    /// Counts an operation that has succeeded.
    #[inline(always)]
    pub(super) fn count_success(&self) {
        self.succeeded.set(self.succeeded.get().wrapping_add(1));
    }

    /// Returns how many operations have succeeded here and below. The count wraps; a change of it
    /// means that there was progress.
    pub(crate) fn succeeded(&self) -> u32 {
        let mut succeeded = self.succeeded.get();
        self.children.for_each(|child| succeeded = succeeded.wrapping_add(child.succeeded()));
        succeeded
    }

    /// Returns the error number with which the next operation in this cancelled scope fails, or
    /// `None` if it stays pending.
    ///
    /// Refusals are counted in the outermost cancelled scope, so that the limit also holds for a
    /// body that creates a scope for each attempt (a loop around a timeout).
    pub(crate) fn refuse(&self) -> Option<i32> {
        let mut outermost = self;
        while let Some(parent) = outermost.parent().filter(|parent| parent.is_cancelled()) {
            outermost = parent;
        }
        let refused = outermost.refused.get();
        outermost.refused.set(refused.saturating_add(1));
        (refused < REFUSALS).then_some(self.errno())
    }

    /// Refuses new operations here and below, and cancels those in flight; they end with `errno`
    /// unless they complete first. A scope that is cancelled already keeps its error number.
    pub(crate) fn cancel(&self, errno: i32) {
        // Error numbers are small and positive on every host.
        self.mark_cancelled(errno as u16);
    }

    /// Cancels this scope of a context, which is ending.
    pub(crate) fn cancel_at_end(&self) {
        self.mark_cancelled(BY_CONTEXT);
    }

    fn mark_cancelled(&self, mark: u16) {
        if !self.is_cancelled() {
            self.cancelled.set(mark);
        }
        self.operations.for_each(TrackedOp::cancel);
        self.children.for_each(|child| child.mark_cancelled(mark));
    }

    /// Opens this scope and those below, where they were cancelled by the end of their context.
    fn reopen(&self) {
        if self.cancelled.get() == BY_CONTEXT {
            self.cancelled.set(0);
            self.refused.set(0);
            self.waiter.set(LocalWaker::NONE);
            self.children.for_each(Scope::reopen);
        }
    }

    /// Translates the driver's result of an operation in this cancelled scope: `ECANCELED` becomes
    /// the scope's error number.
    #[cold]
    pub(super) fn translate_result(&self, result: i32) -> i32 {
        if result == -os::ECANCELED { -self.errno() } else { result }
    }

    /// Returns `true` if nothing is in flight here or below.
    pub(crate) fn is_drained(&self) -> bool {
        if !self.operations.is_empty() {
            return false;
        }
        let mut drained = true;
        self.children.for_each(|child| drained = drained && child.is_drained());
        drained
    }

    /// Calls `visit` for every operation in flight here and below.
    pub(crate) fn visit(&self, visit: &mut dyn FnMut(&TrackedOp)) {
        self.operations.for_each(&mut *visit);
        self.children.for_each(|child| child.visit(visit));
    }

    /// Moves every operation below to the root of `runtime`, its context, whose driver will not run
    /// any more: what waits here for them to end goes on without them.
    pub(super) fn give_up(&self, runtime: &Runtime) {
        if !ptr::eq(self, &runtime.root) {
            self.operations.for_each(|op| {
                unlink(op);
                op.reparent(None);
            });
            self.waiter.replace(LocalWaker::NONE).wake(runtime);
        }
        self.children.for_each(|child| child.give_up(runtime));
    }

    /// Cancels what belongs to no task, now and until [`open`](Self::open): what moves here is
    /// cancelled then.
    pub(super) fn cancel_all_but_tasks(&self) {
        self.cancelled.set(os::ECANCELED as u16);
        self.operations.for_each(TrackedOp::cancel);
        self.children.for_each(|child| {
            if child.kind != Kind::Tasks {
                child.cancel(os::ECANCELED);
            }
        });
    }

    /// Ends what [`cancel_all_but_tasks`](Self::cancel_all_but_tasks) has begun.
    pub(super) fn open(&self) {
        self.cancelled.set(0);
        self.refused.set(0);
    }

    pub(crate) fn children(&self) -> &List<Scope> {
        &self.children
    }

    /// Wakes the tasks that wait for this cancelled scope, or an enclosing one, to drain.
    #[cold]
    pub(super) fn wake_waiters(&self, runtime: &Runtime) {
        let mut scope = Some(self);
        while let Some(this) = scope {
            this.waiter.replace(LocalWaker::NONE).wake(runtime);
            scope = this.parent();
        }
    }

    /// Removes the scope from the tree. Operations and scopes still below it (a future that was
    /// moved out of the scope's body while in flight) move to the parent, or to the root of their
    /// own context.
    #[inline(always)]
    pub(crate) fn release(&self) {
        let parent = self.parent.replace(ptr::null());
        unlink(self);
        // SAFETY: the parent was alive as long as we were attached to it.
        let mut parent = unsafe { parent.as_ref() };
        if let Some(parent) = parent {
            parent.succeeded.set(parent.succeeded.get().wrapping_add(self.succeeded.get()));
        }
        if !self.operations.is_empty() || !self.children.is_empty() {
            if let Some(tasks) = parent.filter(|parent| parent.kind == Kind::Tasks) {
                parent = tasks.parent();
            }
            self.reparent_children(parent);
        }
        if self.is_cancelled() {
            // A task's own waker here would keep the task alive forever. Dropped last, as a foreign
            // waker's destructor may panic.
            self.waiter.set(LocalWaker::NONE);
        }
    }

    #[cold]
    fn reparent_children(&self, parent: Option<&Scope>) {
        self.operations.for_each(|op| {
            unlink(op);
            op.reparent(parent);
        });
        self.children.for_each(|child| {
            unlink(child);
            child.parent.set(ptr::null());
            let Some(parent) = parent else { return child.reopen() };
            if parent.is_cancelled() {
                child.mark_cancelled(parent.cancelled.get());
            }
            // SAFETY: the child has just left our list, and is pinned, since it was attached.
            unsafe { child.attach(parent) };
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
    /// Polls a body with `scope` as the current scope. `waker` is that of the poll: not the one in
    /// its `Context`, into which the body may put another.
    #[inline(always)]
    pub(crate) fn poll_in<T>(
        &self,
        scope: &Scope,
        waker: &Waker,
        poll: impl FnOnce() -> Poll<T>,
    ) -> Step<T> {
        struct Restore<'a>(&'a Runtime, *const Scope);
        impl Drop for Restore<'_> {
            fn drop(&mut self) {
                self.0.current_scope.set(self.1);
            }
        }
        let outer = Restore(self, self.current_scope.replace(scope));
        let polled = poll();
        drop(outer);
        match polled {
            Poll::Ready(value) => Step::Done(value),
            Poll::Pending if scope.is_cancelled() => scope.pending_or_ended(self, waker),
            Poll::Pending => Step::Pending,
        }
    }
}

impl Scope {
    #[cold]
    fn pending_or_ended<T>(&self, runtime: &Runtime, waker: &Waker) -> Step<T> {
        if self.is_drained() {
            // A body that has spent its budget does not wait for anything: it may still end.
            if runtime.has_refused() && self.refuse().is_some() {
                runtime.yield_spent(waker);
                return Step::Pending;
            }
            return Step::Ended;
        }
        self.wait(waker);
        Step::Pending
    }

    /// Registers `waker` to be woken when an operation of this cancelled scope ends.
    pub(crate) fn wait(&self, waker: &Waker) {
        let waiter = LocalWaker::new(waker);
        // A foreign waker's `clone` may have delivered the last completion.
        if self.is_drained() { waiter.wake_now() } else { self.waiter.set(waiter) }
    }
}
