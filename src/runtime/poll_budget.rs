//! The budgets of operations that complete inline: how many of them one poll of a task may make,
//! and how many the polls of one turn may make, before the loop looks what else has happened.
//!
//! What is counted are units: one per operation, and one more for each 8 KiB of its result.
//!
//! - A poll ends after [`POLL_BUDGET`] units. The task goes on when no other task is ready: it is
//!   queued apart, among the *spent* tasks, in front of those, as its buffers are in the cache. In
//!   each turn another one joins the ready tasks, so that it makes progress however busy they are.
//! - After [`LOOK_BUDGET`] units of one or more polls, the loop looks at the clock and at what has
//!   completed, which takes no system call. The turn ends if something is due, or after
//!   [`TURN_BUDGET`] units or [`TURN_TIME`].
//!
//! A poll in which no operation completes inline costs one comparison.

// # Why this file has `unsafe`
// It queues the task that is being polled, a raw pointer.

use std::cell::Cell;
use std::task::Waker;

use super::Runtime;
use super::ready_queue::ReadyQueue;
use super::waker::is_for;
use crate::driver::Driver;

/// How many units one poll of a task may spend: 64 operations, or 512 KiB.
const POLL_BUDGET: i32 = 64;

/// How many units are spent between two looks.
const LOOK_BUDGET: i64 = 64;

/// How many units the polls of one turn may spend: 512 operations, or 4 MiB.
const TURN_BUDGET: i64 = 512;

/// For how long a turn goes on after its first look, in nanoseconds: half a millisecond.
const TURN_TIME: u64 = 500_000;

/// How many bytes of a result are one unit, as a power of two: 8 KiB.
const UNIT: u32 = 13;

/// What has been spent, and the tasks that wait for their next budget.
pub(super) struct PollBudget {
    /// How many units the task that is being polled may still spend: [`POLL_BUDGET`] before each
    /// poll, below zero after a long result.
    left: Cell<i32>,
    /// How many operations were refused since then.
    refused: Cell<i32>,
    /// The units of earlier polls since the last look.
    unseen: Cell<i64>,
    looks: Cell<Looks>,
    /// The spent tasks.
    pub(super) tasks: ReadyQueue,
}

/// The looks of one turn.
#[derive(Clone, Copy)]
struct Looks {
    /// The number of the turn.
    turn: u64,
    /// The time of the first look, in nanoseconds.
    began: u64,
    /// The units spent before the last look.
    spent: i64,
}

impl PollBudget {
    pub(super) const fn new() -> Self {
        PollBudget {
            left: Cell::new(POLL_BUDGET),
            refused: Cell::new(0),
            unseen: Cell::new(0),
            looks: Cell::new(Looks { turn: 0, began: 0, spent: 0 }),
            tasks: ReadyQueue::new(),
        }
    }

    /// Returns `true` if the poll that has just ended, or the one at hand, has spent something.
    #[inline(always)]
    pub(super) fn is_touched(&self) -> bool {
        self.left.get() != POLL_BUDGET
    }

    /// Grants no budget for the next poll.
    pub(super) fn withhold(&self) {
        self.left.set(0);
    }

    /// Grants a new budget.
    fn renew(&self) {
        let spent = i64::from(POLL_BUDGET) - i64::from(self.left.replace(POLL_BUDGET));
        self.unseen.set(self.unseen.get() + spent);
        self.refused.set(0);
    }
}

impl Runtime {
    /// Returns `true` if the task that is being polled may start an operation; if not, it has to
    /// [yield](Self::yield_spent) first.
    #[inline(always)]
    pub(crate) fn has_poll_budget(&self) -> bool {
        self.poll_budget.left.get() > 0 || self.overdraws_poll_budget()
    }

    /// Returns `true` if the task may go on although its budget is spent. An executor inside the
    /// task (such as `FuturesUnordered`) may poll its futures again and again instead of yielding:
    /// after `POLL_BUDGET` refused operations it gets a new budget, so that it makes progress.
    #[cold]
    fn overdraws_poll_budget(&self) -> bool {
        if !self.completes_inline() {
            return false;
        }
        let budget = &self.poll_budget;
        budget.refused.set(budget.refused.get() + 1);
        // Outside of tasks there is no budget: nothing else would renew it there.
        if budget.refused.get() <= POLL_BUDGET && !self.current_task.get().is_null() {
            return false;
        }
        budget.renew();
        true
    }

    /// Returns `true` unless operations that end at once are made to take a turn, for tests.
    #[cold]
    pub(crate) fn completes_inline(&self) -> bool {
        self.special.as_ref().is_none_or(|special| special.completes_inline)
    }

    /// Counts an operation that has completed inline with `result`.
    #[inline(always)]
    pub(crate) fn spend_poll_budget(&self, result: i32) {
        let left = &self.poll_budget.left;
        left.set(left.get() - 1 - (result.max(0) >> UNIT));
    }

    /// Has the task that is being polled, with `waker`, polled again when no other task is ready.
    #[cold]
    pub(crate) fn yield_spent(&self, waker: &Waker) {
        let task = self.current_task.get();
        if is_for(waker, task) {
            // SAFETY: the task that is being polled is alive, and of this runtime.
            unsafe { (*task).schedule_in(&self.poll_budget.tasks) };
            self.has_postponed.set(true);
        } else {
            waker.wake_by_ref();
        }
    }

    /// Accounts for a poll that has [spent](PollBudget::is_touched) something. Returns `true` if
    /// the turn has to end.
    #[cold]
    pub(super) fn settle_poll(&self) -> bool {
        self.poll_budget.renew();
        self.poll_budget.unseen.get() >= LOOK_BUDGET && self.look()
    }

    /// Looks what else has happened. Returns `true` if the turn has to end.
    fn look(&self) -> bool {
        let now = self.now();
        let turn = self.stats.turns.get();
        let mut looks = self.poll_budget.looks.get();
        if looks.turn != turn {
            looks = Looks { turn, began: now, spent: 0 };
        }
        looks.spent += self.poll_budget.unseen.take();
        self.poll_budget.looks.set(looks);
        looks.spent >= TURN_BUDGET
            || now - looks.began >= TURN_TIME
            || self.timers.next_deadline().is_some_and(|deadline| deadline <= now)
            || self.remote.has_wakeups()
            || self.driver(|driver| driver.has_ended())
    }
}
