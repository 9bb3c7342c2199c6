//! The settings of a context.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use super::IoContext;
use crate::driver::{DriverChoice, Settings, SetupError};
use crate::runtime::stall::{Report, Stall};
use crate::runtime::{DropPolicy, RuntimeConfig};

/// Configures an [`IoContext`]. Every setting has a default.
///
/// # Examples
/// ```
/// use corio::{DropPolicy, IoContext};
/// let context = IoContext::builder()
///     .entries(1024)
///     .completion_entries(8192)
///     .drop_policy(DropPolicy::CancelAndWait)
///     .build()?;
/// assert_eq!(context.queue_sizes(), (1024, 8192));
/// # Ok::<(), corio::SetupError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct Builder {
    pub(super) settings: Settings,
    drop_policy: DropPolicy,
    task_budget: usize,
    pub(super) grace_period: Duration,
    busy_poll: Duration,
    stalls: Option<Stalls>,
    complete_inline: bool,
}

/// The threshold and the callback of the stall watchdog.
#[derive(Clone)]
struct Stalls(Duration, Report);

impl fmt::Debug for Stalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Builder {
    pub(super) fn new() -> Self {
        Builder {
            settings: Settings::new(256),
            drop_policy: DropPolicy::default(),
            task_budget: 256,
            grace_period: Duration::from_secs(5),
            busy_poll: Duration::ZERO,
            stalls: None,
            complete_inline: true,
        }
    }

    /// Sets the driver that carries out operations; default [`DriverChoice::Auto`].
    ///
    /// If this is not called, the environment variable `CORIO_DRIVER` (`auto`, `uring` or
    /// `readiness`) chooses the driver.
    ///
    /// # Examples
    /// ```
    /// use corio::{DriverChoice, IoContext};
    /// let context = IoContext::builder().driver(DriverChoice::Readiness).build()?;
    /// assert_eq!(context.driver_name(), "readiness");
    /// # Ok::<(), corio::SetupError>(())
    /// ```
    pub fn driver(mut self, choice: DriverChoice) -> Self {
        self.settings.choice = Some(choice);
        self
    }

    /// Sets how many threads at most carry out calls that block, such as those on files where there
    /// is no io_uring; default 8, at least 1.
    ///
    /// They are started when needed, and end with the context. Work given to
    /// [`spawn_blocking`](crate::spawn_blocking()) runs in a pool of its own.
    ///
    /// # Examples
    /// ```
    /// let context = corio::IoContext::builder().blocking_threads(2).build()?;
    /// # Ok::<(), corio::SetupError>(())
    /// ```
    #[doc(alias = "max_blocking_threads")]
    pub fn blocking_threads(mut self, threads: usize) -> Self {
        self.settings.blocking_threads = threads.max(1);
        self
    }

    /// Sets how much memory the kernel may fill for [receive streams](crate::op::RecvStream), in
    /// bytes; default 256 MiB, at least 64 KiB, at most 2 GiB.
    ///
    /// The first receive stream allocates 1 MiB. This is doubled whenever it is exhausted, up to
    /// the limit, and kept until the context is dropped. While all of it is in use, streams receive
    /// by ordinary system calls into memory that is not limited. Linux 6.12.
    ///
    /// # Examples
    /// ```
    /// let context = corio::IoContext::builder().receive_memory(16 << 20).build()?;
    /// # Ok::<(), corio::SetupError>(())
    /// ```
    pub fn receive_memory(mut self, bytes: usize) -> Self {
        self.settings.receive_memory = bytes;
        self
    }

    /// Makes the ring refuse an operation (`IORING_OP_*`), as a sandbox may; for tests. Linux 5.10.
    #[doc(hidden)]
    pub fn refuse_opcode(mut self, opcode: u8) -> Self {
        self.settings.refused_opcodes.push(opcode);
        self
    }

    /// Sets the number of submission queue entries: how many operations one system call can submit;
    /// 1 to 32,768, rounded up to a power of two; default 256.
    ///
    /// More operations may be in flight: a full queue is submitted early, and nothing fails. An
    /// entry takes 64 bytes.
    ///
    /// # Examples
    /// See [`Builder`].
    pub fn entries(mut self, entries: u32) -> Self {
        self.settings.entries = entries;
        self
    }

    /// Sets the number of completion queue entries: how many completions the kernel can report at
    /// once. At least as many as submission entries, at most 65,536, rounded up to a power of two;
    /// default four times the submission entries, at least 1,024.
    ///
    /// Further completions go to a list in the kernel, which is slower; none is lost. An entry
    /// takes 16 bytes. Linux 5.5 (`IORING_SETUP_CQSIZE`).
    ///
    /// # Examples
    /// See [`Builder`].
    pub fn completion_entries(mut self, entries: u32) -> Self {
        self.settings.cq_entries = Some(entries);
        self
    }

    /// Sets what happens when an operation is dropped in flight; default [`DropPolicy::Abort`].
    ///
    /// # Examples
    /// See [`DropPolicy`].
    pub fn drop_policy(mut self, policy: DropPolicy) -> Self {
        self.drop_policy = policy;
        self
    }

    /// Sets how many tasks are polled at most before the loop checks for completions, so that busy
    /// tasks don't starve I/O; default 256, at least 1.
    ///
    /// Polls in which operations complete inline end this earlier: after 512 such operations,
    /// 4 MiB, or half a millisecond.
    ///
    /// # Examples
    /// ```
    /// let context = corio::IoContext::builder().task_budget(64).build()?;
    /// # Ok::<(), corio::SetupError>(())
    /// ```
    #[doc(alias = "event_interval")]
    pub fn task_budget(mut self, polls: usize) -> Self {
        self.task_budget = polls.max(1);
        self
    }

    /// Sets how long to busy-poll for completions and wake-ups before blocking; default zero: not
    /// at all.
    ///
    /// The time adapts: an attempt that finds nothing halves the next, down to 1/64, and one that
    /// finds something doubles it again.
    ///
    /// Busy-polling saves the time of falling asleep and waking up, some microseconds per wait, and
    /// keeps a processor busy: `docs/performance.md` has figures for both. With io_uring it makes
    /// no system call.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// let context = corio::IoContext::builder().busy_poll(Duration::from_micros(50)).build()?;
    /// # Ok::<(), corio::SetupError>(())
    /// ```
    pub fn busy_poll(mut self, limit: Duration) -> Self {
        self.busy_poll = limit;
        self
    }

    /// Sets whether operations may complete within their first poll, as those do that need not
    /// wait, such as a read of a cached file; default `true`.
    ///
    /// With `false` every operation that makes a system call is in flight until the next turn of
    /// the loop: for tests of code that may drop futures in flight, which otherwise goes
    /// unnoticed while files are cached ([`docs::dropping`](crate::docs::dropping)). What makes no
    /// call, such as a transfer of nothing, still ends at once. It costs time.
    ///
    /// # Examples
    /// ```
    /// use futures_util::poll;
    /// let mut context = corio::IoContext::builder().complete_inline(false).build()?;
    /// context.block_on(async {
    ///     let file = corio::fs::File::open("Cargo.toml").await?;
    ///     let mut read = Box::pin(file.read_at(vec![0; 9], 0));
    ///     assert!(poll!(read.as_mut()).is_pending()); // dropped here, it would abort
    ///     assert_eq!(read.await.1, b"[package]");
    ///     Ok::<_, std::io::Error>(())
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn complete_inline(mut self, inline: bool) -> Self {
        self.complete_inline = inline;
        self
    }

    /// Starts a watchdog that calls `report` when a task holds the thread for longer than
    /// `threshold` in one poll; by default there is none.
    ///
    /// `report` is called on the watchdog's own thread, once per poll, while the task still holds
    /// the thread. The watchdog checks four times per threshold, so it may report up to 25 % late.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// let context = corio::IoContext::builder()
    ///     .watch_stalls(Duration::from_millis(100), |stall| eprintln!("{stall}"))
    ///     .build()?;
    /// # Ok::<(), corio::SetupError>(())
    /// ```
    pub fn watch_stalls(
        mut self,
        threshold: Duration,
        report: impl Fn(&Stall) + Send + Sync + 'static,
    ) -> Self {
        self.stalls = Some(Stalls(threshold, Arc::new(report)));
        self
    }

    pub(super) fn runtime_config(&self) -> RuntimeConfig {
        RuntimeConfig {
            drop_policy: self.drop_policy,
            task_budget: self.task_budget,
            busy_poll: self.busy_poll,
            completes_inline: self.complete_inline,
            stalls: self.stalls.as_ref().map(|stalls| (stalls.0, stalls.1.clone())),
        }
    }

    /// Sets how long [`block_on`](IoContext::block_on) and the context's destructor wait at most
    /// for cancelled operations to end; default 5 s. [`Duration::MAX`] means without limit.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// let context =
    ///     corio::IoContext::builder().grace_period(Duration::from_secs(1)).build()?;
    /// # Ok::<(), corio::SetupError>(())
    /// ```
    pub fn grace_period(mut self, period: Duration) -> Self {
        self.grace_period = period;
        self
    }

    /// Creates the context, on this thread and for this thread.
    ///
    /// # Errors
    /// [`SetupError`] if a size is out of range, memory or file descriptors are exhausted, there is
    /// a context on this thread already, or the driver that was chosen is missing or forbidden.
    ///
    /// # Examples
    /// See [`Builder`].
    #[track_caller]
    pub fn build(&self) -> Result<IoContext, SetupError> {
        IoContext::build(self, Location::caller())
    }
}
