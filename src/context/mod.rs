//! The I/O context: the public interface of one thread's driver, loop and tasks.

// # Why this file has `unsafe`
// The runtime is dropped by hand, or leaked if the kernel still uses memory of its tasks.

mod builder;
mod handle;

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
use crate::os::RawFd;
use crate::runtime::Runtime;
#[cfg(unix)]
use crate::runtime::fork;
use crate::runtime::report::InFlight;
use crate::runtime::stats::Stats;

/// An I/O context: it owns one thread's ring, and runs tasks on that thread.
///
/// Create it on the thread that runs it: it can't be sent to another one, and a thread has at most
/// one at a time. Other threads reach it by its [`Handle`], which is `Send` and `Sync`.
///
/// # Fork
/// In a child process made by `fork(2)` the context of the thread that forked is cut off from the
/// kernel: what was in flight ends with `ECANCELED`, and so does every new operation. Timers work.
/// A wait for anything else is an error of [`run`](Self::run) and [`poll_once`](Self::poll_once),
/// and `block_on` aborts the child. The child may drop the context, and whatever belongs to it, and
/// create another one; the parent does not notice. Other threads do not exist in the child, so that
/// it must not wait for them: `Workers`, `Server`, `spawn_blocking` and the [`Handle`]s of other
/// contexts are of no use there, except to be forgotten. `std::process::Command` is not affected.
///
/// # Dropping
/// Dropping a context refuses new operations, cancels those in flight, waits until they have ended,
/// and then drops the tasks. No task is polled meanwhile. It waits at most for the [grace
/// period](Builder::grace_period). If operations have not ended by then, they are reported on
/// stderr, and leaked with all tasks, never freed. The tasks count as cancelled: what waits for
/// them ends. A sleep or a time limit that outlives the context goes on in the next one. A limit of
/// such an operation's own cancels it again, and blocks the thread until it has ended, for 0.1 s at
/// most; if it has not, it stays pending.
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
///
/// One on each of two threads:
/// ```
/// use corio::IoContext;
/// let threads = [1, 2].map(|n| {
///     std::thread::spawn(move || {
///         let mut context = IoContext::new(8)?; // here, not outside of the thread
///         Ok::<_, corio::SetupError>(context.block_on(async { n * n }))
///     })
/// });
/// let squares = threads.map(|thread| thread.join().unwrap().unwrap());
/// assert_eq!(squares, [1, 4]);
/// ```
#[doc(alias = "Runtime")]
#[doc(alias = "LocalRuntime")]
#[doc(alias = "LocalSet")]
pub struct IoContext {
    /// Dropped by hand, or leaked if operations have not ended within the grace period.
    runtime: ManuallyDrop<Box<Runtime>>,
    grace_period: Duration,
    fallback_reason: Option<SetupError>,
    /// The ring belongs to the thread that created it.
    _not_send: PhantomData<Rc<()>>,
}

thread_local! {
    /// The source line that created this thread's context, while there is one.
    static OWNER: Cell<Option<&'static Location<'static>>> = const { Cell::new(None) };
}

impl IoContext {
    /// Creates a context with room for `entries` submissions per system call; 256 is a good number.
    /// All other settings have their defaults. It is for this thread.
    ///
    /// # Errors
    /// [`SetupError`] if `entries` is out of range, memory or file descriptors are exhausted, there
    /// is a context on this thread already, or the driver that was chosen is missing or forbidden.
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

    /// Returns a builder, to configure a context.
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
        #[cfg(unix)]
        // SAFETY: the runtime is on the heap, and freed only by the context's destructor, which
        // clears the note before, or leaked.
        unsafe {
            fork::set(&runtime);
        }
        Ok(IoContext {
            runtime: ManuallyDrop::new(runtime),
            grace_period: builder.grace_period,
            fallback_reason,
            _not_send: PhantomData,
        })
    }

    /// Returns the runtime, for the modules above that extend the context.
    #[inline(always)]
    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Marks the context as being run until the guard is dropped.
    pub(crate) fn set_running(&self) -> Running<'_> {
        self.runtime.remote.set_running(true);
        Running(&self.runtime)
    }

    /// Cancels all tasks and waits until nothing is in flight, within the grace period.
    pub(crate) fn finish_tasks(&self) {
        let runtime = &**self.runtime;
        let deadline = Deadline::after(self.grace_period);
        let mut settling = runtime.settle();
        loop {
            settling.cancel_new_tasks();
            runtime.run_ready();
            let busy = runtime.in_flight() > 0 || runtime.driver(|driver| driver.closing()) > 0;
            if !runtime.has_tasks() && !busy {
                return;
            }
            let left = deadline.remaining();
            let wait = if runtime.has_ready() { Wait::No } else { Wait::For(left) };
            if left.is_zero() || runtime.turn(wait, false).is_err() {
                return;
            }
        }
    }

    /// Runs the context until it is [stopped](Handle::stop), and calls `tick` after each batch of
    /// completions.
    ///
    /// If it was stopped before, this polls the tasks that are ready and returns at once. While
    /// there is nothing to do the thread sleeps in the kernel. Tasks and operations that are not
    /// done stay as they are, and go on with the next run.
    ///
    /// # Errors
    /// The error of the system call that waits, if the kernel refuses to run the ring.
    ///
    /// # Panics
    /// If a context is running on this thread.
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
        let _running = this.set_running();
        loop {
            this.runtime.run_ready();
            if this.runtime.remote.take_stop() {
                return Ok(());
            }
            this.runtime.turn(Wait::Forever, true)?;
            tick(this);
        }
    }

    /// Runs one turn of the loop, and returns the number of operations that have completed.
    ///
    /// It polls the tasks that are ready, waits at most `timeout` (`None`: without limit) for a
    /// completion, a timer or a wake-up, and polls the tasks that are ready then. It does not wait
    /// while a [`stop`](Handle::stop) is requested, which still ends the next [`run`](Self::run).
    ///
    /// # Errors
    /// The error of the system call that waits, if the kernel refuses to run the ring.
    ///
    /// # Panics
    /// If a context is running on this thread.
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
        let _running = self.set_running();
        let before = runtime.stats.completed();
        runtime.run_ready();
        let wait = match timeout {
            None => Wait::Forever,
            Some(Duration::ZERO) => Wait::No,
            Some(timeout) => Wait::For(timeout),
        };
        runtime.turn(wait, true)?;
        runtime.run_ready();
        Ok(runtime.stats.completed() - before)
    }

    /// Returns a handle by which other threads reach this context.
    ///
    /// # Examples
    /// See [`Handle`].
    pub fn handle(&self) -> Handle {
        Handle::new(self.runtime.remote.clone())
    }

    /// Makes the current [`run`](Self::run) return, or else the next one. See [`Handle::stop`].
    ///
    /// # Examples
    /// ```
    /// let mut context = corio::IoContext::new(8)?;
    /// context.stop();
    /// context.run(|_| {})?; // polls what is ready, and returns
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stop(&self) {
        self.runtime.remote.stop();
    }

    /// Returns `true` if the context is being run: within tasks and `tick`.
    ///
    /// # Examples
    /// ```
    /// let context = corio::IoContext::new(8)?;
    /// assert!(!context.is_running());
    /// # Ok::<(), corio::SetupError>(())
    /// ```
    pub fn is_running(&self) -> bool {
        self.runtime.remote.is_running()
    }

    /// Cancels every operation that is in flight, and returns how many there were. Each ends with
    /// `ECANCELED`, or with its result if it completes first. New operations may start as before.
    /// [Whole transfers](crate::op::AsyncSendAll) that wait for others on their handle are not in
    /// flight, but end with `ECANCELED` too, when it is their turn.
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

    /// Returns the context's statistics so far.
    ///
    /// # Examples
    /// See [`Stats`].
    #[doc(alias = "metrics")]
    pub fn stats(&self) -> Stats {
        self.runtime.snapshot()
    }

    /// Returns the operations in flight, oldest first. Within a task, call
    /// [`corio::in_flight`](crate::in_flight).
    ///
    /// # Examples
    /// ```
    /// let mut context = corio::IoContext::new(8)?;
    /// context.block_on(corio::yield_now());
    /// assert!(context.in_flight().is_empty());
    /// # Ok::<(), corio::SetupError>(())
    /// ```
    #[doc(alias = "pending")]
    pub fn in_flight(&self) -> Vec<InFlight> {
        self.runtime.list_in_flight()
    }

    /// Returns the name of the driver: `io_uring` or `readiness`.
    ///
    /// # Examples
    /// See [`Builder::driver`].
    pub fn driver_name(&self) -> &'static str {
        self.runtime.driver(|driver| driver.name())
    }

    /// Returns why this context does not use io_uring, if the driver was chosen
    /// [automatically](crate::DriverChoice).
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

    /// Returns what the kernel granted: the set-up flags by their names in `io_uring_setup(2)`, or
    /// the name of the selector (`epoll`, `kqueue`). `PBUF_RING_INC` is added by the first [receive
    /// stream](crate::op::RecvStream), if the kernel supports it (Linux 6.12).
    ///
    /// # Examples
    /// ```
    /// let context = corio::IoContext::new(8)?;
    /// println!("{}: {}", context.driver_name(), context.setup_flags().join(" "));
    /// # Ok::<(), corio::SetupError>(())
    /// ```
    pub fn setup_flags(&self) -> Vec<&'static str> {
        self.runtime.driver(|driver| driver.setup().flags)
    }

    /// Returns the sizes of the submission and the completion queue, in entries, as the kernel
    /// granted them.
    ///
    /// # Examples
    /// See [`Builder`].
    pub fn queue_sizes(&self) -> (u32, u32) {
        self.runtime.driver(|driver| driver.setup().queue_sizes)
    }

    /// Returns the ring's file descriptor, which the context keeps; `None` if the driver has no
    /// ring. It is meant for inspection, such as `/proc/self/fdinfo`.
    ///
    /// # Examples
    /// ```
    /// let context = corio::IoContext::new(8)?;
    /// assert_eq!(context.ring_fd().is_some(), context.driver_name() == "io_uring");
    /// # Ok::<(), corio::SetupError>(())
    /// ```
    pub fn ring_fd(&self) -> Option<RawFd> {
        self.runtime.driver(|driver| driver.setup().queue_fd)
    }
}

/// A guard that marks a context as being run until dropped.
pub(crate) struct Running<'a>(&'a Runtime);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.remote.set_running(false);
    }
}

/// The end of a grace period; `None` if it lies beyond what `Instant` can represent: never.
#[derive(Clone, Copy)]
struct Deadline(Option<Instant>);

impl Deadline {
    fn after(period: Duration) -> Self {
        Deadline(clock::now().checked_add(period))
    }

    fn remaining(self) -> Duration {
        self.0.map_or(Duration::MAX, |end| end.saturating_duration_since(clock::now()))
    }
}

impl IoContext {
    /// Waits until no operation is in flight. Returns `false` if some are at the deadline.
    fn drain(&self, deadline: Deadline) -> bool {
        let runtime = &**self.runtime;
        loop {
            let busy = runtime.in_flight() + runtime.driver(|driver| driver.closing());
            let left = deadline.remaining();
            if busy == 0 || left.is_zero() || runtime.reap(Wait::For(left)).is_err() {
                return busy == 0;
            }
        }
    }
}

/// A guard that allows another context on this thread when dropped.
struct ReleaseThread;

impl Drop for ReleaseThread {
    fn drop(&mut self) {
        OWNER.set(None);
        #[cfg(unix)]
        fork::clear();
    }
}

impl Drop for IoContext {
    fn drop(&mut self) {
        // Also if a foreign waker's destructor panics below; the runtime is leaked then.
        let _release_thread = ReleaseThread;
        let deadline = Deadline::after(self.grace_period);
        let entered = self.runtime.enter();
        self.runtime.set_closing();
        self.runtime.remote.close_attachments();
        self.runtime.root.cancel_at_end();
        if !self.drain(deadline) {
            eprintln!(
                "corio: a context was dropped, but the kernel did not let go of {} operations and \
                 {} closes within {:?}; they are leaked with their tasks:",
                self.runtime.in_flight(),
                self.runtime.driver(|driver| driver.closing()),
                self.grace_period
            );
            for operation in self.runtime.list_in_flight() {
                eprintln!("  {operation}");
            }
            self.runtime.give_up();
            drop(entered);
            return;
        }
        // Destructors of tasks and foreign wakers may start new tasks and timers: until none is
        // left.
        loop {
            self.runtime.end_tasks();
            // Waits for the closes of files that the tasks owned.
            self.drain(deadline);
            self.runtime.discard_queues();
            if self.runtime.is_unreferenced() {
                break;
            }
        }
        drop(entered);
        // SAFETY: not used again. Nothing refers to the runtime any more: no operation is in
        // flight, all tasks are done, and scopes and timers were detached.
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

/// Returns the operations in flight in the running context, oldest first.
///
/// # Panics
/// If no context is running on this thread.
///
/// # Examples
/// See [`InFlight`].
#[doc(alias = "pending")]
#[track_caller]
pub fn in_flight() -> Vec<InFlight> {
    Runtime::with(Runtime::list_in_flight)
}

/// Returns the running context's statistics so far.
///
/// # Panics
/// If no context is running on this thread.
///
/// # Examples
/// ```
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// println!("{}", corio::stats());
/// # });
/// # Ok::<(), corio::SetupError>(())
/// ```
#[doc(alias = "metrics")]
#[track_caller]
pub fn stats() -> Stats {
    Runtime::with(Runtime::snapshot)
}

/// Returns a handle to the running context, for other threads.
///
/// # Panics
/// If no context is running on this thread.
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
#[doc(alias = "current")]
#[track_caller]
pub fn handle() -> Handle {
    Runtime::with(|runtime| Handle::new(runtime.remote.clone()))
}

/// Returns a handle to the running context, as [`handle`] does, or `None` if no context is running
/// on this thread.
///
/// # Examples
/// ```
/// assert!(corio::try_handle().is_none());
/// let mut context = corio::IoContext::new(8)?;
/// assert!(context.block_on(async { corio::try_handle() }).is_some());
/// # Ok::<(), corio::SetupError>(())
/// ```
#[doc(alias = "try_current")]
pub fn try_handle() -> Option<Handle> {
    Runtime::try_with(|runtime| runtime.map(|runtime| Handle::new(runtime.remote.clone())))
}
