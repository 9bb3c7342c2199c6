//! Everything about a context that can be chosen.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use super::IoContext;
use crate::driver::{DriverChoice, Settings, SetupError};
use crate::runtime::stall::{Report, Stall};
use crate::runtime::{DropPolicy, RuntimeConfig};

/// Configures an [`IoContext`]. Each knob has a good default.
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
}

/// How long a poll may take, and who is told.
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
        }
    }

    /// Which driver carries operations out; default [`DriverChoice::Auto`]. Whoever runs the program
    /// may choose by the environment variable `CORIO_DRIVER` (`auto`, `uring` or `readiness`) as long
    /// as this is not called.
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

    /// The most threads that carry out calls which block, such as those on files where there is no
    /// io_uring; default 8, at least 1. They are started only when needed, and end with the context.
    pub fn blocking_threads(mut self, threads: usize) -> Self {
        self.settings.blocking_threads = threads.max(1);
        self
    }

    /// The most memory, in bytes, into which the kernel may receive [chunks](crate::op::RecvStream) by itself; default
    /// 256 MiB, at least 64 KiB, at most 2 GiB. The first chunk takes 1 MiB, which is doubled whenever it does
    /// not suffice, and kept until the context ends. While all of it is in use, chunks are received by
    /// calls, into other memory, of which there is as much as is asked for. Kernel 6.12.
    pub fn receive_memory(mut self, bytes: usize) -> Self {
        self.settings.receive_memory = bytes;
        self
    }

    /// Submission queue entries: how many operations one system call can submit. More may be in
    /// flight, and a full queue is submitted early; nothing fails. 1 to 32,768, rounded up to a
    /// power of two; default 256. 64 bytes each. Any kernel.
    pub fn entries(mut self, entries: u32) -> Self {
        self.settings.entries = entries;
        self
    }

    /// Completion queue entries: how many ends of operations the kernel can report at once before
    /// it has to keep a list of its own, which is slower but loses nothing. At least as many as
    /// submission entries, at most 65,536, rounded up to a power of two; default four times the
    /// submission entries, at least 1,024. 16 bytes each. Kernel 5.5 (`IORING_SETUP_CQSIZE`).
    pub fn completion_entries(mut self, entries: u32) -> Self {
        self.settings.cq_entries = Some(entries);
        self
    }

    /// What happens when an operation is dropped in flight; default [`DropPolicy::Abort`].
    pub fn drop_policy(mut self, policy: DropPolicy) -> Self {
        self.drop_policy = policy;
        self
    }

    /// The most task polls between two looks at the ring, so that busy tasks don't starve I/O;
    /// default 256, at least 1.
    pub fn task_budget(mut self, polls: usize) -> Self {
        self.task_budget = polls.max(1);
        self
    }

    /// For how long to look for news, without sleeping, before the thread waits in the kernel; default zero:
    /// not at all. It adapts: a look in vain halves the next, down to 1/64, and one that finds something
    /// doubles it again.
    ///
    /// That saves the time of falling asleep and waking up, some microseconds per wait, and costs a
    /// processor: `docs/performance.md` has both. On io_uring looking takes no system call.
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

    /// Calls `report` with each task that holds the thread for longer than `threshold` in one poll; default:
    /// nobody watches. It is called on a thread of its own, which looks four times per threshold, while the
    /// task is still at it; once per poll.
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
            stalls: self.stalls.as_ref().map(|stalls| (stalls.0, stalls.1.clone())),
        }
    }

    /// How long [`block_on`](IoContext::block_on) and the context's destructor wait for
    /// the kernel to let go of cancelled operations; default 5 s.
    pub fn grace_period(mut self, period: Duration) -> Self {
        self.grace_period = period;
        self
    }

    /// Makes the context, on this thread and for this thread.
    ///
    /// # Errors
    /// See [`SetupError`].
    #[track_caller]
    pub fn build(&self) -> Result<IoContext, SetupError> {
        IoContext::build(self, Location::caller())
    }
}
