//! A task's one allocation: the header, and the future or its output.

// # Why this file has `unsafe`
// The loop knows only a task's header; the functions here know the type of the body behind it.

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, offset_of};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::task::Context;

use super::join_handle::{JoinError, JoinHandle};
use crate::runtime::Runtime;
use crate::runtime::drop_rule::cancelling_drops;
use crate::runtime::scope::Step;
use crate::runtime::task::{Header, TaskRef, VTable};
use crate::runtime::task_memory::CellLayout;

/// The header must be first: a pointer to it is a pointer to the cell.
#[repr(C)]
struct TaskCell<F: Future> {
    header: Header,
    /// Owning thread only.
    body: UnsafeCell<Body<F>>,
}

/// The future until the task is done; then the output, while the task is joinable.
#[repr(C)]
union Body<F: Future> {
    future: ManuallyDrop<F>,
    output: ManuallyDrop<Result<F::Output, JoinError>>,
}

/// What is done for a task that is leaked, besides ending the wait for its join handle.
pub(super) trait OnLeak<F> {
    /// # Safety
    /// The body exists, is not being polled, and never will be. Its operations may be in flight: it
    /// may be used only as far as they and pinning allow.
    unsafe fn leak(body: *const F);
}

/// Nothing is done.
pub(super) struct Silent;

impl<F> OnLeak<F> for Silent {
    unsafe fn leak(_: *const F) {}
}

/// The vtables of tasks with the body `F`.
struct Table<F, L>(PhantomData<(F, L)>);

impl<F: Future, L: OnLeak<F>> Table<F, L> {
    const VTABLE: &'static VTable = &VTable {
        run: run::<F>,
        end: end::<F>,
        leak: leak::<F, L>,
        output: offset_of!(TaskCell<F>, body),
        layout: CellLayout::of::<TaskCell<F>>(),
    };
}

/// Starts a task whose future may borrow.
///
/// # Safety
/// - The task is done before anything that the future borrows is dropped.
/// - Its output is taken or dropped before anything that the output borrows is dropped.
#[inline(always)]
pub(crate) unsafe fn spawn_unchecked<F: Future>(
    runtime: &Runtime,
    future: F,
    location: &'static Location<'static>,
) -> JoinHandle<F::Output> {
    // SAFETY: the same contract.
    unsafe { spawn_with::<F, Silent>(runtime, future, location) }
}

/// Starts a task as [`spawn_unchecked`] does, for which `L` is done if it is leaked.
///
/// # Safety
/// As for `spawn_unchecked`.
#[inline(always)]
pub(super) unsafe fn spawn_with<F: Future, L: OnLeak<F>>(
    runtime: &Runtime,
    future: F,
    location: &'static Location<'static>,
) -> JoinHandle<F::Output> {
    let vtable = Table::<F, L>::VTABLE;
    let cell = runtime.task_memory.allocate(&vtable.layout).cast::<TaskCell<F>>();
    // SAFETY: the memory was allocated with this type's layout.
    unsafe {
        cell.write(TaskCell {
            header: Header::new(runtime, vtable, location),
            body: UnsafeCell::new(Body { future: ManuallyDrop::new(future) }),
        });
    }
    // SAFETY: `Header::new` has counted a local reference for the handle.
    let task = unsafe { TaskRef::adopt(cell.as_ptr().cast()) };
    // SAFETY: this is the runtime's thread, and the cell does not move.
    unsafe { Header::begin(task.as_ptr(), runtime) };
    JoinHandle::new(task)
}

/// Implements [`VTable::run`].
unsafe fn run<F: Future>(header: *const Header, runtime: &Runtime) {
    // SAFETY: the loop calls this with a live header of this type, on its thread, not done. The
    // header stays alive until `conclude`, which is its last use.
    let (task, cell) = unsafe { (&*header, &*header.cast::<TaskCell<F>>()) };
    // SAFETY: the header outlives the poll.
    let waker = unsafe { task.lend_waker() };
    let mut cx = Context::from_waker(&waker);
    let polled = catch_unwind(AssertUnwindSafe(|| {
        runtime.poll_in(&task.scope, &waker, || {
            // SAFETY: the task is not done, so the body is the future. Only this thread touches the
            // body, and not again before this poll ends: a task is never polled from within itself.
            let future = unsafe { &mut *(*cell.body.get()).future };
            // SAFETY: the cell does not move, and the future is dropped in place.
            unsafe { Pin::new_unchecked(future) }.poll(&mut cx)
        })
    }));
    let result = match polled {
        Ok(Step::Pending) => return,
        Ok(Step::Done(output)) => Ok(output),
        // SAFETY: the same.
        Ok(Step::Ended) => return unsafe { end::<F>(header) },
        // SAFETY: the header is alive and the task is not done.
        Err(panic) => return unsafe { Header::end_panicked(header, panic) },
    };
    // SAFETY: as above.
    unsafe { conclude::<F>(header, result) }
}

/// Implements [`VTable::leak`].
#[cold]
unsafe fn leak<F: Future, L: OnLeak<F>>(header: *const Header) {
    // SAFETY: called with a live header of this type, on its thread. The body is the future, which
    // is the first field of the `repr(C)` union, and it is never polled or dropped.
    unsafe { L::leak((*header.cast::<TaskCell<F>>()).body.get().cast()) };
}

/// Implements [`VTable::end`].
#[cold]
unsafe fn end<F: Future>(header: *const Header) {
    // SAFETY: the loop calls this with a live header of this type, on its thread, not done.
    unsafe {
        let error = match (*header).take_panic() {
            Some(panic) => JoinError::panicked(panic),
            None => JoinError::cancelled(),
        };
        cancelling_drops(|| conclude::<F>(header, Err(error)));
    }
}

/// Drops the future, stores the output if the task is joinable, and marks the task done.
///
/// # Safety
/// The header is alive, of this type, on its own thread, and not done. It may have been freed on
/// return.
#[inline(always)]
unsafe fn conclude<F: Future>(header: *const Header, result: Result<F::Output, JoinError>) {
    // SAFETY: as in `run`.
    let task = unsafe { &*header };
    // SAFETY: as in `run`.
    let body = unsafe { &*header.cast::<TaskCell<F>>() }.body.get();
    // SAFETY: the body is the future, and is dropped in place, as pinning requires; nothing else
    // touches the body of a task that is not done.
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
        // SAFETY: as above; the future was dropped, even if its destructor panicked.
        unsafe { body.write(Body { output: ManuallyDrop::new(result) }) };
    } else {
        drop_quietly(result);
    }
    // SAFETY: the future was dropped.
    unsafe { Header::finish(header) };
}

/// Drops an output that no handle will take, and discards a panic of its destructor.
pub(crate) fn drop_quietly<T>(value: T) {
    let panic = catch_unwind(AssertUnwindSafe(|| drop(value)));
    // The payload's destructor may panic too; the payload of that panic is leaked.
    std::mem::forget(catch_unwind(AssertUnwindSafe(|| drop(panic))));
}
