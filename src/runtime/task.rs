//! A task's header: reference counts, links and a vtable for the body, whose type the loop does not
//! know.
//!
//! References are counted in two places. The owning thread counts its own ([`TaskRef`]) without
//! atomics. All of these together hold one reference of the atomic count, and each `Waker` holds
//! one. The cell is freed when the atomic count reaches zero, on any thread. Future and output were
//! dropped before that: the owning thread drops them while it holds a local reference.

// # Why this file has `unsafe`
// Headers are shared between threads by raw pointer; each field says which thread may touch it.

use std::any::Any;
use std::cell::Cell;
use std::panic::Location;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::task::Waker;

use super::Runtime;
use super::inbox::{InboxLink, InboxNode};
use super::ready_queue::ReadyQueue;
use super::refcount::AtomicCount;
use super::remote::Remote;
use super::scope::{Kind, Scope};
use super::task_memory::CellLayout;
use super::waker::LocalWaker;
use crate::os;

/// The functions and constants of a task's type, which the loop does not know.
pub(crate) struct VTable {
    /// Polls the body once. Called on the owning thread; the task is neither done nor `NO_POLL`.
    pub(crate) run: unsafe fn(*const Header, &Runtime),
    /// Drops the body without polling it, and marks the task done.
    pub(crate) end: unsafe fn(*const Header),
    /// Called once for a task that is leaked, on the owning thread; the body stays as it is.
    pub(crate) leak: unsafe fn(*const Header),
    /// The output's offset from the header in bytes. It is there while the task is done and
    /// joinable.
    pub(crate) output: usize,
    /// The cell's memory layout.
    pub(crate) layout: CellLayout,
}

/// The task is in the run queue.
const QUEUED: u32 = 1;
/// The body was dropped.
const DONE: u32 = 2;
/// The task was polled, or taken from the run queue to be polled.
const STARTED: u32 = 4;
/// There is a join handle that has not taken the output.
const JOINABLE: u32 = 8;
/// The body has panicked; see [`Header::panic`].
const PANICKED: u32 = 16;
/// The body must not be polled: it has panicked, or was cancelled before its first poll.
const NO_POLL: u32 = 32;
/// The header holds a reference to its `remote`.
const KEEPS_REMOTE: u32 = 64;
/// The task was leaked with its context, which the join handle has not reported yet. `DONE` is set
/// too, though the body was not dropped; the reference of an unfinished task is kept for ever.
const LEAKED: u32 = 128;
/// The task has ended while no other waited for it.
const UNAWAITED: u32 = 256;

/// The part of a task's cell that does not depend on its body. The fields that each wake and poll
/// touches come first, in one cache line.
#[repr(C)]
pub(crate) struct Header {
    // Owning thread only, except `vtable`.
    flags: Cell<u32>,
    /// As wide as an address, so that no number of leaked references can wrap it.
    local: Cell<usize>,
    pub(super) next: Cell<*const Header>,
    vtable: &'static VTable,
    /// Valid while the task is not done.
    runtime: *const Runtime,
    pub(crate) scope: Scope,
    pub(crate) joiner: Cell<LocalWaker>,
    /// The payload of the body's panic, until the body can be dropped. Boxed twice, to be small.
    panic: Cell<Option<Box<Box<dyn Any + Send>>>>,
    // Any thread.
    refs: AtomicCount,
    inbox: InboxLink<Header>,
    /// Kept alive by the runtime, which outlives its unfinished tasks; after that by a reference of
    /// this header, if there are wakers left that may use it ([`KEEPS_REMOTE`]).
    remote: *const Remote,
}

impl InboxNode for Header {
    fn inbox(&self) -> &InboxLink<Self> {
        &self.inbox
    }
}

impl Header {
    /// Creates the header of a task that is about to be queued.
    pub(crate) fn new(
        runtime: &Runtime,
        vtable: &'static VTable,
        location: &'static Location<'static>,
    ) -> Self {
        Header {
            // `begin` queues it.
            flags: Cell::new(JOINABLE | QUEUED),
            // One for the task being alive, one for its join handle.
            local: Cell::new(2),
            next: Cell::new(ptr::null()),
            joiner: Cell::new(LocalWaker::NONE),
            panic: Cell::new(None),
            scope: Scope::new(Kind::Task, location),
            runtime,
            refs: AtomicCount::one(),
            inbox: InboxLink::new(),
            remote: Arc::as_ptr(&runtime.remote),
            vtable,
        }
    }

    /// Returns this header's address with the provenance of the whole cell.
    #[inline(always)]
    fn whole(&self) -> *const Header {
        // The provenance of the cell's allocation was exposed in `TaskRef::adopt`.
        ptr::with_exposed_provenance(ptr::from_ref(self).addr())
    }

    /// Links a new task into the scope tree and the run queue.
    ///
    /// # Safety
    /// Owning thread, and called once. The cell does not move from now on.
    #[inline(always)]
    pub(crate) unsafe fn begin(this: *const Header, runtime: &Runtime) {
        // SAFETY: the scope is in the cell, and leaves the tree in `finish`; a task that is not
        // done stays alive.
        unsafe {
            (*this).scope.attach(&runtime.tasks);
            runtime.ready.push(this);
        }
        runtime.stats.tasks_spawned.add(1);
    }

    fn has(&self, flag: u32) -> bool {
        self.flags.get() & flag != 0
    }

    fn add(&self, flag: u32) {
        self.flags.set(self.flags.get() | flag);
    }

    fn remove(&self, flag: u32) {
        self.flags.set(self.flags.get() & !flag);
    }

    pub(crate) fn is_done(&self) -> bool {
        self.has(DONE)
    }

    pub(crate) fn is_joinable(&self) -> bool {
        self.has(JOINABLE)
    }

    /// Records that no handle will take the output.
    pub(crate) fn detach(&self) {
        self.remove(JOINABLE);
    }

    /// Puts the task into the run queue, unless it is there or done. Owning thread only.
    #[inline(always)]
    pub(crate) fn schedule(&self) {
        if self.flags.get() & (QUEUED | DONE) == 0 {
            self.add(QUEUED);
            // SAFETY: the runtime outlives its unfinished tasks.
            unsafe { (*self.runtime).ready.push(self.whole()) };
        }
    }

    /// Puts the task at the front of another queue of its runtime instead, unless it is queued or
    /// done. Owning thread only.
    pub(super) fn schedule_in(&self, queue: &ReadyQueue) {
        if self.flags.get() & (QUEUED | DONE) == 0 {
            self.add(QUEUED);
            // SAFETY: in no queue yet; the reference of an unfinished task is kept until it is
            // popped.
            unsafe { queue.push_front(self.whole()) };
        }
    }

    /// Cancels the task's operations in flight and schedules it, so that it sees their results.
    pub(crate) fn cancel(&self) {
        if !self.is_done() && !self.scope.is_cancelled() {
            if !self.has(STARTED) {
                self.add(NO_POLL);
            }
            self.scope.cancel(os::ECANCELED);
            self.schedule();
        }
    }

    /// Cancels the task, whose body is not polled again: it is dropped when nothing of it is in
    /// flight, at once if nothing is.
    ///
    /// # Safety
    /// Owning thread; the caller has a reference, and the task is not done.
    #[cold]
    unsafe fn abandon(this: *const Header) {
        // SAFETY: not done, so the runtime is alive, and so is the header, until `end_drained`,
        // which has the same contract.
        unsafe {
            (*this).add(NO_POLL);
            (*this).scope.cancel(os::ECANCELED);
            if std::ptr::eq((*(*this).runtime).current_task.get(), this) {
                // By its own body, which is being polled.
                (*this).schedule();
            } else {
                Header::end_drained(this);
            }
        }
    }

    /// Ends a task whose body has panicked with the payload `panic`.
    ///
    /// # Safety
    /// Owning thread; the task is not done. It may have been freed on return.
    #[cold]
    pub(crate) unsafe fn end_panicked(this: *const Header, panic: Box<dyn Any + Send>) {
        // SAFETY: not done, so the header is alive until `end_drained`, which has the same
        // contract.
        unsafe {
            (*this).add(PANICKED | NO_POLL);
            (*this).panic.set(Some(Box::new(panic)));
            (*this).scope.cancel(os::ECANCELED);
            Header::end_drained(this);
        }
    }

    /// Ends a task that must not be polled. Its body is dropped when its operations in flight have
    /// completed: now, or when a completion schedules the task.
    ///
    /// # Safety
    /// As for [`end_panicked`](Self::end_panicked).
    unsafe fn end_drained(this: *const Header) {
        // SAFETY: not done, so the header is alive, and outlives the borrowed waker; nothing is in
        // flight when `end` is called.
        unsafe {
            if (*this).scope.is_drained() {
                ((*this).vtable.end)(this);
            } else {
                (*this).scope.wait(&(*this).lend_waker());
            }
        }
    }

    /// Takes the payload of the body's panic.
    pub(crate) fn take_panic(&self) -> Option<Box<dyn Any + Send>> {
        self.panic.take().map(|panic| *panic)
    }

    /// Marks the task done and wakes the task that awaits it. Drops the reference that unfinished
    /// tasks hold, so the header may have been freed on return.
    ///
    /// # Safety
    /// Owning thread; the body was dropped, and this is called once.
    pub(crate) unsafe fn finish(this: *const Header) {
        // SAFETY: the reference of an unfinished task, counted in `new`, is dropped last; a queued
        // task drops it when popped.
        unsafe {
            // Set first: a task is not polled again, whatever code runs below.
            (*this).add(DONE);
            (*this).scope.release();
            if (*this).refs.is_shared() {
                // There are wakers, and the runtime may be dropped before them. If there are none,
                // there will be none: they are cloned from others, or from the one lent to a poll.
                Arc::increment_strong_count((*this).remote);
                (*this).add(KEEPS_REMOTE);
            }
            match (*this).joiner.replace(LocalWaker::NONE) {
                LocalWaker::Foreign(joiner) => return Header::finish_waking(this, joiner),
                LocalWaker::Task(Some(joiner)) => joiner.schedule(),
                LocalWaker::Task(None) => (*this).add(UNAWAITED),
            }
            if !(*this).has(QUEUED) {
                Header::release_local(this);
            }
        }
    }

    /// Does the rest of [`finish`](Self::finish) with a foreign joiner, which may panic.
    ///
    /// # Safety
    /// As for `finish`.
    #[cold]
    unsafe fn finish_waking(this: *const Header, joiner: Waker) {
        // SAFETY: the reference of an unfinished task, as in `finish`; dropping this drops it.
        let _alive = unsafe { (!(*this).has(QUEUED)).then(|| TaskRef::adopt(this)) };
        joiner.wake();
    }

    /// Drops a local reference.
    ///
    /// # Safety
    /// Owning thread; the caller owns the reference.
    unsafe fn release_local(this: *const Header) {
        // SAFETY: the caller's reference keeps the header alive until here.
        unsafe {
            let local = (*this).local.get() - 1;
            (*this).local.set(local);
            if local == 0 {
                Header::release(this);
            }
        }
    }

    /// Frees the cell, or keeps its memory for another task. Any thread.
    ///
    /// # Safety
    /// This was the last reference; body and output were dropped.
    #[inline(always)]
    unsafe fn free(this: *const Header) {
        // SAFETY: body and output were dropped, so nothing that belongs to another thread is
        // dropped here; the cell was allocated with its `layout`.
        unsafe {
            debug_assert!((*this).is_done() && !(*this).scope.is_attached());
            if (*this).flags.get() & (PANICKED | KEEPS_REMOTE) != 0 {
                (*this).drop_rest();
            }
            let (remote, layout) = ((*this).remote, &(*this).vtable.layout);
            let cell = NonNull::new_unchecked(this.cast_mut()).cast();
            // If the remote was freed, that of another context may have its address; that context
            // may keep the cell as well.
            let kept = Runtime::try_with(|runtime| match runtime {
                Some(runtime) if runtime.is_at(remote) => {
                    runtime.task_memory.recycle(layout, cell) || runtime.recycle_more(layout, cell)
                }
                _ => false,
            });
            if !kept {
                layout.free(cell);
            }
        }
    }

    /// Drops the panic's payload and the reference to the remote. Joiner and scope hold nothing any
    /// more: `finish` has emptied them, and so has the handle's drop.
    ///
    /// # Safety
    /// Called once, by `free`.
    #[cold]
    unsafe fn drop_rest(&self) {
        drop(self.panic.take());
        if self.has(KEEPS_REMOTE) {
            // SAFETY: `finish` has counted this reference.
            unsafe { Arc::decrement_strong_count(self.remote) };
        }
    }

    /// Returns `true` if the task's context is running on this thread. Any thread, while there is a
    /// waker: that keeps the remote alive, so that no other context's remote has its address.
    #[inline(always)]
    pub(super) fn is_at_home(&self) -> bool {
        Runtime::try_with(|runtime| runtime.is_some_and(|runtime| runtime.is_at(self.remote)))
    }

    /// Counts one more waker. Any thread.
    ///
    /// # Safety
    /// The header is alive.
    pub(super) unsafe fn acquire(this: *const Header) {
        // SAFETY: the header is alive.
        unsafe { (*this).refs.increment() };
    }

    /// Drops one atomically counted reference. Any thread.
    ///
    /// # Safety
    /// The caller owns one.
    #[inline(never)] // To be small: this is called wherever a waker is dropped.
    pub(super) unsafe fn release(this: *const Header) {
        // SAFETY: the caller's reference keeps the header alive until here; the last one frees it.
        unsafe {
            if (*this).refs.decrement() {
                Header::free(this);
            }
        }
    }

    /// Posts the task to its context's inbox, unless it is there, and wakes the context. Any
    /// thread.
    ///
    /// # Safety
    /// The header is alive.
    #[cold]
    pub(super) unsafe fn wake_remotely(this: *const Header) {
        // SAFETY: the header is alive now, so a reference for the inbox can be counted; the owner
        // drops it when it empties the inbox. The remote is alive while there is a waker, see the
        // field; it gets a reference here, as the header may be freed as soon as it is posted.
        unsafe {
            if (*this).inbox.enter() {
                Header::acquire(this);
                Arc::increment_strong_count((*this).remote);
                let remote = Arc::from_raw((*this).remote);
                if !remote.post(this) {
                    Header::release(this);
                }
            }
        }
    }

    /// Polls the task once.
    ///
    /// # Safety
    /// Owning thread; the task was just popped from the run queue.
    #[inline(always)]
    pub(super) unsafe fn run(this: *const Header, runtime: &Runtime) {
        // SAFETY: a queued task is alive; `run` may free it, and is the last use.
        unsafe {
            let flags = (*this).flags.get();
            (*this).flags.set(flags & !QUEUED | STARTED);
            if flags & (DONE | NO_POLL) == 0 {
                ((*this).vtable.run)(this, runtime);
            } else {
                Header::run_without_poll(this);
            }
        }
    }

    /// Handles a task that was popped and must not be polled.
    ///
    /// # Safety
    /// As for [`run`](Self::run).
    #[cold]
    unsafe fn run_without_poll(this: *const Header) {
        // SAFETY: a queued task is alive, and this is its last use here.
        unsafe {
            if (*this).is_done() {
                // It ended while queued: `finish` has left the reference to be dropped here.
                Header::release_local(this);
            } else {
                Header::end_drained(this);
            }
        }
    }

    /// Drops the body without polling it.
    ///
    /// # Safety
    /// Owning thread; the task is not done, and nothing is in flight in its scope.
    pub(super) unsafe fn end(this: *const Header) {
        // SAFETY: not done, so the header is alive; the rest is `VTable::end`'s contract.
        unsafe { ((*this).vtable.end)(this) };
    }

    /// Gives the task up: it is never polled, ended or freed, and counts as cancelled.
    ///
    /// # Safety
    /// Owning thread; the task is not done, and its runtime is never freed.
    pub(super) unsafe fn leak(this: *const Header) {
        // SAFETY: the reference of an unfinished task is kept, so the header stays alive; the rest
        // is `VTable::leak`'s contract.
        unsafe {
            let flags = (*this).flags.get();
            let leaked = if flags & JOINABLE != 0 { LEAKED } else { 0 };
            (*this).flags.set(flags & !JOINABLE | DONE | leaked);
            (*this).scope.release();
            ((*this).vtable.leak)(this);
            (*this).joiner.replace(LocalWaker::NONE).wake_now();
        }
    }

    /// Returns `true` if the task has ended while no other waited for it, and the output is there.
    pub(crate) fn is_unawaited(&self) -> bool {
        self.flags.get() & (UNAWAITED | JOINABLE) == UNAWAITED | JOINABLE
    }

    /// Returns `true`, once, if the task was leaked while its handle waited for the output.
    pub(crate) fn take_leaked(&self) -> bool {
        let leaked = self.has(LEAKED);
        self.remove(LEAKED);
        leaked
    }

    /// Returns the task that a scope of the kind `Task` is part of.
    ///
    /// # Safety
    /// `scope` is the field of a header.
    pub(super) unsafe fn of_scope(scope: &Scope) -> *const Header {
        debug_assert_eq!(scope.kind, Kind::Task);
        // Exposed provenance, as in `whole`: a field's own does not reach the rest of the header.
        ptr::with_exposed_provenance(
            ptr::from_ref(scope).addr() - std::mem::offset_of!(Header, scope),
        )
    }

    /// Returns a waker for the duration of one poll.
    ///
    /// # Safety
    /// The header outlives it.
    #[inline(always)]
    pub(crate) unsafe fn lend_waker(&self) -> std::mem::ManuallyDrop<std::task::Waker> {
        // SAFETY: the header outlives the waker.
        unsafe { super::waker::lend(self.whole()) }
    }
}

/// A counted reference to a task on its own thread, without atomics.
pub(crate) struct TaskRef(NonNull<Header>);

impl TaskRef {
    /// Counts a new local reference.
    ///
    /// # Safety
    /// The header is alive and belongs to this thread.
    #[inline(always)]
    pub(crate) unsafe fn new(header: *const Header) -> Self {
        // SAFETY: alive, and on its own thread.
        unsafe { (*header).local.set((*header).local.get() + 1) };
        // SAFETY: a live header's address is not null.
        TaskRef(unsafe { NonNull::new_unchecked(header.cast_mut()) })
    }

    /// Takes over a local reference that was already counted.
    ///
    /// # Safety
    /// The caller owns the reference, and the header belongs to this thread.
    pub(crate) unsafe fn adopt(header: *const Header) -> Self {
        header.expose_provenance();
        // SAFETY: a live header's address is not null.
        TaskRef(unsafe { NonNull::new_unchecked(header.cast_mut()) })
    }

    pub(crate) fn as_ptr(&self) -> *const Header {
        self.0.as_ptr()
    }

    /// Returns `true` if the task is done and its output was taken or dropped.
    #[inline(always)]
    pub(crate) fn is_over(&self) -> bool {
        self.flags.get() & (DONE | JOINABLE) == DONE
    }

    /// Cancels the task, unless it is done; its body is not polled again. See [`Header::abandon`].
    pub(crate) fn abandon(&self) {
        if !self.is_done() {
            // SAFETY: a `TaskRef` is a reference, and never leaves its task's thread.
            unsafe { Header::abandon(self.as_ptr()) };
        }
    }

    /// Returns the address of the output if the task is done and joinable. The caller owns the
    /// output then, and the task is not joinable any more.
    #[inline(always)]
    pub(crate) fn claim_output(&self) -> Option<NonNull<()>> {
        self.claim(DONE | JOINABLE)
    }

    /// Does the same, if the task that claims it has waited for it.
    #[inline(always)]
    pub(crate) fn claim_awaited(&self) -> Option<NonNull<()>> {
        self.claim(DONE | JOINABLE | UNAWAITED)
    }

    #[inline(always)]
    fn claim(&self, mask: u32) -> Option<NonNull<()>> {
        let flags = self.flags.get();
        if flags & mask != DONE | JOINABLE {
            return None;
        }
        self.flags.set(flags & !JOINABLE);
        // SAFETY: the output is within the cell, whose provenance this pointer has.
        Some(unsafe { self.0.cast().byte_add(self.vtable.output) })
    }
}

impl std::ops::Deref for TaskRef {
    type Target = Header;
    #[inline(always)]
    fn deref(&self) -> &Header {
        // SAFETY: the counted reference keeps it alive.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for TaskRef {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: drops the reference counted in `new`; a `TaskRef` never leaves its thread.
        unsafe { Header::release_local(self.0.as_ptr()) };
    }
}
