//! The machinery of one context: driver, run queue, timers, scope tree, and the turn that joins
//! them. Everything here belongs to one thread, except [`remote`].
//!
//! # Why this file has `unsafe`
//! The current runtime is a thread-local pointer, and the driver sits in an `UnsafeCell`.

mod inbox;
pub(crate) mod inflight;
mod list;
mod refcount;
pub(crate) mod remote;
pub(crate) mod report;
pub(crate) mod scope;
mod spin;
pub(crate) mod stall;
pub(crate) mod stats;
pub(crate) mod sync;
pub(crate) mod task;
pub(crate) mod task_memory;
pub(crate) mod timers;
mod turn;
pub(crate) mod waker;

#[cfg(all(test, loom))]
mod models;

use std::cell::{Cell, RefCell, UnsafeCell};
use std::panic::Location;
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::driver::seams::clock;
use crate::driver::{AnyDriver, Driver, Notify};
use remote::Remote;
use scope::{Kind, Scope};
use spin::Spin;
use stall::Watched;
use stats::Counters;
use task::{Header, ReadyQueue};
use task_memory::TaskMemory;
use timers::Timers;

/// What happens when an operation's future is dropped while the kernel still uses its memory.
///
/// # Examples
/// ```
/// use corio::{DropPolicy, IoContext};
/// let context = IoContext::builder().drop_policy(DropPolicy::CancelAndWait).build()?;
/// # Ok::<(), corio::SetupError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DropPolicy {
    /// A report on stderr, then `abort()`. The mistake is found where it is made.
    #[default]
    Abort,
    /// The operation is cancelled, and the thread waits until the kernel has let go. No task runs
    /// meanwhile. This makes ordinary `select!` code work.
    CancelAndWait,
}

/// See the module's page.
pub(crate) struct Runtime {
    pub(crate) id: u64,
    driver: UnsafeCell<AnyDriver>,
    ready: ReadyQueue,
    pub(crate) timers: Timers,
    pub(crate) task_memory: TaskMemory,
    pub(crate) root: Scope,
    pub(crate) current_scope: Cell<*const Scope>,
    current_task: Cell<*const Header>,
    /// How many more operations of the task that is polled may end at once. Below zero: how many were
    /// not started for that.
    poll_budget: Cell<i32>,
    pub(crate) remote: Arc<Remote>,
    /// Foreign wakers to be woken after the current batch.
    deferred: RefCell<Vec<Waker>>,
    /// The time of the last turn, in nanoseconds of the coarse clock.
    clock: Cell<u64>,
    pub(crate) stats: Counters,
    pub(crate) drop_policy: DropPolicy,
    /// Most task polls in one turn.
    budget: usize,
    spin: Spin,
    stalls: Option<Watched>,
    /// The context is being dropped: nothing new may start.
    closing: Cell<bool>,
    origin: Instant,
    /// The table of registered files was dropped while nobody could tell the driver.
    pub(crate) orphaned_files: Rc<Cell<bool>>,
}

/// How many operations that end at once a task may have in one poll, before others have their turn. Large
/// ones count for several.
const POLL_BUDGET: i32 = 64;

/// How a runtime conducts itself, whatever its driver.
pub(crate) struct RuntimeConfig {
    pub(crate) drop_policy: DropPolicy,
    pub(crate) budget: usize,
    pub(crate) busy_poll: Duration,
    pub(crate) stalls: Option<(Duration, stall::Report)>,
}

thread_local! {
    /// The runtime that is running on this thread.
    static CURRENT: Cell<*const Runtime> = const { Cell::new(ptr::null()) };
}

/// Makes a runtime current on this thread until dropped.
pub(crate) struct Entered(());

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(ptr::null());
    }
}

impl Runtime {
    pub(crate) fn new(
        driver: AnyDriver,
        runtime_config: RuntimeConfig,
        location: &'static Location<'static>,
    ) -> Box<Self> {
        // Never reused, unlike addresses.
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        let remote = Arc::new(Remote::new(driver.notifier()));
        let runtime = Box::new(Runtime {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            driver: UnsafeCell::new(driver),
            ready: ReadyQueue::new(),
            timers: Timers::new(),
            task_memory: TaskMemory::new(),
            root: Scope::new(Kind::Context, location),
            current_scope: Cell::new(ptr::null()),
            current_task: Cell::new(ptr::null()),
            poll_budget: Cell::new(POLL_BUDGET),
            remote,
            deferred: RefCell::new(Vec::new()),
            clock: Cell::new(0),
            stats: Counters::default(),
            drop_policy: runtime_config.drop_policy,
            budget: runtime_config.budget,
            spin: Spin::new(runtime_config.busy_poll),
            stalls: runtime_config
                .stalls
                .map(|(threshold, report)| Watched::new(threshold, report)),
            closing: Cell::new(false),
            origin: clock::now(),
            orphaned_files: Rc::default(),
        });
        runtime.current_scope.set(&runtime.root);
        runtime.tick_clock();
        runtime
    }

    /// Makes this the thread's current runtime.
    #[track_caller]
    pub(crate) fn enter(&self) -> Entered {
        assert!(
            CURRENT.get().is_null(),
            "an IoContext is already running on this thread: inside it, `.await` the future or \
             `corio::spawn` it instead of running a context within a context"
        );
        CURRENT.set(self);
        if self.orphaned_files.take() {
            // Nobody to tell; what the kernel keeps goes with the ring.
            let _ = self.driver(|driver| driver.unregister_files());
        }
        Entered(())
    }

    /// Calls `f` with the runtime that is running on this thread, if there is one.
    #[inline(always)]
    pub(crate) fn try_with<R>(f: impl FnOnce(Option<&Runtime>) -> R) -> R {
        // SAFETY: an `Entered`, which ends before its runtime does, has set it; and the borrow
        // ends with `f`, during which the running context is exclusively borrowed.
        f(unsafe { CURRENT.get().as_ref() })
    }

    /// The same where only a running context makes sense.
    #[inline(always)]
    #[track_caller]
    pub(crate) fn with<R>(f: impl FnOnce(&Runtime) -> R) -> R {
        // SAFETY: as in `try_with`.
        f(unsafe { Self::current() })
    }

    /// The runtime that is running on this thread, without a closure that might not be inlined.
    ///
    /// # Safety
    /// The borrow ends before the caller returns to whoever runs the context.
    #[inline(always)]
    #[track_caller]
    pub(crate) unsafe fn current<'a>() -> &'a Runtime {
        // SAFETY: an `Entered`, which ends before its runtime does, has set it.
        match unsafe { CURRENT.get().as_ref() } {
            Some(runtime) => runtime,
            None => no_context(),
        }
    }

    /// Whether a context is running on this thread.
    pub(crate) fn is_any() -> bool {
        !CURRENT.get().is_null()
    }

    /// The task that is being polled, or null.
    #[inline(always)]
    fn current_task() -> *const Header {
        Self::try_with(|runtime| runtime.map_or(ptr::null(), |runtime| runtime.current_task.get()))
    }

    /// Cancels the task that is being polled, as its handle would.
    pub(crate) fn cancel_current_task() {
        // SAFETY: the task that is being polled is alive.
        if let Some(task) = unsafe { Self::current_task().as_ref() } {
            task.cancel();
        }
    }

    /// Whether `remote` is this runtime's, given that it is still there: another may have had its
    /// address before.
    #[inline(always)]
    fn is_at(&self, remote: *const Remote) -> bool {
        ptr::eq(Arc::as_ptr(&self.remote), remote)
    }

    /// Calls `f` with the driver.
    #[inline(always)]
    pub(crate) fn driver<R>(&self, f: impl FnOnce(&mut AnyDriver) -> R) -> R {
        // SAFETY: the runtime belongs to one thread, and a driver never runs foreign code, so
        // there is no way back here while `f` runs. No caller's `f` calls the runtime, except for
        // `reap`'s delivery, which does not touch the driver.
        f(unsafe { self.driver_mut() })
    }

    /// The driver itself: a closure would not be inlined for sure, and then an operation's request goes
    /// through memory.
    ///
    /// # Safety
    /// The driver is not asked for again while this borrow lasts.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)] // The caller promises that there is but one.
    unsafe fn driver_mut(&self) -> &mut AnyDriver {
        // SAFETY: what the caller promises; the runtime belongs to one thread.
        unsafe { &mut *self.driver.get() }
    }

    /// Ends the wait of another thread's driver, by the way that this thread's offers.
    pub(crate) fn notify_other(other: &Arc<dyn Notify>) {
        Self::try_with(|runtime| match runtime {
            Some(runtime) => runtime.driver(|driver| driver.notify_other(other)),
            None => other.notify(),
        });
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.stats.in_flight()
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.get()
    }

    pub(crate) fn set_closing(&self) {
        self.closing.set(true);
    }

    /// Whether the task that is polled may go on with operations that end at once.
    #[inline(always)]
    pub(crate) fn has_poll_budget(&self) -> bool {
        self.poll_budget.get() > 0 || self.is_pressed()
    }

    /// An executor within the task may go on polling, instead of giving way: it gets somewhere.
    #[cold]
    fn is_pressed(&self) -> bool {
        // Nothing sets anew what is polled outside of tasks, nor wakes it for sure.
        if self.current_task.get().is_null() {
            return true;
        }
        let pressed = self.poll_budget.get() <= -POLL_BUDGET;
        self.poll_budget.set(if pressed { POLL_BUDGET } else { self.poll_budget.get() - 1 });
        pressed
    }

    /// An operation has ended at once; a large one counts for one more per 64 KiB. Not below zero, where
    /// it would pass for many that were not started.
    #[inline(always)]
    pub(crate) fn spend_poll_budget(&self, result: i32) {
        self.poll_budget.set((self.poll_budget.get() - 1 - (result.max(0) >> 16)).max(0));
    }

    fn defer(&self, waker: Waker) {
        self.deferred.borrow_mut().push(waker);
    }

    /// Nanoseconds since this runtime began, by the precise clock.
    pub(crate) fn now(&self) -> u64 {
        self.nanos_at(clock::now())
    }

    /// The same for a given time; times before the beginning are zero.
    pub(crate) fn nanos_at(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX)
    }

    /// The coarse clock: a few nanoseconds to read, good to a few milliseconds.
    pub(crate) fn coarse_now(&self) -> Duration {
        clock::coarse_now()
    }

    fn tick_clock(&self) {
        self.clock.set(self.coarse_now().as_nanos() as u64);
    }
}

#[cold]
#[track_caller]
fn no_context() -> ! {
    panic!(
        "no IoContext on this thread: operations, timers and tasks need a running one; put this \
         code into the future given to `IoContext::block_on`, or into a task of a context"
    )
}
