//! A task's one allocation: the header, and the future or its output.
//!
//! # Why this file has `unsafe`
//! The loop knows tasks by header only; the functions here know what lies behind it.

use crate::os;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::ptr::{self, NonNull};
use std::task::Context;

use super::join::{JoinError, JoinHandle};
use crate::runtime::scope::Step;
use crate::runtime::task::{Header, TaskRef, VTable};
use crate::runtime::{Runtime, cells};

#[repr(C)]
struct TaskCell<F: Future> {
    header: Header,
    /// Owning thread only.
    body: UnsafeCell<Body<F>>,
}

enum Body<F: Future> {
    Future(F),
    Output(Result<F::Output, JoinError>),
    Gone,
}

impl<F: Future> TaskCell<F> {
    const VTABLE: &'static VTable =
        &VTable { run: run::<F>, end: end::<F>, take: take::<F>, free: free::<F> };
}

/// Starts a task whose future may borrow.
///
/// # Safety
/// The task is done before anything that the future borrows ends, and its output is taken or
/// dropped before anything that borrows ends.
#[inline(always)]
pub(crate) unsafe fn spawn_unchecked<F: Future>(
    runtime: &Runtime,
    future: F,
    location: &'static Location<'static>,
) -> JoinHandle<F::Output> {
    let cell = runtime.cells.take::<TaskCell<F>>();
    // SAFETY: memory for just this.
    unsafe {
        cell.write(TaskCell {
            header: Header::new(runtime, TaskCell::<F>::VTABLE, location),
            body: UnsafeCell::new(Body::Future(future)),
        });
    }
    // SAFETY: the header counts one local reference for its handle.
    let task = unsafe { TaskRef::adopt(cell.as_ptr().cast()) };
    // SAFETY: the scope is in the cell, which does not move, and leaves the tree in `finish`.
    unsafe { task.scope.attach(&runtime.root) };
    task.schedule();
    runtime.stats.tasks_spawned.add(1);
    JoinHandle::new(task)
}

/// The vtable's `run`.
unsafe fn run<F: Future>(header: *const Header, runtime: &Runtime) {
    // SAFETY: the loop calls this with a live header of this type, on its thread, not done. It
    // stays alive until `conclude`, which is the last use.
    let (task, cell) = unsafe { (&*header, &*header.cast::<TaskCell<F>>()) };
    // SAFETY: the header outlives the poll.
    let waker = unsafe { task.lend_waker() };
    let mut cx = Context::from_waker(&waker);
    if !task.start_poll() {
        // SAFETY: as above.
        return unsafe { do_not_poll::<F>(header, &cx) };
    }
    let polled = catch_unwind(AssertUnwindSafe(|| {
        runtime.poll_in(&task.scope, &mut cx, |cx| {
            // SAFETY: the body is touched by this thread only, and not again before this poll
            // ends: a task is never polled from within itself.
            match unsafe { &mut *cell.body.get() } {
                // SAFETY: the cell does not move, and the future is dropped in place.
                Body::Future(future) => unsafe { Pin::new_unchecked(future) }.poll(cx),
                _ => unreachable!("a task that is not done has a future"),
            }
        })
    }));
    match polled {
        Ok(Step::Pending) => {}
        // SAFETY: the header is alive and the task is not done.
        Ok(Step::Done(output)) => unsafe { conclude::<F>(header, Ok(output)) },
        // SAFETY: as above.
        Ok(Step::Ended) => unsafe { conclude::<F>(header, Err(JoinError::cancelled())) },
        Err(panic) => {
            task.set_panic(panic);
            task.scope.cancel(os::ECANCELED);
            // SAFETY: as above.
            unsafe { do_not_poll::<F>(header, &cx) }
        }
    }
}

/// The body is not to be polled: it was cancelled before it ran, or has panicked. In the latter
/// case it may own operations in flight: it is dropped when they have ended.
#[cold]
unsafe fn do_not_poll<F: Future>(header: *const Header, cx: &Context<'_>) {
    // SAFETY: as in `run`.
    unsafe {
        if (*header).scope.is_drained() {
            end::<F>(header);
        } else {
            (*header).scope.wait(cx);
        }
    }
}

/// The vtable's `end`.
unsafe fn end<F: Future>(header: *const Header) {
    // SAFETY: the loop calls this with a live header of this type, on its thread, not done.
    unsafe {
        let error = match (*header).take_panic() {
            Some(panic) => JoinError::panicked(panic),
            None => JoinError::cancelled(),
        };
        conclude::<F>(header, Err(error));
    }
}

/// Drops the future, keeps the output for whoever may ask, and marks the task done.
unsafe fn conclude<F: Future>(header: *const Header, result: Result<F::Output, JoinError>) {
    // SAFETY: as in `run`.
    let task = unsafe { &*header };
    // SAFETY: as in `run`.
    let body = unsafe { &*header.cast::<TaskCell<F>>() }.body.get();
    // SAFETY: the future is dropped in place, as pinning asks; nobody else looks at the body of a
    // task that is not done.
    let dropped = catch_unwind(AssertUnwindSafe(|| unsafe { ptr::drop_in_place(body) }));
    // SAFETY: what was there is gone, even if its destructor panicked.
    unsafe { ptr::write(body, Body::Gone) };
    let result = match dropped {
        Ok(()) => result,
        Err(panic) => {
            drop_quietly(result);
            Err(JoinError::panicked(panic))
        }
    };
    if task.is_joinable() {
        // SAFETY: as above.
        unsafe { *body = Body::Output(result) };
    } else {
        drop_quietly(result);
    }
    // SAFETY: the future is gone.
    unsafe { Header::finish(header) };
}

/// Drops what nobody will ask for; a panic of its destructor has no one to go to either.
fn drop_quietly<T>(value: T) {
    let thrown = catch_unwind(AssertUnwindSafe(|| drop(value)));
    // What was thrown may throw in its turn, and so on: that is just leaked.
    std::mem::forget(catch_unwind(AssertUnwindSafe(|| drop(thrown))));
}

/// The vtable's `take`.
unsafe fn take<F: Future>(header: *const Header, place: *mut ()) {
    // SAFETY: the handle calls this once, on the task's thread, with the task done; `place` is
    // null or fits this type's output.
    unsafe {
        let body = (*header.cast::<TaskCell<F>>()).body.get();
        let Body::Output(output) = ptr::replace(body, Body::Gone) else {
            unreachable!("a joinable task that is done has an output");
        };
        if !place.is_null() {
            place.cast::<Result<F::Output, JoinError>>().write(output);
        }
    }
}

/// The vtable's `free`.
unsafe fn free<F: Future>(header: *const Header) {
    // SAFETY: made in `spawn_unchecked`, and this was the last reference. The body is gone, so nothing
    // that belongs to another thread is dropped here.
    unsafe {
        let cell = NonNull::new_unchecked(header.cast::<TaskCell<F>>().cast_mut());
        debug_assert!(matches!((*cell.as_ptr()).body.get_mut(), Body::Gone));
        let runtime_id = (*header).runtime_id;
        if (*header).holds_anything() {
            cell.drop_in_place();
        }
        let kept = Runtime::try_with(|runtime| match runtime {
            Some(runtime) if runtime.id == runtime_id => runtime.cells.give(cell),
            _ => false,
        });
        if !kept {
            cells::free(cell);
        }
    }
}
