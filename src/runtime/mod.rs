//! The machinery of one context: driver, run queue, timers, scope tree, and the turn of the loop
//! that connects them. Everything here belongs to one thread, except [`remote`].
//!
//! # What depends on what
//! Nothing here imports from a module above the runtime; only `driver` and `os` lie below. The
//! files `inbox`, `list`, `refcount`, `slot`, `stall`, `stats`, `busy_poll`, `task_memory` and
//! `report` know nothing of [`Runtime`].
//!
//! The other files import each other, since they describe one data structure: a [`Runtime`] owns
//! the run queue of tasks ([`task`]), the timers ([`timers`]) and the root of the scope tree
//! ([`scope`]); scopes list operations ([`tracked_op`]) and belong to tasks; operations, timers and
//! scopes hold the waker ([`waker`]) of a task; a waker puts its task into the run queue, or, on
//! another thread, into the inbox of its [`remote`]. [`turn`], [`teardown`], [`drop_rule`],
//! [`poll_budget`] and [`fork`] are methods of the whole.

// # Why this file has `unsafe`
// The current runtime is a thread-local pointer, and the driver is in an `UnsafeCell`.

mod busy_poll;
pub(crate) mod drop_rule;
#[cfg(unix)]
pub(crate) mod fork;
mod inbox;
mod late_wakes;
mod list;
pub(crate) mod park;
pub(crate) mod poll_budget;
mod ready_queue;
mod refcount;
pub(crate) mod remote;
pub(crate) mod report;
pub(crate) mod scope;
pub(crate) mod slot;
pub(crate) mod stall;
pub(crate) mod stats;
pub(crate) mod sync;
pub(crate) mod task;
pub(crate) mod task_memory;
mod teardown;
pub(crate) mod timers;
pub(crate) mod tracked_op;
mod turn;
pub(crate) mod waker;

#[cfg(all(test, loom))]
mod models;

use std::cell::{Cell, RefCell, UnsafeCell};
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::driver::seams::clock;
use crate::driver::{AnyDriver, Driver, Notify};
use busy_poll::BusyPoll;
pub use drop_rule::DropPolicy;
use late_wakes::LateWakes;
use poll_budget::PollBudget;
use ready_queue::ReadyQueue;
use remote::Remote;
use scope::{Kind, Scope};
use stall::Watched;
use stats::Counters;
use task::Header;
use task_memory::{CellLayout, TRIM_AFTER, TaskMemory};
use timers::Timers;

/// The state of one context; see the head of this file.
pub(crate) struct Runtime {
    pub(crate) id: u64,
    driver: UnsafeCell<AnyDriver>,
    /// A [`DriverMut`] exists.
    #[cfg(debug_assertions)]
    driver_borrowed: Cell<bool>,
    ready: ReadyQueue,
    pub(crate) timers: Timers,
    pub(crate) task_memory: TaskMemory,
    pub(crate) root: Scope,
    /// The scope between `root` and those of the tasks.
    tasks: Scope,
    pub(crate) current_scope: Cell<*const Scope>,
    current_task: Cell<*const Header>,
    poll_budget: PollBudget,
    /// How often everything in flight was cancelled.
    pub(crate) cancels: Cell<u64>,
    pub(crate) remote: Arc<Remote>,
    /// Wakers of other executors, woken after the current batch.
    deferred: RefCell<Vec<Waker>>,
    late_wakes: LateWakes,
    /// When to return recycled task memory to the allocator, in nanoseconds.
    trim_at: Cell<Option<u64>>,
    /// There may be deferred or late wakers, tasks that have spent their budget of operations, or
    /// memory to be returned.
    has_postponed: Cell<bool>,
    /// The time at the end of the last turn, in nanoseconds of the coarse clock.
    clock: Cell<u64>,
    pub(crate) stats: Counters,
    pub(crate) drop_policy: DropPolicy,
    /// How many tasks are polled in one turn at most.
    task_budget: usize,
    busy_poll: BusyPoll,
    special: Option<Special>,
    /// Set while the context is being dropped: nothing new starts.
    closing: Cell<bool>,
    /// The context was dropped with operations in flight; this is never freed.
    given_up: Cell<bool>,
    origin: Instant,
    /// Set if the table of registered files was dropped while the context was not running; the
    /// driver unregisters it when the context runs next.
    pub(crate) orphaned_files: Rc<Cell<bool>>,
}

/// A runtime's settings, other than the driver's.
pub(crate) struct RuntimeConfig {
    pub(crate) drop_policy: DropPolicy,
    pub(crate) task_budget: usize,
    pub(crate) busy_poll: Duration,
    pub(crate) stalls: Option<(Duration, stall::Report)>,
    pub(crate) completes_inline: bool,
}

/// What is done around each poll of a task; in a usual context nothing is.
struct Special {
    watched: Option<Watched>,
    completes_inline: bool,
}

/// The one borrow of a runtime's driver.
struct DriverMut<'a> {
    driver: &'a mut AnyDriver,
    #[cfg(debug_assertions)]
    borrowed: &'a Cell<bool>,
}

impl Deref for DriverMut<'_> {
    type Target = AnyDriver;

    #[inline(always)]
    fn deref(&self) -> &AnyDriver {
        self.driver
    }
}

impl DerefMut for DriverMut<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut AnyDriver {
        self.driver
    }
}

#[cfg(debug_assertions)]
impl Drop for DriverMut<'_> {
    fn drop(&mut self) {
        self.borrowed.set(false);
    }
}

thread_local! {
    /// The runtime that is running on this thread, or null.
    static CURRENT: Cell<*const Runtime> = const { Cell::new(ptr::null()) };
}

/// A guard that keeps a runtime current on this thread until dropped.
pub(crate) struct Entered(());

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(ptr::null());
    }
}

impl Special {
    fn new(stalls: Option<(Duration, stall::Report)>, completes_inline: bool) -> Option<Self> {
        let watched = stalls.map(|(threshold, report)| Watched::new(threshold, report));
        (watched.is_some() || !completes_inline).then_some(Special { watched, completes_inline })
    }
}

impl Runtime {
    pub(crate) fn new(
        driver: AnyDriver,
        config: RuntimeConfig,
        location: &'static Location<'static>,
    ) -> Box<Self> {
        // Ids are never reused, unlike addresses.
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        let remote = Arc::new(Remote::new(driver.notifier()));
        let runtime = Box::new(Runtime {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            driver: UnsafeCell::new(driver),
            #[cfg(debug_assertions)]
            driver_borrowed: Cell::new(false),
            ready: ReadyQueue::new(),
            timers: Timers::new(),
            task_memory: TaskMemory::new(),
            root: Scope::new(Kind::Context, location),
            tasks: Scope::new(Kind::Tasks, location),
            current_scope: Cell::new(ptr::null()),
            current_task: Cell::new(ptr::null()),
            poll_budget: PollBudget::new(),
            cancels: Cell::new(0),
            remote,
            deferred: RefCell::new(Vec::new()),
            late_wakes: LateWakes::default(),
            trim_at: Cell::new(None),
            has_postponed: Cell::new(false),
            clock: Cell::new(0),
            stats: Counters::default(),
            drop_policy: config.drop_policy,
            task_budget: config.task_budget,
            busy_poll: BusyPoll::new(config.busy_poll),
            special: Special::new(config.stalls, config.completes_inline),
            closing: Cell::new(false),
            given_up: Cell::new(false),
            origin: clock::now(),
            orphaned_files: Rc::default(),
        });
        runtime.current_scope.set(&runtime.root);
        runtime.attach_tasks();
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
            // An error has no consequence: what the kernel keeps is freed with the ring.
            let _ = self.driver(|driver| driver.unregister_files());
        }
        Entered(())
    }

    /// Calls `f` with the runtime that is running on this thread, or with `None`.
    #[inline(always)]
    pub(crate) fn try_with<R>(f: impl FnOnce(Option<&Runtime>) -> R) -> R {
        // SAFETY: an `Entered`, which is dropped before its runtime, has set the pointer; and the
        // borrow ends with `f`, during which the running context is exclusively borrowed.
        f(unsafe { CURRENT.get().as_ref() })
    }

    /// Calls `f` with the runtime that is running on this thread. Panics if there is none.
    #[inline(always)]
    #[track_caller]
    pub(crate) fn with<R>(f: impl FnOnce(&Runtime) -> R) -> R {
        // SAFETY: as in `try_with`.
        f(unsafe { Self::current() })
    }

    /// Returns the runtime that is running on this thread; unlike `with`, without a closure, which
    /// might not be inlined. Panics if there is none.
    ///
    /// # Safety
    /// The borrow ends before the function that runs the context returns.
    #[inline(always)]
    #[track_caller]
    pub(crate) unsafe fn current<'a>() -> &'a Runtime {
        // SAFETY: an `Entered`, which is dropped before its runtime, has set the pointer.
        match unsafe { CURRENT.get().as_ref() } {
            Some(runtime) => runtime,
            None => no_context(),
        }
    }

    /// Returns the runtime that is running on this thread, for what was made at `location`: the
    /// place that a panic names if there is none, as polls have no caller of interest.
    ///
    /// # Safety
    /// As for [`current`](Self::current).
    #[inline(always)]
    pub(crate) unsafe fn current_for<'a>(location: &'static Location<'static>) -> &'a Runtime {
        // SAFETY: as in `current`.
        match unsafe { CURRENT.get().as_ref() } {
            Some(runtime) => runtime,
            None => no_context_for(location),
        }
    }

    /// Returns `true` if a context is running on this thread.
    pub(crate) fn is_any() -> bool {
        !CURRENT.get().is_null()
    }

    /// Returns the task that is being polled, or null.
    #[inline(always)]
    fn current_task() -> *const Header {
        Self::try_with(|runtime| runtime.map_or(ptr::null(), |runtime| runtime.current_task.get()))
    }

    /// Cancels the task that is being polled, as `JoinHandle::cancel` does.
    pub(crate) fn cancel_current_task() {
        // SAFETY: the task that is being polled is alive.
        if let Some(task) = unsafe { Self::current_task().as_ref() } {
            task.cancel();
        }
    }

    /// Returns `true` if `remote` is this runtime's. Only meaningful while the remote exists: a new
    /// one may have the address of one that was freed.
    #[inline(always)]
    fn is_at(&self, remote: *const Remote) -> bool {
        ptr::eq(Arc::as_ptr(&self.remote), remote)
    }

    /// Calls `f` with the driver.
    #[inline(always)]
    pub(crate) fn driver<R>(&self, f: impl FnOnce(&mut AnyDriver) -> R) -> R {
        // SAFETY: the runtime belongs to one thread, and by clauses 7 and 8 of the driver's
        // contract nothing that a driver calls leads back here while `f` runs. No caller's `f`
        // calls the runtime, except for `reap`'s delivery, which calls no driver. Debug builds
        // check it.
        let mut driver = unsafe { self.driver_mut() };
        f(&mut driver)
    }

    /// Borrows the driver. (A closure would not always be inlined, and then an operation's request
    /// would go through memory.)
    ///
    /// # Safety
    /// The driver is not borrowed again, by this or by [`driver`](Self::driver), while the returned
    /// value exists.
    #[inline(always)]
    unsafe fn driver_mut(&self) -> DriverMut<'_> {
        #[cfg(debug_assertions)]
        assert!(!self.driver_borrowed.replace(true), "the driver is borrowed already");
        DriverMut {
            // SAFETY: this function's only item; the runtime belongs to one thread.
            driver: unsafe { &mut *self.driver.get() },
            #[cfg(debug_assertions)]
            borrowed: &self.driver_borrowed,
        }
    }

    /// Gives the driver and all operations in flight up, in a child process made by `fork`: both
    /// are the parent's.
    #[cfg(unix)]
    fn leave_to_parent(&self) {
        // Not dropped: that would unmap what is not mapped here, and wait for threads that do not
        // exist.
        std::mem::forget(self.driver(AnyDriver::leave_to_parent));
        if let Some(watched) = self.special.as_ref().and_then(|special| special.watched.as_ref()) {
            watched.leave_to_parent();
        }
        self.root.visit(&mut |op| op.end_in_child(self));
    }

    /// Wakes another thread's driver from its wait, by the means of this thread's driver if it has
    /// one (such as `IORING_OP_MSG_RING`).
    pub(crate) fn notify_other(other: &Arc<dyn Notify>) {
        Self::try_with(|runtime| match runtime {
            Some(runtime) => runtime.driver(|driver| driver.notify_other(other)),
            None => other.notify(),
        });
    }

    /// Returns the number of operations in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.stats.in_flight()
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.get()
    }

    pub(crate) fn set_closing(&self) {
        self.closing.set(true);
    }

    /// Queues a foreign waker to be woken after the current batch.
    fn defer(&self, waker: Waker) {
        self.deferred.borrow_mut().push(waker);
        self.has_postponed.set(true);
    }

    /// Keeps the cell of a task that has ended, which is more than is kept for ever: after a while
    /// the surplus goes back to the allocator. Returns `false` if it does not keep it.
    ///
    /// # Safety
    /// As for [`TaskMemory::recycle`].
    #[cold]
    unsafe fn recycle_more(&self, layout: &CellLayout, cell: NonNull<u8>) -> bool {
        if !self.task_memory.raise_limit(layout) {
            return false;
        }
        self.trim_at.set(Some(self.now() + TRIM_AFTER));
        self.has_postponed.set(true);
        // SAFETY: this function's contract.
        unsafe { self.task_memory.recycle(layout, cell) }
    }

    /// Wakes a task after `delay`; if no context runs on this thread, as soon as other threads have
    /// had their turn.
    #[cold]
    pub(crate) fn wake_after(delay: Duration, waker: &Waker) {
        Self::try_with(|runtime| match runtime {
            Some(runtime) => {
                runtime.late_wakes.add(runtime.now() + delay.as_nanos() as u64, waker);
                runtime.has_postponed.set(true);
            }
            None => {
                sync::yield_now();
                waker.wake_by_ref();
            }
        });
    }

    /// Returns the nanoseconds since this runtime was created, by the precise clock.
    pub(crate) fn now(&self) -> u64 {
        self.nanos_at(clock::now())
    }

    /// Converts a time to nanoseconds since this runtime was created; earlier times give zero.
    pub(crate) fn nanos_at(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Returns the time of the coarse clock, which takes a few nanoseconds to read and is exact to
    /// a few milliseconds.
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

#[cold]
fn no_context_for(location: &Location<'_>) -> ! {
    panic!(
        "no IoContext on this thread: what {location} has made needs a running one; await it in \
         the future given to `IoContext::block_on`, or in a task of a context"
    )
}

#[cfg(all(test, debug_assertions, not(loom)))]
mod tests {
    use super::*;
    use crate::driver::Settings;

    #[test]
    #[should_panic(expected = "the driver is borrowed already")]
    fn a_second_borrow_of_the_driver_is_caught() {
        let (driver, _) = AnyDriver::choose(&Settings::new(8)).expect("a driver");
        let config = RuntimeConfig {
            drop_policy: DropPolicy::default(),
            task_budget: 1,
            busy_poll: Duration::ZERO,
            stalls: None,
            completes_inline: true,
        };
        let runtime = Runtime::new(driver, config, Location::caller());
        runtime.driver(|_| runtime.driver(|_| ()));
    }

    #[test]
    fn a_borrow_of_the_driver_ends_with_a_panic() {
        let (driver, _) = AnyDriver::choose(&Settings::new(8)).expect("a driver");
        let config = RuntimeConfig {
            drop_policy: DropPolicy::default(),
            task_budget: 1,
            busy_poll: Duration::ZERO,
            stalls: None,
            completes_inline: true,
        };
        let runtime = Runtime::new(driver, config, Location::caller());
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            runtime.driver(|_| panic!("in the middle of a borrow"));
        }));
        assert!(panicked.is_err());
        assert_ne!(runtime.driver(|driver| driver.name()), "");
    }
}
