//! The stall watchdog: detects tasks that hold their thread for too long in one poll.
//!
//! The loop increments a counter, which is odd while a task is being polled and even otherwise. The
//! watchdog's thread reads it four times per threshold; if it stays the same odd number, the task
//! stalls. So the loop reads no clock for this.

// # Why this file has `unsafe`
// A source location is passed to the watchdog's thread as a pointer.

use std::cell::Cell;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A task that holds its thread for too long in one poll: by a computation or a call that blocks.
///
/// It is reported while the poll still lasts, by
/// [`Builder::watch_stalls`](crate::Builder::watch_stalls).
///
/// # Examples
/// ```
/// use std::time::Duration;
/// let context = corio::IoContext::builder()
///     .watch_stalls(Duration::from_millis(100), |stall| {
///         eprintln!("{} blocks for {:?}", stall.task, stall.lasted)
///     })
///     .build()?;
/// # Ok::<(), corio::SetupError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stall {
    /// The source line that spawned the task.
    pub task: &'static Location<'static>,
    /// How long the poll has lasted at least, so far.
    pub lasted: Duration,
    /// The name of its thread, if it has one.
    pub thread: Option<String>,
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the task spawned at {} has held the thread {} for {:?}: run long work by \
             `corio::spawn_blocking`, or divide it by `corio::yield_now`",
            self.task,
            self.thread.as_deref().unwrap_or("(unnamed)"),
            self.lasted
        )
    }
}

/// The callback that reports a stall.
pub(crate) type Report = Arc<dyn Fn(&Stall) + Send + Sync>;

/// The state that the loop and the watchdog's thread share.
struct Pulse {
    /// Odd while a task is being polled.
    count: AtomicU64,
    /// Where the task that is being polled was spawned.
    task: AtomicPtr<Location<'static>>,
    /// Set to end the watchdog's thread.
    over: AtomicBool,
}

/// A loop with a watchdog, which ends when this is dropped.
pub(crate) struct Watched {
    pulse: Arc<Pulse>,
    watcher: Cell<Option<JoinHandle<()>>>,
}

impl Watched {
    /// Starts a watchdog for the calling thread. If its thread can't be started, there is none.
    pub(crate) fn new(threshold: Duration, report: Report) -> Self {
        let pulse = Arc::new(Pulse {
            count: AtomicU64::new(0),
            task: AtomicPtr::default(),
            over: AtomicBool::new(false),
        });
        let (watched, name) = (pulse.clone(), thread::current().name().map(str::to_owned));
        let watcher = thread::Builder::new()
            .name("corio-stalls".into())
            .spawn(move || watch(&watched, threshold, name, &report));
        Watched { pulse, watcher: Cell::new(watcher.ok()) }
    }

    /// Gives the thread up, which a child made by `fork` does not have.
    #[cfg(unix)]
    pub(super) fn leave_to_parent(&self) {
        std::mem::forget(self.watcher.take());
    }

    /// Records that a task, spawned at `task`, is about to be polled.
    #[inline(always)]
    pub(super) fn begin(&self, task: &'static Location<'static>) {
        self.pulse.task.store(std::ptr::from_ref(task).cast_mut(), Ordering::Relaxed);
        self.set((self.count() + 1) | 1);
    }

    /// Records that the poll has ended.
    #[inline(always)]
    pub(super) fn end(&self) {
        // Correct too if a panic has skipped the call after the last poll.
        self.set((self.count() | 1) + 1);
    }

    fn count(&self) -> u64 {
        self.pulse.count.load(Ordering::Relaxed)
    }

    fn set(&self, count: u64) {
        // A plain store suffices, as there is one writer.
        self.pulse.count.store(count, Ordering::Release);
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.pulse.over.store(true, Ordering::Relaxed);
        if let Some(watcher) = self.watcher.take() {
            watcher.thread().unpark();
            // If the callback has panicked, the panic's message was printed already.
            let _ = watcher.join();
        }
    }
}

/// Runs the watchdog's thread.
fn watch(pulse: &Pulse, threshold: Duration, thread: Option<String>, report: &Report) {
    let pause = (threshold / 4).clamp(Duration::from_micros(100), Duration::from_secs(1));
    let (mut seen, mut since, mut reported) = (0, Instant::now(), false);
    while !pulse.over.load(Ordering::Relaxed) {
        thread::park_timeout(pause);
        let count = pulse.count.load(Ordering::Acquire);
        if count != seen || count & 1 == 0 {
            (seen, since, reported) = (count, Instant::now(), false);
            continue;
        }
        let lasted = since.elapsed();
        if reported || lasted < threshold {
            continue;
        }
        // SAFETY: only addresses of `'static` locations are stored, before the count becomes odd.
        let task = unsafe { pulse.task.load(Ordering::Relaxed).as_ref() };
        // If the count is still the same, this task is the one that was counted.
        if let Some(task) = task.filter(|_| pulse.count.load(Ordering::Acquire) == count) {
            reported = true;
            report(&Stall { task, lasted, thread: thread.clone() });
        }
    }
}
