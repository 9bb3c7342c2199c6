//! A task's one allocation: the header, and the future or its output.
//!
//! # Why this file has `unsafe`
//! The loop knows tasks by header only; the functions here know what lies behind it.

use std::cell::UnsafeCell;
use std::mem::{ManuallyDrop, offset_of};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::task::Context;

use super::join::{JoinError, JoinHandle};
use crate::runtime::Runtime;
use crate::runtime::scope::Step;
use crate::runtime::task::{Header, TaskRef, VTable};
use crate::runtime::task_memory::CellLayout;

#[repr(C)]
struct TaskCell<F: Future> {
    header: Header,
    /// Owning thread only.
    body: UnsafeCell<Body<F>>,
}

/// The future until the task is done; then the output, as long as the task is joinable.
#[repr(C)]
union Body<F: Future> {
    future: ManuallyDrop<F>,
    output: ManuallyDrop<Result<F::Output, JoinError>>,
}

impl<F: Future> TaskCell<F> {
    const VTABLE: &'static VTable = &VTable {
        run: run::<F>,
        end: end::<F>,
        output: offset_of!(Self, body),
        layout: CellLayout::of::<Self>(),
    };
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
    let cell = runtime.task_memory.allocate(&TaskCell::<F>::VTABLE.layout).cast::<TaskCell<F>>();
    // SAFETY: memory for just this.
    unsafe {
        cell.write(TaskCell {
            header: Header::new(runtime, TaskCell::<F>::VTABLE, location),
            body: UnsafeCell::new(Body { future: ManuallyDrop::new(future) }),
        });
    }
    // SAFETY: the header counts one local reference for its handle.
    let task = unsafe { TaskRef::adopt(cell.as_ptr().cast()) };
    // SAFETY: this is the runtime's thread, and the cell does not move.
    unsafe { Header::begin(task.as_ptr(), runtime) };
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
    let polled = catch_unwind(AssertUnwindSafe(|| {
        runtime.poll_in(&task.scope, &mut cx, |cx| {
            // SAFETY: the task is not done, so the future is there. The body is touched by this
            // thread only, and not again before this poll ends: a task is never polled from within
            // itself.
            let future = unsafe { &mut *(*cell.body.get()).future };
            // SAFETY: the cell does not move, and the future is dropped in place.
            unsafe { Pin::new_unchecked(future) }.poll(cx)
        })
    }));
    let result = match polled {
        Ok(Step::Pending) => return,
        Ok(Step::Done(output)) => Ok(output),
        Ok(Step::Ended) => Err(JoinError::cancelled()),
        // SAFETY: the header is alive and the task is not done.
        Err(panic) => return unsafe { Header::end_panicked(header, panic) },
    };
    // SAFETY: as above.
    unsafe { conclude::<F>(header, result) }
}

/// The vtable's `end`.
#[cold]
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
#[inline(always)]
unsafe fn conclude<F: Future>(header: *const Header, result: Result<F::Output, JoinError>) {
    // SAFETY: as in `run`.
    let task = unsafe { &*header };
    // SAFETY: as in `run`.
    let body = unsafe { &*header.cast::<TaskCell<F>>() }.body.get();
    // SAFETY: the future is there, and is dropped in place, as pinning asks; nobody else looks at
    // the body of a task that is not done.
    let drop_future = || unsafe { ManuallyDrop::drop(&mut (*body).future) };
    let dropped = catch_unwind(AssertUnwindSafe(drop_future));
    let result = match dropped {
        Ok(()) => result,
        Err(panic) => {
            drop_quietly(result);
            Err(JoinError::panicked(panic))
        }
    };
    if task.is_joinable() {
        // SAFETY: as above; the future is gone, even if its destructor panicked.
        unsafe { body.write(Body { output: ManuallyDrop::new(result) }) };
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
