//! Noticing tasks that hold their thread for too long.
//!
//! The loop counts: odd while a task is polled, even between. A thread beside it looks at the count now
//! and then; one that stays odd and the same is a stall. So the loop reads no clock for this.
//!
//! # Why this file has `unsafe`
//! A source location goes to the other thread as a pointer.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A task that has held its thread for too long: in a computation, or a call that blocks. It still does.
///
/// # Examples
/// See [`Builder::watch_stalls`](crate::Builder::watch_stalls).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stall {
    /// Where the task was spawned.
    pub task: &'static Location<'static>,
    /// For how long it has been polled, at least.
    pub lasted: Duration,
    /// The name of its thread, if it has one.
    pub thread: Option<String>,
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the task spawned at {} has held the thread {} for {:?}: give long work to \
             `corio::spawn_blocking`, or divide it by `corio::yield_now`",
            self.task,
            self.thread.as_deref().unwrap_or("(unnamed)"),
            self.lasted
        )
    }
}

pub(crate) type Report = Arc<dyn Fn(&Stall) + Send + Sync>;

/// What the loop and its watcher share.
struct Pulse {
    count: AtomicU64,
    task: AtomicPtr<Location<'static>>,
    over: AtomicBool,
}

/// A loop that is watched; ends the watch when dropped.
pub(crate) struct Watched {
    pulse: Arc<Pulse>,
    watcher: Option<JoinHandle<()>>,
}

impl Watched {
    /// Watches the calling thread. (If the system has no thread for that, nobody watches.)
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
        Watched { pulse, watcher: watcher.ok() }
    }

    /// A task is about to be polled.
    #[inline(always)]
    pub(super) fn begin(&self, task: &'static Location<'static>) {
        self.pulse.task.store(std::ptr::from_ref(task).cast_mut(), Ordering::Relaxed);
        self.set((self.count() + 1) | 1);
    }

    /// It has been.
    #[inline(always)]
    pub(super) fn end(&self) {
        // Also if a panic has kept the last poll from being counted.
        self.set((self.count() | 1) + 1);
    }

    fn count(&self) -> u64 {
        self.pulse.count.load(Ordering::Relaxed)
    }

    fn set(&self, count: u64) {
        // There is one writer.
        self.pulse.count.store(count, Ordering::Release);
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.pulse.over.store(true, Ordering::Relaxed);
        if let Some(watcher) = self.watcher.take() {
            watcher.thread().unpark();
            // A report that panics has spoken for itself.
            let _ = watcher.join();
        }
    }
}

fn watch(pulse: &Pulse, threshold: Duration, thread: Option<String>, report: &Report) {
    let pause = (threshold / 4).clamp(Duration::from_micros(100), Duration::from_secs(1));
    let (mut seen, mut since, mut told) = (0, Instant::now(), false);
    while !pulse.over.load(Ordering::Relaxed) {
        thread::park_timeout(pause);
        let count = pulse.count.load(Ordering::Acquire);
        if count != seen || count % 2 == 0 {
            (seen, since, told) = (count, Instant::now(), false);
            continue;
        }
        let lasted = since.elapsed();
        if told || lasted < threshold {
            continue;
        }
        // SAFETY: only places of `'static` locations are stored, before the count is odd.
        let task = unsafe { pulse.task.load(Ordering::Relaxed).as_ref() };
        // The task is the one that was counted, if the count is still the same.
        if let Some(task) = task.filter(|_| pulse.count.load(Ordering::Acquire) == count) {
            told = true;
            report(&Stall { task, lasted, thread: thread.clone() });
        }
    }
}
