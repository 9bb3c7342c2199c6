//! A task as the loop sees it: a header with reference counts and links, the body behind a vtable.
//!
//! References are counted in two places. The owning thread counts its own ([`TaskRef`]) without
//! atomics; all of those together hold one of the atomic count, of which each `Waker` holds one.
//! The cell is freed when the atomic count reaches zero, on whatever thread that happens; by then
//! future and output are gone, since they are dropped on the owning thread while a local reference
//! is held.
//!
//! # Why this file has `unsafe`
//! Headers are shared between threads by raw pointer; each field says who may touch it.

use crate::os;
use std::any::Any;
use std::cell::Cell;
use std::panic::Location;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::task::Waker;

use super::Runtime;
use super::inbox::{InboxLink, InboxNode};
use super::refcount::AtomicCount;
use super::remote::Remote;
use super::scope::{Kind, Scope};
use super::task_memory::Room;
use super::waker::LocalWaker;

/// What the loop can do with a task whose type it does not know.
pub(crate) struct VTable {
    /// Polls the body once. Called on the owning thread, with the task not done and not barred.
    pub(crate) run: unsafe fn(*const Header, &Runtime),
    /// Drops the body without polling it, and marks the task done.
    pub(crate) end: unsafe fn(*const Header),
    /// How far behind the header the output lies, when the task is done and joinable.
    pub(crate) output: usize,
    /// What the cell takes.
    pub(crate) room: Room,
}

const QUEUED: u8 = 1;
const DONE: u8 = 2;
const STARTED: u8 = 4;
/// The output has somebody who may ask for it, and has not.
const JOINABLE: u8 = 8;
/// The body has panicked; see [`Header::panic`].
const PANICKED: u8 = 16;
/// The body is not to be polled (any more): it has panicked, or was cancelled before it ever ran.
const BARRED: u8 = 32;
/// The header holds a count of its `remote`.
const KEEPS_REMOTE: u8 = 64;

/// The part of a task's cell that does not depend on its body. What each wake and poll touches
/// comes first, in one cache line.
#[repr(C)]
pub(crate) struct Header {
    // Owning thread only, but for `vtable`.
    flags: Cell<u8>,
    local: Cell<u32>,
    next: Cell<*const Header>,
    vtable: &'static VTable,
    /// Valid while the task is not done.
    runtime: *const Runtime,
    pub(crate) scope: Scope,
    pub(crate) joiner: Cell<LocalWaker>,
    /// What a panic of the body left, until the body can be dropped. Boxed again, to be small.
    panic: Cell<Option<Box<Box<dyn Any + Send>>>>,
    // Any thread.
    refs: AtomicCount,
    inbox: InboxLink<Header>,
    /// Kept alive by the runtime, which outlives its tasks that are not done; after that by a count of
    /// this header's own, if wakers are left that may ask for it ([`KEEPS_REMOTE`]).
    remote: *const Remote,
}

impl InboxNode for Header {
    fn inbox(&self) -> &InboxLink<Self> {
        &self.inbox
    }
}

impl Header {
    pub(crate) fn new(
        runtime: &Runtime,
        vtable: &'static VTable,
        location: &'static Location<'static>,
    ) -> Self {
        Header {
            // It is queued as soon as it begins.
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

    /// This header's address, good for reaching the whole cell.
    #[inline(always)]
    fn whole(&self) -> *const Header {
        // The provenance of the cell's allocation was exposed in `TaskRef::adopt`.
        ptr::with_exposed_provenance(ptr::from_ref(self).addr())
    }

    /// Puts a new task into the tree and into the run queue.
    ///
    /// # Safety
    /// Owning thread, and called once. The cell does not move from now on.
    #[inline(always)]
    pub(crate) unsafe fn begin(this: *const Header, runtime: &Runtime) {
        // SAFETY: the scope is in the cell, and leaves the tree in `finish`; a task that is not
        // done stays alive.
        unsafe {
            (*this).scope.attach(&runtime.root);
            runtime.ready.push(this);
        }
        runtime.stats.tasks_spawned.add(1);
    }

    fn has(&self, flag: u8) -> bool {
        self.flags.get() & flag != 0
    }

    fn add(&self, flag: u8) {
        self.flags.set(self.flags.get() | flag);
    }

    fn remove(&self, flag: u8) {
        self.flags.set(self.flags.get() & !flag);
    }

    pub(crate) fn is_done(&self) -> bool {
        self.has(DONE)
    }

    pub(crate) fn is_joinable(&self) -> bool {
        self.has(JOINABLE)
    }

    pub(crate) fn detach(&self) {
        self.remove(JOINABLE);
    }

    /// Puts the task into the run queue, once. Owning thread only.
    #[inline(always)]
    pub(crate) fn schedule(&self) {
        if self.flags.get() & (QUEUED | DONE) == 0 {
            self.add(QUEUED);
            // SAFETY: the runtime outlives its tasks that are not done.
            unsafe { (*self.runtime).ready.push(self.whole()) };
        }
    }

    /// Cancels everything in flight in the task, and lets it see that.
    pub(crate) fn cancel(&self) {
        if !self.is_done() && !self.scope.is_cancelled() {
            if !self.has(STARTED) {
                self.add(BARRED);
            }
            self.scope.cancel(os::ECANCELED);
            self.schedule();
        }
    }

    /// The body has panicked: keeps what that left, and ends the task.
    ///
    /// # Safety
    /// Owning thread; the task is not done. It may be gone on return.
    #[cold]
    pub(crate) unsafe fn end_panicked(this: *const Header, panic: Box<dyn Any + Send>) {
        // SAFETY: what the caller promises.
        unsafe {
            (*this).add(PANICKED | BARRED);
            (*this).panic.set(Some(Box::new(panic)));
            (*this).scope.cancel(os::ECANCELED);
            Header::end_drained(this);
        }
    }

    /// Ends a task that is not to be polled. It may own operations in flight: its body is dropped
    /// when they have ended.
    ///
    /// # Safety
    /// As for [`end_panicked`](Self::end_panicked).
    unsafe fn end_drained(this: *const Header) {
        // SAFETY: what the caller promises; the header outlives the borrowed waker.
        unsafe {
            if (*this).scope.is_drained() {
                ((*this).vtable.end)(this);
            } else {
                (*this).scope.wait(&(*this).lend_waker());
            }
        }
    }

    /// What a panic of the body left, once.
    pub(crate) fn take_panic(&self) -> Option<Box<dyn Any + Send>> {
        self.panic.take().map(|panic| *panic)
    }

    /// The body is gone; whoever joins is woken. Gives up the reference for being alive, so the
    /// header may be gone on return.
    ///
    /// # Safety
    /// Owning thread; the body is gone, and this is called once.
    pub(crate) unsafe fn finish(this: *const Header) {
        // SAFETY: the reference for being alive, counted in `new`, is given up last; a queued task
        // gives it up when popped.
        unsafe {
            (*this).scope.release();
            (*this).add(DONE);
            if (*this).refs.is_shared() {
                // Wakers are left, and the runtime may go before they do. New ones can't come: they
                // are made from others, or from the one that is lent to a poll.
                Arc::increment_strong_count((*this).remote);
                (*this).add(KEEPS_REMOTE);
            }
            match (*this).joiner.replace(LocalWaker::NONE) {
                LocalWaker::Foreign(joiner) => return Header::finish_waking(this, joiner),
                own => own.wake_now(),
            }
            if !(*this).has(QUEUED) {
                Header::release_local(this);
            }
        }
    }

    /// The rest of [`finish`](Self::finish) with a foreign joiner, which may panic.
    ///
    /// # Safety
    /// As for `finish`.
    #[cold]
    unsafe fn finish_waking(this: *const Header, joiner: Waker) {
        // SAFETY: the reference for being alive, as in `finish`, given up when this is dropped.
        let _alive = unsafe { (!(*this).has(QUEUED)).then(|| TaskRef::adopt(this)) };
        joiner.wake();
    }

    /// # Safety
    /// Owning thread, and the caller gives up a local reference.
    unsafe fn release_local(this: *const Header) {
        // SAFETY: the reference given up keeps the header alive until here.
        unsafe {
            let local = (*this).local.get() - 1;
            (*this).local.set(local);
            if local == 0 {
                Header::release(this);
            }
        }
    }

    /// Frees the cell, or keeps it for another task. Any thread.
    ///
    /// # Safety
    /// This was the last reference; body and output are gone.
    #[inline(always)]
    unsafe fn free(this: *const Header) {
        // SAFETY: what the caller promises, so nothing that belongs to another thread is dropped
        // here; the cell was made in its `room`.
        unsafe {
            debug_assert!((*this).is_done() && !(*this).scope.is_attached());
            if (*this).flags.get() & (PANICKED | KEEPS_REMOTE) != 0 {
                (*this).let_go();
            }
            let (remote, room) = ((*this).remote, &(*this).vtable.room);
            let cell = NonNull::new_unchecked(this.cast_mut()).cast();
            // If the remote is gone, another's may be there, whose context may as well keep the cell.
            let kept = Runtime::try_with(|runtime| match runtime {
                Some(runtime) if runtime.is_at(remote) => runtime.task_memory.give(room, cell),
                _ => false,
            });
            if !kept {
                room.free(cell);
            }
        }
    }

    /// Drops the rest of what the header has, when nobody refers to it any more: `finish` has let
    /// go of the joiner and of what the scope had, and a handle that is gone waits no more.
    ///
    /// # Safety
    /// Called once, by `free`.
    #[cold]
    unsafe fn let_go(&self) {
        drop(self.panic.take());
        if self.has(KEEPS_REMOTE) {
            // SAFETY: `finish` has counted this.
            unsafe { Arc::decrement_strong_count(self.remote) };
        }
    }

    /// Whether the task's context is running on this thread. Any thread, while a waker is there:
    /// that sees to it that no other context has the address of the task's.
    #[inline(always)]
    pub(super) fn is_at_home(&self) -> bool {
        Runtime::try_with(|runtime| runtime.is_some_and(|runtime| runtime.is_at(self.remote)))
    }

    /// Counts one more waker. Any thread.
    ///
    /// # Safety
    /// The header is alive.
    pub(super) unsafe fn acquire(this: *const Header) {
        // SAFETY: what the caller promises.
        unsafe { (*this).refs.increment() };
    }

    /// Gives up one atomically counted reference. Any thread.
    ///
    /// # Safety
    /// The caller owns one.
    #[inline(never)] // Wherever a task may be let go of is a call of this.
    pub(super) unsafe fn release(this: *const Header) {
        // SAFETY: the reference given up keeps the header alive until here; the last one frees.
        unsafe {
            if (*this).refs.decrement() {
                Header::free(this);
            }
        }
    }

    /// Puts the task into its context's inbox, once, and wakes the context. Any thread.
    ///
    /// # Safety
    /// The header is alive.
    #[cold]
    pub(super) unsafe fn wake_remotely(this: *const Header) {
        // SAFETY: the header is alive now, so a reference for the inbox can be counted; whoever
        // empties the inbox gives it up. The remote is there while a waker is, see the field; it is
        // counted apart, as the header may go at once.
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
        // SAFETY: being queued keeps the header alive; `run` may free it, and is the last use.
        unsafe {
            let flags = (*this).flags.get();
            (*this).flags.set(flags & !QUEUED | STARTED);
            if flags & (DONE | BARRED) == 0 {
                ((*this).vtable.run)(this, runtime);
            } else {
                Header::run_not(this);
            }
        }
    }

    /// The same for one that is not to be polled.
    ///
    /// # Safety
    /// As for [`run`](Self::run).
    #[cold]
    unsafe fn run_not(this: *const Header) {
        // SAFETY: what the caller promises.
        unsafe {
            if (*this).is_done() {
                // It ended while queued: the reference for being alive is given up now.
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
        // SAFETY: what the caller promises; not done, so the header is alive.
        unsafe { ((*this).vtable.end)(this) };
    }

    /// The task that a scope of the kind `Task` is part of.
    ///
    /// # Safety
    /// `scope` is the field of a header.
    pub(super) unsafe fn of_scope(scope: &Scope) -> *const Header {
        debug_assert_eq!(scope.kind, Kind::Task);
        // Exposed provenance, as in `whole`: the field's own does not reach its surroundings.
        ptr::with_exposed_provenance(
            ptr::from_ref(scope).addr() - std::mem::offset_of!(Header, scope),
        )
    }

    /// A waker for one poll.
    ///
    /// # Safety
    /// The header outlives it.
    #[inline(always)]
    pub(crate) unsafe fn lend_waker(&self) -> std::mem::ManuallyDrop<std::task::Waker> {
        // SAFETY: what the caller promises.
        unsafe { super::waker::lend(self.whole()) }
    }
}

/// A counted reference to a task on its own thread, without atomics.
pub(crate) struct TaskRef(NonNull<Header>);

impl TaskRef {
    /// # Safety
    /// The header is alive and belongs to this thread.
    #[inline(always)]
    pub(crate) unsafe fn new(header: *const Header) -> Self {
        // SAFETY: what the caller promises.
        unsafe { (*header).local.set((*header).local.get() + 1) };
        // SAFETY: a live header's address is not null.
        TaskRef(unsafe { NonNull::new_unchecked(header.cast_mut()) })
    }

    /// Takes over a local reference that is already counted.
    ///
    /// # Safety
    /// The caller owns one, on this thread.
    pub(crate) unsafe fn adopt(header: *const Header) -> Self {
        header.expose_provenance();
        // SAFETY: as above.
        TaskRef(unsafe { NonNull::new_unchecked(header.cast_mut()) })
    }

    pub(crate) fn as_ptr(&self) -> *const Header {
        self.0.as_ptr()
    }

    /// Whether the output is gone.
    #[inline(always)]
    pub(crate) fn is_over(&self) -> bool {
        self.flags.get() & (DONE | JOINABLE) == DONE
    }

    /// Where the output lies, once: if the task is done and joinable. It is not joinable any more,
    /// and the output the caller's.
    #[inline(always)]
    pub(crate) fn claim_output(&self) -> Option<NonNull<()>> {
        let flags = self.flags.get();
        if flags & (DONE | JOINABLE) != DONE | JOINABLE {
            return None;
        }
        self.flags.set(flags & !JOINABLE);
        // SAFETY: within the cell, whose provenance this pointer has.
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
        // SAFETY: gives up the reference counted in `new`; a `TaskRef` never leaves its thread.
        unsafe { Header::release_local(self.0.as_ptr()) };
    }
}

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

    /// # Safety
    /// The task is not in the queue, and stays alive while it is (it is not done, or its reference
    /// for being alive is held until it is popped).
    #[inline(always)]
    unsafe fn push(&self, task: *const Header) {
        // SAFETY: the caller and the tail's own presence keep both alive.
        unsafe {
            (*task).next.set(ptr::null());
            match self.tail.replace(task).as_ref() {
                None => self.head.set(task),
                Some(last) => last.next.set(task),
            }
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
