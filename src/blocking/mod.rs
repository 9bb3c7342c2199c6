//! Work that would hold a loop up: calls that block, and long computations.
//!
//! A context's thread serves everybody on it, so a task that computes for a while, or calls something
//! that sleeps, holds all of them up. [`spawn_blocking`] hands such work to a thread of a [`BlockingPool`] and
//! waits for the result as for anything else.

mod pool;

pub use pool::{BlockingError, BlockingPool, BlockingPoolBuilder, SpawnBlocking};

use std::sync::LazyLock;

/// Has `work` done by a thread of the process's own pool.
///
/// The pool has four threads per processor at most, started when they are needed and ended when they
/// have had nothing to do for 10 s; 1024 jobs can wait for them, further ones wait for room. Of what
/// happens to a future that is dropped see [`BlockingPool::run`].
///
/// # Errors
/// When `work` panicked, or the system has no thread for it.
///
/// # Examples
/// ```
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let primes = corio::spawn_blocking(|| (2..10_000).filter(|n| (2..*n).all(|d| n % d > 0)).count());
/// assert_eq!(primes.await?, 1229);
/// # Ok::<(), corio::blocking::BlockingError>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
