//! The statistics of one context. Its counters are plain cells: the same thread counts and reads.

use std::cell::Cell;
use std::fmt;

use crate::driver::OpCode;

/// A counter that wraps.
#[derive(Default)]
pub(crate) struct Counter(Cell<u64>);

impl Counter {
    #[inline(always)]
    pub(crate) fn add(&self, n: u64) {
        self.0.set(self.0.get().wrapping_add(n));
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.get()
    }
}

const CODES: usize = OpCode::ALL.len();

/// The counters of one context.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) submitted: [Counter; CODES],
    pub(crate) completed: [Counter; CODES],
    pub(crate) failed: [Counter; CODES],
    pub(crate) polls: Counter,
    pub(crate) turns: Counter,
    pub(crate) remote_wakes: Counter,
    pub(crate) timers_fired: Counter,
    pub(crate) tasks_spawned: Counter,
    pub(crate) linger_resets: Counter,
}

/// The statistics of one context: a snapshot, taken without a lock by
/// [`IoContext::stats`](crate::IoContext::stats) or [`corio::stats`](crate::stats()).
///
/// `Display` prints a table of all kinds of operations that were used.
///
/// # Examples
/// ```
/// use corio::{IoContext, OpCode};
/// let mut context = IoContext::new(8)?;
/// context.block_on(async { corio::op::AsyncNop::new().await })?;
/// let stats = context.stats();
/// assert_eq!(stats.of(OpCode::Nop).completed, 1);
/// assert_eq!(stats.in_flight, 0);
/// println!("{stats}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    per_operation: [OperationStats; CODES],
    /// Operations that were submitted and have not completed yet.
    pub in_flight: u64,
    /// Polls of tasks.
    pub polls: u64,
    /// Turns of the loop.
    pub turns: u64,
    /// System calls that the driver has made.
    pub syscalls: u64,
    /// Wake-ups of tasks by other threads.
    pub remote_wakes: u64,
    /// Timers that have fired.
    pub timers_fired: u64,
    /// Tasks that were spawned.
    pub tasks_spawned: u64,
    /// Connections that were reset because their peers did not take what a dropped
    /// [`SendQueue`](crate::net::SendQueue) still had to send.
    pub linger_resets: u64,
}

/// The counts of one kind of operation, or of all.
///
/// # Examples
/// ```
/// use corio::{IoContext, OpCode};
/// let mut context = IoContext::new(8)?;
/// context.block_on(async { corio::op::AsyncNop::new().await })?;
/// let nops = context.stats().of(OpCode::Nop);
/// assert_eq!((nops.submitted, nops.completed, nops.failed), (1, 1, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OperationStats {
    /// Submitted to the driver.
    pub submitted: u64,
    /// Completed, with or without an error. Equal to `submitted` while nothing is in flight.
    pub completed: u64,
    /// Completed with an error; a cancellation is one.
    pub failed: u64,
}

fn sum(counters: &[Counter]) -> u64 {
    counters.iter().fold(0, |sum, counter| sum.wrapping_add(counter.get()))
}

impl Counters {
    /// Returns how many operations have completed.
    pub(crate) fn completed(&self) -> u64 {
        sum(&self.completed)
    }

    /// Returns how many operations were submitted and have not completed.
    pub(crate) fn in_flight(&self) -> usize {
        sum(&self.submitted).wrapping_sub(self.completed()) as usize
    }

    /// Returns the statistics, with the driver's number of system calls.
    pub(crate) fn snapshot(&self, syscalls: u64) -> Stats {
        Stats {
            per_operation: std::array::from_fn(|i| OperationStats {
                submitted: self.submitted[i].get(),
                completed: self.completed[i].get(),
                failed: self.failed[i].get(),
            }),
            in_flight: self.in_flight() as u64,
            polls: self.polls.get(),
            turns: self.turns.get(),
            syscalls,
            remote_wakes: self.remote_wakes.get(),
            timers_fired: self.timers_fired.get(),
            tasks_spawned: self.tasks_spawned.get(),
            linger_resets: self.linger_resets.get(),
        }
    }
}

impl Stats {
    /// Returns the counts of one kind of operation.
    ///
    /// # Examples
    /// See [`OperationStats`].
    pub fn of(&self, code: OpCode) -> OperationStats {
        self.per_operation[code as usize]
    }

    /// Returns the counts of all kinds of operations together.
    ///
    /// # Examples
    /// ```
    /// let mut context = corio::IoContext::new(8)?;
    /// context.block_on(async { corio::op::AsyncNop::new().await })?;
    /// assert_eq!(context.stats().total().completed, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn total(&self) -> OperationStats {
        self.per_operation.iter().fold(OperationStats::default(), |sum, one| OperationStats {
            submitted: sum.submitted + one.submitted,
            completed: sum.completed + one.completed,
            failed: sum.failed + one.failed,
        })
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<12}{:>12}{:>12}{:>12}", "operation", "submitted", "completed", "failed")?;
        for &code in OpCode::ALL {
            let one = self.of(code);
            if one.submitted > 0 {
                let OperationStats { submitted, completed, failed } = one;
                writeln!(f, "{code:<12}{submitted:>12}{completed:>12}{failed:>12}")?;
            }
        }
        write!(
            f,
            "in flight {}, polls {}, turns {}, system calls {}, remote wakes {}, timers fired {}, \
             tasks spawned {}",
            self.in_flight,
            self.polls,
            self.turns,
            self.syscalls,
            self.remote_wakes,
            self.timers_fired,
            self.tasks_spawned
        )
    }
}
