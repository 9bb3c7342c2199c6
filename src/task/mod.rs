//! Tasks, and functions that combine futures.
//!
//! [`spawn`] starts a task; its [`JoinHandle`] awaits, cancels or (dropped) detaches it.
//!
//! | | two futures | any number | where one ends early, the others are |
//! |---|---|---|---|
//! | all outputs | [`join`] | [`join_all`] | awaited |
//! | all outputs, or the first error | [`try_join`] | [`try_join_all`] | cancelled and awaited |
//! | the first output | [`race`] | [`race_all`] | cancelled and awaited |
//! | within a time limit | [`timeout`](crate::timeout) | | cancelled and awaited |
//!
//! [`droppable`] makes a future that frameworks may drop whatever it has in flight.
//!
//! [`task_local!`](crate::task_local) declares values of which each task has its own.

// # Why this file has `unsafe`
// `spawn` calls `spawn_unchecked`, whose conditions its bounds fulfil.

mod block_on;
mod branch;
mod cell;
mod droppable;
mod join;
mod join_handle;
mod local;
mod race;
mod remote;
mod scoped;
mod try_join;
mod unconstrained;
mod yield_now;

pub(crate) use cell::{drop_quietly, spawn_unchecked};
pub use droppable::{Droppable, droppable};
pub use join::{Join, JoinAll, join, join_all};
pub use join_handle::{CancelOnDrop, JoinError, JoinHandle};
pub use local::{LocalKey, TaskLocalFuture};
pub use race::{Race, RaceAll, RaceOutput, race, race_all};
pub use remote::RemoteTask;
pub(crate) use remote::unstarted;
pub(crate) use scoped::{Scoped, outcome};
pub use try_join::{TryJoin, TryJoinAll, try_join, try_join_all};
pub use unconstrained::{Unconstrained, unconstrained};
pub use yield_now::{YieldNow, yield_now};

use std::panic::Location;

use crate::runtime::Runtime;

/// Starts a task on the running context.
///
/// The task is one allocation and stays on this thread, so its future need not be `Send`. It ends
/// when its future is ready, by [`JoinHandle::cancel`], or when the context is dropped; dropping
/// the handle lets it run on.
///
/// # Panics
/// If no context is running on this thread.
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
#[doc(alias = "spawn_local")]
#[doc(alias = "JoinSet")]
#[track_caller]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let location = Location::caller();
    Runtime::with(|runtime| spawn_on(runtime, future, location))
}

/// Starts a task on the given runtime.
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
