//! Threads for calls that block, and for long computations.
//!
//! All tasks of a context run on one thread, so a task that computes for long, or makes a call that
//! blocks, holds up the others. [`spawn_blocking`] runs such work on a thread of a
//! [`BlockingPool`], and returns a future of its result.
//!
//! A hop to a thread and back costs two wake-ups: 6 to 14 µs were measured there and back through a
//! std channel (`docs/performance.md`, "Tasks, timers, wakes"), and more on idle processors. It
//! pays for work that takes several times that, say from 50 µs on; shorter work is best done in
//! place.

mod pool;

pub use pool::{BlockingError, BlockingPool, BlockingPoolBuilder, SpawnBlocking};

use std::sync::LazyLock;

/// Runs `work` on a thread of the process-wide pool, and returns a future of its result.
///
/// The work starts when this is called, not when the future is first polled. The pool has at most
/// four threads per processor, which are started when needed and end after 10 s without work. 1024
/// jobs can be queued for them; if the queue is full, the future keeps the work and waits for room.
/// For that, and for what happens when the future is dropped, see [`BlockingPool::run`].
///
/// # Errors
/// If `work` panicked, or the system has no thread for it.
///
/// # Examples
/// Two jobs at once, as both start before the first is awaited:
/// ```
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let count = |from, to| (from..to).filter(|n| (2..*n).all(|d| n % d > 0)).count();
/// let first = corio::spawn_blocking(move || count(2, 5_000));
/// let second = corio::spawn_blocking(move || count(5_000, 10_000));
/// assert_eq!(first.await? + second.await?, 1229);
/// # Ok::<(), corio::blocking::BlockingError>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "offload")] // words: allow(offload)
#[doc(alias = "block_in_place")]
pub fn spawn_blocking<F, T>(work: F) -> SpawnBlocking<'static, F, T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    static POOL: LazyLock<BlockingPool> = LazyLock::new(|| {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        BlockingPool::builder().threads(4 * processors).queue(1024).build()
    });
    POOL.run(work)
}
