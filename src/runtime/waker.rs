//! Wakers: the standard one, which works on any thread, and [`LocalWaker`], which needs no atomics.

// # Why this file has `unsafe`
// A standard `Waker` is a hand-written vtable over a task's header; see [`VTABLE`].

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::ptr;
use std::task::{RawWaker, RawWakerVTable, Waker};

use super::Runtime;
use super::task::{Header, TaskRef};

/// The vtable of this crate's wakers. The data pointer is a task's [`Header`], of which the waker
/// holds one counted reference, except for the one lent to a poll ([`lend`]).
pub(super) static VTABLE: RawWakerVTable =
    RawWakerVTable::new(clone, wake, wake_by_ref, drop_waker);

// SAFETY (all four): a waker's data pointer is a header that a counted reference keeps alive, or,
// for a lent waker, the executor does for as long as the poll lasts.

unsafe fn clone(data: *const ()) -> RawWaker {
    // SAFETY: see above.
    unsafe { Header::acquire(data.cast()) };
    RawWaker::new(data, &VTABLE)
}

unsafe fn wake(data: *const ()) {
    // SAFETY: see above; the reference is dropped last.
    unsafe {
        wake_by_ref(data);
        drop_waker(data);
    }
}

unsafe fn wake_by_ref(data: *const ()) {
    let header: *const Header = data.cast();
    // SAFETY: see above. `schedule` is called on the task's own thread only.
    unsafe {
        if (*header).is_at_home() {
            (*header).schedule();
        } else {
            Header::wake_remotely(header);
        }
    }
}

unsafe fn drop_waker(data: *const ()) {
    // SAFETY: see above.
    unsafe { Header::release(data.cast()) };
}

/// Returns a waker for the duration of one poll; it counts no reference and is not dropped.
///
/// # Safety
/// The header outlives the returned value.
pub(super) unsafe fn lend(header: *const Header) -> ManuallyDrop<Waker> {
    // SAFETY: the vtable's functions fulfil `RawWaker`'s contract, given a live header.
    ManuallyDrop::new(unsafe { Waker::from_raw(RawWaker::new(header.cast(), &VTABLE)) })
}

/// Returns `true` if `waker` wakes `task` and is of this crate.
#[inline(always)]
pub(super) fn is_for(waker: &Waker, task: *const Header) -> bool {
    ptr::eq(waker.data(), task.cast()) && ptr::eq(waker.vtable(), &VTABLE)
}

/// A waker that stays on its thread: for a task of this crate it is a plain reference count.
///
/// It takes two words. "No waker" is `Task(None)`, as a third variant would take a third word.
pub(crate) enum LocalWaker {
    Task(Option<TaskRef>),
    Foreign(Waker),
}

impl LocalWaker {
    /// No waker: waking it does nothing.
    pub(crate) const NONE: Self = LocalWaker::Task(None);

    /// Converts a waker of any task of any executor.
    pub(crate) fn new(waker: &Waker) -> Self {
        Runtime::try_with(|runtime| match runtime {
            Some(runtime) => Self::with_current(runtime, waker),
            None => LocalWaker::Foreign(waker.clone()),
        })
    }

    /// Converts a waker, given the running runtime.
    #[inline(always)]
    pub(crate) fn with_current(runtime: &Runtime, waker: &Waker) -> Self {
        let current = runtime.current_task.get();
        if is_for(waker, current) {
            // SAFETY: the current task is alive and belongs to this thread.
            LocalWaker::Task(Some(unsafe { TaskRef::new(current) }))
        } else {
            LocalWaker::Foreign(waker.clone())
        }
    }

    /// Returns `true` for a waker of another executor, which is foreign code.
    #[inline(always)]
    pub(crate) fn is_foreign(&self) -> bool {
        matches!(self, LocalWaker::Foreign(_))
    }

    /// Replaces the waker in `slot` by `waker`, unless they wake the same task.
    #[inline(always)]
    pub(crate) fn update(slot: &Cell<LocalWaker>, waker: &Waker) {
        if !Self::update_own(slot, waker) && !Self::holds(slot, waker) {
            slot.set(LocalWaker::new(waker));
        }
    }

    /// Does the same without running foreign code, and so only if `waker` belongs to the task that
    /// is being polled and no foreign waker is in the slot. Returns `false` otherwise.
    #[inline(always)]
    pub(crate) fn update_own(slot: &Cell<LocalWaker>, waker: &Waker) -> bool {
        let current = Runtime::current_task();
        // SAFETY: the borrow ends before the slot is changed.
        let LocalWaker::Task(held) = (unsafe { &*slot.as_ptr() }) else { return false };
        if !is_for(waker, current) {
            return false;
        }
        if held.as_ref().map_or(ptr::null(), TaskRef::as_ptr) != current {
            // SAFETY: the current task is alive and belongs to this thread.
            slot.set(LocalWaker::Task(Some(unsafe { TaskRef::new(current) })));
        }
        true
    }

    /// Returns `true` if the waker in `slot` wakes the same task as `waker`.
    #[inline(always)]
    pub(crate) fn holds(slot: &Cell<LocalWaker>, waker: &Waker) -> bool {
        // SAFETY: no foreign code runs while the borrow lasts.
        match unsafe { &*slot.as_ptr() } {
            LocalWaker::Task(None) => false,
            LocalWaker::Task(Some(task)) => is_for(waker, task.as_ptr()),
            LocalWaker::Foreign(foreign) => foreign.will_wake(waker),
        }
    }

    /// Wakes the task without running foreign code: the loop wakes a foreign waker after its batch.
    #[inline(always)]
    pub(crate) fn wake(self, runtime: &Runtime) {
        match self {
            LocalWaker::Task(None) => {}
            LocalWaker::Task(Some(task)) => task.schedule(),
            LocalWaker::Foreign(waker) => runtime.defer(waker),
        }
    }

    /// Wakes the task at once, from a place where foreign code may run.
    pub(crate) fn wake_now(self) {
        match self {
            LocalWaker::Task(None) => {}
            LocalWaker::Task(Some(task)) => task.schedule(),
            LocalWaker::Foreign(waker) => waker.wake(),
        }
    }
}
