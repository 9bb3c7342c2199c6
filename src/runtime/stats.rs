//! Counters of one context. They are plain cells: one thread counts, the same thread reads.

use std::cell::Cell;
use std::fmt;

use crate::driver::OpCode;

#[derive(Default)]
pub(crate) struct Counter(Cell<u64>);

impl Counter {
    #[inline(always)]
    pub(crate) fn add(&self, n: u64) {
        self.0.set(self.0.get().wrapping_add(n));
    }

    fn get(&self) -> u64 {
        self.0.get()
    }
}

const CODES: usize = OpCode::ALL.len();

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
}

/// What one context has done so far: a snapshot, taken without a lock.
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
    /// Operations submitted and not ended yet.
    pub in_flight: u64,
    /// How often a task was polled.
    pub polls: u64,
    /// Turns of the loop.
    pub turns: u64,
    /// System calls the driver made.
    pub syscalls: u64,
    /// Tasks woken from other threads.
    pub remote_wakes: u64,
    /// Timers that fired.
    pub timers_fired: u64,
    /// Tasks spawned.
    pub tasks_spawned: u64,
}

/// The counts of one kind of operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OperationStats {
    /// Handed to the driver.
    pub submitted: u64,
    /// Ended, with or without an error. At rest equal to `submitted`.
    pub completed: u64,
    /// Ended with an error, a cancellation included.
    pub failed: u64,
}

fn sum(counters: &[Counter]) -> u64 {
    counters.iter().fold(0, |sum, counter| sum.wrapping_add(counter.get()))
}

impl Counters {
    /// How many operations have ended.
    pub(crate) fn ended(&self) -> u64 {
        sum(&self.completed)
    }

    /// How many were submitted and have not ended.
    pub(crate) fn in_flight(&self) -> usize {
        sum(&self.submitted).wrapping_sub(self.ended()) as usize
    }

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
        }
    }
}

impl Stats {
    /// The counts of one kind of operation.
    pub fn of(&self, code: OpCode) -> OperationStats {
        self.per_operation[code as usize]
    }

    /// The counts of all kinds together.
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
