//! Tasks: futures that run by themselves on a context, and ways to combine futures.
//!
//! [`spawn`] starts a task; its [`JoinHandle`] awaits, cancels or (dropped) detaches it.
//! [`race`] runs futures against each other, [`join_all`] together, [`timeout`](crate::timeout)
//! against the clock. [`task_local!`](crate::task_local) gives each task its own values.
//!
//! # Why this file has `unsafe`
//! `spawn` calls the unchecked version, having checked.

mod block_on;
mod cell;
mod combine;
mod join;
mod local;
mod remote;
mod scoped;

pub(crate) use cell::spawn_unchecked;
pub use combine::{
    JoinAll, Race, RaceAll, RaceOutput, YieldNow, join_all, race, race_all, yield_now,
};
pub use join::{JoinError, JoinHandle};
pub use local::{LocalKey, TaskLocalFuture};
pub use remote::RemoteTask;
pub(crate) use remote::unstarted;
pub(crate) use scoped::{Scoped, outcome};

use std::panic::Location;

use crate::runtime::Runtime;

/// Starts a task on the running context; it makes progress whenever the context's loop turns.
///
/// The task is one allocation. It belongs to this thread for good. Dropping the handle lets the
/// task run on; it ends with its future, by [`JoinHandle::cancel`], or with the context.
///
/// # Panics
/// When no context is running on this thread.
///
/// # Examples
/// ```
/// # let mut context = corio::IoContext::new(8)?;
/// let sum = context.block_on(async {
///     let tasks: Vec<_> = (1..=3).map(|n| corio::spawn(async move { n * n })).collect();
///     let mut sum = 0;
///     for task in tasks {
///         sum += task.await.unwrap();
///     }
///     sum
/// });
/// assert_eq!(sum, 14);
/// # Ok::<(), corio::SetupError>(())
/// ```
#[track_caller]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let location = Location::caller();
    Runtime::with(|runtime| spawn_on(runtime, future, location))
}

#[inline(always)]
pub(crate) fn spawn_on<F>(
    runtime: &Runtime,
    future: F,
    location: &'static Location<'static>,
) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    // SAFETY: the future is `'static`.
    unsafe { spawn_unchecked(runtime, future, location) }
}
