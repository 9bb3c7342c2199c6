//! The poll budget: how many operations of a task may complete inline before other tasks run.

use super::Runtime;

/// How many operations may complete inline in one poll of a task. An operation counts once more for
/// each 64 KiB of its result.
pub(super) const POLL_BUDGET: i32 = 64;

impl Runtime {
    /// Returns `true` if the task that is being polled may start an operation; if not, it has to
    /// yield first.
    #[inline(always)]
    pub(crate) fn has_poll_budget(&self) -> bool {
        self.poll_budget.get() > 0 || self.overdraws_poll_budget()
    }

    /// Returns `true` if the task may go on although its budget is spent. An executor inside the
    /// task (such as `FuturesUnordered`) may poll its futures again and again instead of yielding:
    /// after `POLL_BUDGET` refused operations it gets a new budget, so that it makes progress.
    #[cold]
    fn overdraws_poll_budget(&self) -> bool {
        // Outside of tasks there is no budget: nothing would reset it there.
        if self.current_task.get().is_null() {
            return true;
        }
        let refused = self.poll_budget.get() <= -POLL_BUDGET;
        self.poll_budget.set(if refused { POLL_BUDGET } else { self.poll_budget.get() - 1 });
        refused
    }

    /// Counts an operation that has completed inline with `result`. The budget does not go below
    /// zero here: negative values count operations that were not started.
    #[inline(always)]
    pub(crate) fn spend_poll_budget(&self, result: i32) {
        self.poll_budget.set((self.poll_budget.get() - 1 - (result.max(0) >> 16)).max(0));
    }
}
