//! The context: one thread's ring, loop and tasks, as its user sees them.
//!
//! # Why this file has `unsafe`
//! `block_on` runs a future that may borrow from its caller.

mod builder;
mod handle;

use crate::os;
use crate::os::RawFd;
use std::cell::Cell;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic::Location;
use std::rc::Rc;
use std::time::{Duration, Instant};

pub use builder::Builder;
pub use handle::Handle;

use crate::driver::seams::clock;
use crate::driver::{AnyDriver, Driver, SetupError, Wait};
use crate::runtime::Runtime;
use crate::runtime::report::InFlight;
use crate::runtime::stats::Stats;
use crate::task::{JoinHandle, spawn_on, spawn_unchecked};

/// One thread's I/O context: it owns a ring, and runs tasks on the thread that made it.
///
/// A thread has at most one at a time. It can't be sent to another thread; a [`Handle`] can.
///
/// # Dropping
/// A context that is dropped refuses new operations, cancels those in flight, waits (at most the
/// [grace period](Builder::grace_period)) for the kernel to let go, and then drops its tasks. No
/// task is polled meanwhile. What the kernel does not let go of in time is reported on stderr and
/// leaked, never freed.
///
/// # Examples
/// ```
/// use corio::IoContext;
///
/// let mut context = IoContext::new(256)?;
/// let text = context.block_on(async {
///     let file = corio::fs::File::open("Cargo.toml").await?;
///     let (result, buf) = file.read_at(Vec::with_capacity(1 << 16), 0).await;
///     result?;
///     Ok::<_, std::io::Error>(String::from_utf8_lossy(&buf).into_owned())
/// })?;
/// assert!(text.contains("corio"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct IoContext {
    /// Dropped by hand, or not at all if the kernel does not let go in time.
    runtime: ManuallyDrop<Box<Runtime>>,
    grace_period: Duration,
    fallback_reason: Option<SetupError>,
    /// The ring belongs to the thread that made it.
    _not_send: PhantomData<Rc<()>>,
}

thread_local! {
    /// Where this thread's context was made, while there is one.
    static OWNER: Cell<Option<&'static Location<'static>>> = const { Cell::new(None) };
}

impl IoContext {
    /// A context with room for `entries` submissions per system call (256 is a good number), all
    /// else by default.
    ///
    /// # Errors
    /// See [`SetupError`]: io_uring missing or forbidden, sizes out of range, no memory, no fds, or
    /// a context on this thread already.
    ///
    /// # Examples
    /// ```
    /// let context = corio::IoContext::new(256)?;
    /// # Ok::<(), corio::SetupError>(())
    /// ```
    #[track_caller]
    pub fn new(entries: u32) -> Result<Self, SetupError> {
        Self::builder().entries(entries).build()
    }

    /// A context to be configured.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// let context = corio::IoContext::builder()
    ///     .entries(1024)
    ///     .grace_period(Duration::from_secs(2))
    ///     .build()?;
    /// # Ok::<(), corio::SetupError>(())
    /// ```
    pub fn builder() -> Builder {
        Builder::new()
    }

    fn build(builder: &Builder, location: &'static Location<'static>) -> Result<Self, SetupError> {
        if let Some(other) = OWNER.get() {
            return Err(SetupError::SecondContext(other));
        }
        let (driver, fallback_reason) = AnyDriver::choose(&builder.settings)?;
        let runtime = Runtime::new(driver, builder.runtime_config(), location);
        OWNER.set(Some(location));
        Ok(IoContext {
            runtime: ManuallyDrop::new(runtime),
            grace_period: builder.grace_period,
            fallback_reason,
            _not_send: PhantomData,
        })
    }

    /// Starts a task, which runs while the context does. See [`spawn`](crate::spawn).
    ///
    /// # Examples
    /// ```
    /// let mut context = corio::IoContext::new(8)?;
    /// let task = context.spawn(async { 5 });
    /// assert_eq!(context.block_on(task).unwrap(), 5);
    /// # Ok::<(), corio::SetupError>(())
    /// ```
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        spawn_on(&self.runtime, future, Location::caller())
    }

    /// Runs until `future` is done, and gives its output.
    ///
    /// Tasks that are still running then are [cancelled](JoinHandle::cancel) and waited for (at
    /// most the [grace period](Builder::grace_period)), so that nothing is in flight afterwards.
    /// A [`stop`](Handle::stop) does not end it; it is kept for the next [`run`](Self::run).
    ///
    /// # Panics
    /// With the future's own panic; when called from within a running context.
    ///
    /// # Aborts
    /// When the kernel refuses to run the ring any more, or a foreign waker panics: the future may
    /// borrow from the caller, to whom there is no way back while it is in flight.
    ///
    /// # Examples
    /// ```
    /// let mut context = corio::IoContext::new(8)?;
    /// let name = String::from("corio");
    /// let len = context.block_on(async { name.len() });
    /// assert_eq!(len, 5);
    /// # Ok::<(), corio::SetupError>(())
    /// ```
    #[track_caller]
    pub fn block_on<F: Future>(&mut self, future: F) -> F::Output {
        /// Unwinding out of the loop would free what the future borrows while it still runs.
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                eprintln!("corio: aborting: the loop panicked while its future was running");
                std::process::abort();
            }
        }

        let runtime = &**self.runtime;
        let _entered = runtime.enter();
        let running = Running::new(runtime);
        let bomb = Bomb;
        // SAFETY: this function does not return before the task is done and its output taken.
        let mut main = unsafe { spawn_unchecked(runtime, future, Location::caller()) };
        let output = loop {
            runtime.run_ready();
            if let Some(output) = main.take() {
                break output;
            }
            if let Err(error) = runtime.turn(Wait::Forever, false) {
                eprintln!("corio: the ring failed: {error}");
                drop(bomb);
                unreachable!("the bomb aborts");
            }
        };
        drop(main);
        std::mem::forget(bomb);
        self.settle();
        drop(running);
        match output {
            Ok(output) => output,
            Err(error) => error.resume_panic(),
        }
    }

    /// Ends all tasks and waits until nothing is in flight, within the grace period.
    fn settle(&self) {
        let runtime = &**self.runtime;
        let deadline = Deadline::after(self.grace_period);
        loop {
            runtime.cancel_tasks();
            // Operations of no task: leaked ones, and those polled outside of tasks.
            runtime.cancel_pending();
            runtime.run_ready();
            let busy = runtime.in_flight() > 0 || runtime.driver(|driver| driver.closing()) > 0;
            if !runtime.has_tasks() && !busy {
                return;
            }
            let left = deadline.left();
            let wait = if runtime.has_ready() { Wait::No } else { Wait::For(left) };
            if left.is_zero() || runtime.turn(wait, false).is_err() {
                return;
            }
        }
    }

    /// Runs until [stopped](Handle::stop), and calls `tick` after each batch of completions.
    ///
    /// A stop that came before is not lost: this returns at once, after polling what is ready.
    /// With nothing to do the thread sleeps in the kernel. Tasks and operations that are left stay
    /// as they are, for another run.
    ///
    /// # Errors
    /// When the kernel refuses to run the ring.
    ///
    /// # Examples
    /// ```
    /// let mut context = corio::IoContext::new(8)?;
    /// let handle = context.handle();
    /// context.spawn(async move { handle.stop() });
    /// context.run(|context| println!("{} in flight", context.stats().in_flight))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn run(&mut self, mut tick: impl FnMut(&IoContext)) -> io::Result<()> {
        let this = &*self;
        let _entered = this.runtime.enter();
        let _running = Running::new(&this.runtime);
        loop {
            this.runtime.run_ready();
            if this.runtime.remote.take_stop() {
                return Ok(());
            }
            this.runtime.turn(Wait::Forever, true)?;
            tick(this);
        }
    }

    /// One turn: polls what is ready, waits at most `timeout` (`None`: as long as it takes) for
    /// something to happen, and polls what that made ready. Gives the number of operations that
    /// have ended. It does not wait while a [`stop`](Handle::stop) is asked for, and keeps that
    /// for the next [`run`](Self::run).
    ///
    /// # Errors
    /// When the kernel refuses to run the ring.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// let mut context = corio::IoContext::new(8)?;
    /// let task = context.spawn(corio::op::AsyncNop::new());
    /// while !task.is_finished() {
    ///     context.poll_once(Some(Duration::from_millis(10)))?;
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn poll_once(&mut self, timeout: Option<Duration>) -> io::Result<u64> {
        let runtime = &**self.runtime;
        let _entered = runtime.enter();
        let _running = Running::new(runtime);
        let before = runtime.stats.ended();
        runtime.run_ready();
        let wait = match timeout {
            None => Wait::Forever,
            Some(Duration::ZERO) => Wait::No,
            Some(timeout) => Wait::For(timeout),
        };
        runtime.turn(wait, true)?;
        runtime.run_ready();
        Ok(runtime.stats.ended() - before)
    }

    /// A handle by which other threads can stop this context.
    pub fn handle(&self) -> Handle {
        Handle::new(self.runtime.remote.clone())
    }

    /// Asks the current or else the next [`run`](Self::run) to return. See [`Handle::stop`].
    pub fn stop(&self) {
        self.runtime.remote.stop();
    }

    /// Whether the context is being run: true within tasks and ticks.
    pub fn is_running(&self) -> bool {
        self.runtime.remote.is_running()
    }

    /// Cancels every operation that is in flight now, and returns how many those were. Each ends
    /// with its true result or `ECANCELED`; new operations may be started as before.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// let mut context = corio::IoContext::new(8)?;
    /// let (a, _b) = std::os::unix::net::UnixStream::pair()?;
    /// let recv = context.spawn(async move { corio::op::AsyncRecv::new(&a, vec![0; 64]).await.0 });
    /// context.poll_once(Some(Duration::ZERO))?;
    /// assert_eq!(context.cancel_all_pending(), 1);
    /// let result = context.block_on(recv)?;
    /// assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::ECANCELED));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn cancel_all_pending(&self) -> usize {
        self.runtime.cancel_pending()
    }

    /// What the context has done so far.
    pub fn stats(&self) -> Stats {
        self.runtime.snapshot()
    }

    /// The operations in flight, oldest first. [`corio::in_flight`](crate::in_flight) is the same
    /// from within.
    pub fn in_flight(&self) -> Vec<InFlight> {
        self.runtime.list_in_flight()
    }

    /// The name of the driver: `io_uring` or `readiness`.
    pub fn driver_name(&self) -> &'static str {
        self.runtime.driver(|driver| driver.name())
    }

    /// Why this context does without io_uring, if the choice was [automatic](crate::DriverChoice).
    ///
    /// # Examples
    /// ```
    /// let context = corio::IoContext::new(8)?;
    /// match context.fallback_reason() {
    ///     None => println!("driver: {}", context.driver_name()),
    ///     Some(reason) => println!("driver: {}, because {reason}", context.driver_name()),
    /// }
    /// # Ok::<(), corio::SetupError>(())
    /// ```
    pub fn fallback_reason(&self) -> Option<&SetupError> {
        self.fallback_reason.as_ref()
    }

    /// What the kernel granted: set-up flags by their names in `io_uring_setup(2)`, or the name of
    /// the selector (`epoll`, `kqueue`). `PBUF_RING_INC` is among them from the first
    /// [chunk](crate::op::RecvStream) on, if the kernel receives these by itself.
    pub fn setup_flags(&self) -> Vec<&'static str> {
        self.runtime.driver(|driver| driver.setup().flags)
    }

    /// The sizes of submission and completion queue that the kernel granted.
    pub fn queue_sizes(&self) -> (u32, u32) {
        self.runtime.driver(|driver| driver.setup().queue_sizes)
    }

    /// The ring's file descriptor, for the curious; it stays this context's. `None` for a driver
    /// without a ring.
    pub fn ring_fd(&self) -> Option<RawFd> {
        self.runtime.driver(|driver| driver.setup().queue_fd)
    }
}

/// Says that the context is being run, until dropped.
struct Running<'a>(&'a Runtime);

impl<'a> Running<'a> {
    fn new(runtime: &'a Runtime) -> Self {
        runtime.remote.set_running(true);
        Running(runtime)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.remote.set_running(false);
    }
}

/// The end of a grace period; `None` if that is longer than time can be counted.
#[derive(Clone, Copy)]
struct Deadline(Option<Instant>);

impl Deadline {
    fn after(period: Duration) -> Self {
        Deadline(clock::now().checked_add(period))
    }

    fn left(self) -> Duration {
        self.0.map_or(Duration::MAX, |end| end.saturating_duration_since(clock::now()))
    }
}

impl IoContext {
    /// Waits until the kernel has let go of everything; `false` if it did not in time.
    fn drain(&self, deadline: Deadline) -> bool {
        let runtime = &**self.runtime;
        loop {
            let busy = runtime.in_flight() + runtime.driver(|driver| driver.closing());
            let left = deadline.left();
            if busy == 0 || left.is_zero() || runtime.reap(Wait::For(left)).is_err() {
                return busy == 0;
            }
        }
    }
}

/// Lets the thread have another context when dropped.
struct Vacate;

impl Drop for Vacate {
    fn drop(&mut self) {
        OWNER.set(None);
    }
}

impl Drop for IoContext {
    fn drop(&mut self) {
        // Also if a foreign waker's destructor panics below; the runtime is leaked then.
        let _vacate = Vacate;
        let deadline = Deadline::after(self.grace_period);
        let entered = self.runtime.enter();
        self.runtime.set_closing();
        self.runtime.remote.mailbox.close();
        self.runtime.root.cancel(os::ECANCELED);
        if !self.drain(deadline) {
            drop(entered);
            eprintln!(
                "corio: a context was dropped, but the kernel did not let go of {} operations and {} \
                 closes within {:?}; they are leaked with their tasks:",
                self.runtime.in_flight(),
                self.runtime.driver(|driver| driver.closing()),
                self.grace_period
            );
            for pending in self.runtime.list_in_flight() {
                eprintln!("  {pending}");
            }
            return;
        }
        // Destructors of tasks and foreign wakers may start new tasks and timers: not one is left.
        loop {
            self.runtime.end_tasks();
            // Closes queued by what the tasks owned, if any.
            self.drain(deadline);
            self.runtime.discard_queues();
            if self.runtime.is_deserted() {
                break;
            }
        }
        drop(entered);
        // SAFETY: not used again. Nothing refers to the runtime any more: no operation is in
        // flight, all tasks are done, and scopes and timers have been set free.
        unsafe { ManuallyDrop::drop(&mut self.runtime) };
    }
}

impl fmt::Debug for IoContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IoContext")
            .field("driver", &self.driver_name())
            .field("ring_fd", &self.ring_fd())
            .field("flags", &self.setup_flags())
            .field("in_flight", &self.runtime.in_flight())
            .finish()
    }
}

/// The operations in flight in the running context, oldest first.
///
/// # Panics
/// When no context is running on this thread.
///
/// # Examples
/// See [`InFlight`].
#[track_caller]
pub fn in_flight() -> Vec<InFlight> {
    Runtime::with(Runtime::list_in_flight)
}

/// What the running context has done so far.
///
/// # Panics
/// When no context is running on this thread.
///
/// # Examples
/// ```
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// println!("{}", corio::stats());
/// # });
/// # Ok::<(), corio::SetupError>(())
/// ```
#[track_caller]
pub fn stats() -> Stats {
    Runtime::with(Runtime::snapshot)
}

/// A handle to the running context, for other threads.
///
/// # Panics
/// When no context is running on this thread.
///
/// # Examples
/// ```
/// let mut context = corio::IoContext::new(8)?;
/// context.spawn(async {
///     let handle = corio::handle();
///     std::thread::spawn(move || handle.stop());
/// });
/// context.run(|_| {})?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[track_caller]
pub fn handle() -> Handle {
    Runtime::with(|runtime| Handle::new(runtime.remote.clone()))
}
