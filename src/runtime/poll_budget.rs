//! The budget of what is ready at once: how much of it one poll of a task may do, and how much the
//! polls of one turn may do, before the loop looks what else has happened.
//!
//! What is counted are units:
//! - one per operation that completes inline, and one more for each 8 KiB of its result;
//! - one per [`AWAITS`] other awaits that are ready without having waited ([`within_budget`]).
//!
//! What the budget does:
//! - A poll ends after [`POLL_BUDGET`] units: operations and awaits are then *refused*, which is to
//!   say pending. The task goes on when no other task is ready: it is queued apart, among the
//!   *spent* tasks, in front of those, as its buffers are in the cache. In each turn another one
//!   joins the ready tasks, so that it makes progress however busy they are.
//! - After [`LOOK_BUDGET`] units of one or more polls, the loop looks at the clock and at what has
//!   completed, which takes no system call. The turn ends if something is due, or after
//!   [`TURN_BUDGET`] units or [`TURN_TIME`].
//!
//! A poll that spends no unit costs one comparison, an await three and a count.
//!
//! Other executors know no budget. On a thread without a context, awaits are refused once after
//! [`IN_A_ROW`] that were ready in a row, so that such an executor gets its turn as well.

// # Why this file has `unsafe`
// It queues the task that is being polled, a raw pointer.

use std::cell::Cell;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

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

/// How many awaits are one unit.
const AWAITS: u32 = 8;

/// How many awaits may be ready in a row on a thread without a context: as many as in one poll.
const IN_A_ROW: u32 = POLL_BUDGET as u32 * AWAITS;

/// How often the task may be refused something in one poll. It gets a new budget after that, as
/// there must be an executor in it that polls again and again instead of yielding, and that is to
/// make progress.
const MOST_REFUSALS: u32 = 4096;

/// For how many refusals one counts if the waker is not the task's own, but such an executor's.
const FOREIGN_REFUSALS: u32 = 64;

thread_local! {
    /// The future that is being polled is [unconstrained](crate::unconstrained).
    static UNCONSTRAINED: Cell<bool> = const { Cell::new(false) };
    /// How many awaits were ready in a row on this thread while no context ran on it.
    static READY_IN_A_ROW: Cell<u32> = const { Cell::new(0) };
}

/// What has been spent, and the tasks that wait for their next budget.
pub(super) struct PollBudget {
    /// How many units the task that is being polled may still spend: [`POLL_BUDGET`] before each
    /// poll, below zero after a long result.
    left: Cell<i32>,
    /// How many awaits and operations were refused since then.
    refused: Cell<u32>,
    /// How many awaits are left of a unit that has been spent. It may be one of an earlier poll.
    awaits: Cell<u32>,
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
            awaits: Cell::new(0),
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

    /// Grants no budget for the operations of the next poll; awaits have theirs below zero.
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

/// Polls an await that may be ready without having waited, within the budget of the task that is
/// being polled. All awaits of this crate do, except for operations, which count for more.
///
/// One that is known to have waited need not be: the poll in which it began to wait has ended. One
/// that may have been granted something must not be: it would keep that from others.
#[inline(always)]
pub(crate) fn within_budget<T>(
    cx: &mut Context<'_>,
    poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
) -> Poll<T> {
    Runtime::try_with(|runtime| {
        let Some(runtime) = runtime else { return poll_in_a_row(cx, poll) };
        if runtime.refuses_await(cx.waker()) {
            return Poll::Pending;
        }
        let polled = poll(cx);
        if polled.is_ready() {
            runtime.spend_await();
        }
        polled
    })
}

/// Waits until the task may go on, and counts as an await. For what may be ready without awaiting
/// anything that does.
pub(crate) async fn consume_budget() {
    poll_fn(|cx| within_budget(cx, |_| Poll::Ready(()))).await;
}

/// Polls an await on a thread without a context.
fn poll_in_a_row<T>(
    cx: &mut Context<'_>,
    poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
) -> Poll<T> {
    // The threads of a model are one, and each of its executions has to be the same.
    if cfg!(loom) || UNCONSTRAINED.get() {
        return poll(cx);
    }
    if READY_IN_A_ROW.get() >= IN_A_ROW {
        READY_IN_A_ROW.set(0);
        cx.waker().wake_by_ref();
        return Poll::Pending;
    }
    let polled = poll(cx);
    READY_IN_A_ROW.set(if polled.is_ready() { READY_IN_A_ROW.get() + 1 } else { 0 });
    polled
}

/// A guard that lifts the budgets of this thread until dropped.
pub(crate) struct Unconstrained {
    before: bool,
}

impl Unconstrained {
    pub(crate) fn begin() -> Self {
        Unconstrained { before: UNCONSTRAINED.replace(true) }
    }
}

impl Drop for Unconstrained {
    fn drop(&mut self) {
        UNCONSTRAINED.set(self.before);
    }
}

impl Runtime {
    /// Returns `true` if the task that is being polled, with `waker`, may start an operation; if
    /// not, it has to [yield](Self::yield_spent) first.
    #[inline(always)]
    pub(crate) fn may_start_operation(&self, waker: &Waker) -> bool {
        self.poll_budget.left.get() > 0 || self.overdraws_by_operation(waker)
    }

    #[cold]
    fn overdraws_by_operation(&self, waker: &Waker) -> bool {
        self.completes_inline() && self.overdraws_poll_budget(waker)
    }

    /// Returns `true` if an await that is polled with `waker` is refused: its task is polled again.
    #[inline(always)]
    fn refuses_await(&self, waker: &Waker) -> bool {
        self.poll_budget.left.get() <= 0 && self.must_yield(waker)
    }

    #[cold]
    fn must_yield(&self, waker: &Waker) -> bool {
        let must_yield = self.is_spent() && !self.overdraws_poll_budget(waker);
        if must_yield {
            self.yield_spent(waker);
        }
        must_yield
    }

    /// Has the task yield before an operation that ends without a system call.
    pub(crate) fn yield_before_end(&self, waker: &Waker) {
        // Counts the refusal; if that renews the budget, the next poll finds it.
        self.overdraws_poll_budget(waker);
        self.yield_spent(waker);
    }

    /// Returns `true` if the task that is being polled has spent its budget. One that has none for
    /// operations still has one for awaits.
    pub(crate) fn is_spent(&self) -> bool {
        let least = if self.completes_inline() { 0 } else { -POLL_BUDGET };
        self.poll_budget.left.get() <= least && self.is_constrained()
    }

    /// Returns `true` if there is a budget. Outside of tasks nothing else would renew it.
    fn is_constrained(&self) -> bool {
        !self.current_task.get().is_null() && !UNCONSTRAINED.get()
    }

    /// Returns `true` if the task, whose budget is spent, may go on all the same, with a new one.
    fn overdraws_poll_budget(&self, waker: &Waker) -> bool {
        let budget = &self.poll_budget;
        if self.is_constrained() {
            let own = is_for(waker, self.current_task.get());
            let refusals = if own { 1 } else { FOREIGN_REFUSALS };
            budget.refused.set(budget.refused.get() + refusals);
            if budget.refused.get() <= MOST_REFUSALS {
                return false;
            }
        }
        budget.renew();
        if !self.completes_inline() {
            budget.withhold();
        }
        true
    }

    /// Returns `true` if something was refused in this poll.
    pub(super) fn has_refused(&self) -> bool {
        self.poll_budget.refused.get() > 0
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

    /// Counts an await that was ready without having waited.
    #[inline(always)]
    fn spend_await(&self) {
        let awaits = &self.poll_budget.awaits;
        match awaits.get().checked_sub(1) {
            Some(left) => awaits.set(left),
            None => {
                awaits.set(AWAITS - 1);
                self.spend_poll_budget(0);
            }
        }
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
