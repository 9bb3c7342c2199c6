//! The turn of the loop: poll ready tasks, submit and wait in one system call, reap completions.
//!
//! The stack stays flat: reaping only marks operations as done and queues tasks;
//! [`Runtime::run_ready`] polls them.

// # Why this file has `unsafe`
// It passes raw task pointers and tokens to their owners.

use std::io;
use std::task::Waker;
use std::time::Duration;

use super::stats::Stats;
use super::task::Header;
use super::task_memory::TRIM_AFTER;
use super::tracked_op::TrackedOp;
use super::{Runtime, Special};
use crate::driver::{Driver, Sink, Token, Wait};

/// Receives the completions that a runtime's driver delivers.
struct Reaper<'a>(&'a Runtime);

// SAFETY: clause 8: `TrackedOp::deliver` sets states and queues the task, or a foreign waker for
// later (`LocalWaker::wake`); it neither calls the driver nor frees the record, which its future
// owns.
unsafe impl Sink for Reaper<'_> {
    #[inline(always)]
    unsafe fn deliver(&mut self, op: Token) {
        // SAFETY: the items of `Sink::deliver`; only `reap` creates a sink, for this runtime's own
        // driver.
        unsafe { TrackedOp::deliver(op, self.0) };
    }
}

impl Runtime {
    /// Polls tasks that are ready, including those that become ready meanwhile, within the task
    /// budget and that of operations that complete inline.
    pub(crate) fn run_ready(&self) {
        /// Resets the current task, also if a foreign waker panics: otherwise the task would still
        /// be taken for the current one, and for one that holds the thread.
        struct ResetCurrent<'a>(&'a Runtime);
        impl Drop for ResetCurrent<'_> {
            fn drop(&mut self) {
                self.0.current_task.set(std::ptr::null());
                if let Some(Special { watched: Some(watched), .. }) = &self.0.special {
                    watched.end();
                }
            }
        }
        let _reset = ResetCurrent(self);
        // SAFETY: just popped; this is the runtime's thread.
        let run = |task| unsafe { Header::run(task, self) };
        let polls = match &self.special {
            None => self.each_ready(run),
            Some(special) => self.each_ready(|task| {
                if !special.completes_inline {
                    self.poll_budget.withhold();
                }
                if let Some(watched) = &special.watched {
                    // SAFETY: a task that was just popped is alive.
                    watched.begin(unsafe { &*task }.scope.location);
                }
                run(task);
                if let Some(watched) = &special.watched {
                    watched.end();
                }
            }),
        };
        self.stats.polls.add(polls as u64);
    }

    /// Calls `run` for each ready task, within the budgets. Returns how many there were.
    #[inline(always)]
    fn each_ready(&self, run: impl Fn(*const Header)) -> usize {
        let mut left = self.task_budget;
        while let Some(task) = self.ready.pop().or_else(|| self.pop_postponed()) {
            self.current_task.set(task);
            run(task);
            left -= 1;
            if self.poll_budget.is_touched() && self.settle_poll() || left == 0 {
                break;
            }
        }
        self.task_budget - left
    }

    /// Takes a task that has spent its budget of operations, when no other is ready.
    #[inline(always)]
    fn pop_postponed(&self) -> Option<*const Header> {
        if self.has_postponed.get() { self.poll_budget.tasks.pop() } else { None }
    }

    /// Submits, waits for at most `wait`, then handles completions, timers and wake-ups.
    ///
    /// With `return_on_stop` it does not wait while a stop is requested.
    pub(crate) fn turn(&self, wait: Wait, return_on_stop: bool) -> io::Result<()> {
        self.stats.turns.add(1);
        let wait = match wait {
            Wait::No => Wait::No,
            _ if return_on_stop && self.remote.is_stopped() => Wait::No,
            wait => self.limit_wait(wait),
        };
        let wait =
            if wait != Wait::No && !self.busy_poll.is_off() { self.busy_poll(wait)? } else { wait };
        // Announced before the wait, so that no wake-up is lost.
        let wait = if wait != Wait::No && !self.remote.fall_asleep() { Wait::No } else { wait };
        let reaped = self.reap(wait);
        if wait != Wait::No {
            self.remote.wake_up();
        }
        self.handle_wakeups();
        reaped
    }

    /// Busy-polls for completions and wake-ups. Returns how long to block after that.
    #[cold]
    fn busy_poll(&self, wait: Wait) -> io::Result<Wait> {
        let limit = match wait {
            Wait::For(limit) => limit.min(self.busy_poll.limit()),
            _ => self.busy_poll.limit(),
        };
        let (completed, began) = (self.stats.completed(), self.now());
        loop {
            self.reap(Wait::No)?;
            if self.stats.completed() != completed || self.has_ready() || self.remote.has_wakeups()
            {
                self.busy_poll.adapt(true);
                return Ok(Wait::No);
            }
            let spent = Duration::from_nanos(self.now() - began);
            if spent >= limit {
                self.busy_poll.adapt(false);
                let left = match wait {
                    Wait::For(limit) if limit <= spent => Wait::No,
                    Wait::For(limit) => Wait::For(limit - spent),
                    wait => wait,
                };
                return Ok(left);
            }
            std::hint::spin_loop();
        }
    }

    /// Runs the driver's part of a turn: submits, waits and delivers completions. No task is polled
    /// and no foreign code runs.
    pub(crate) fn reap(&self, wait: Wait) -> io::Result<()> {
        let reaped = self.driver(|driver| driver.turn(wait, &mut Reaper(self)));
        self.tick_clock();
        reaped
    }

    /// Returns how long a turn may wait: not at all if tasks are ready, at most until the next
    /// timer.
    fn limit_wait(&self, wait: Wait) -> Wait {
        if !self.ready.is_empty() {
            return Wait::No;
        }
        let mut next = self.timers.next_deadline();
        if self.has_postponed.get() {
            let postponed = self.next_postponed();
            next = [next, postponed].into_iter().flatten().min();
        }
        let Some(deadline) = next else { return wait };
        match (deadline.saturating_sub(self.now()), wait) {
            (0, _) => Wait::No,
            (left, Wait::For(limit)) => Wait::For(limit.min(Duration::from_nanos(left))),
            (left, _) => Wait::For(Duration::from_nanos(left)),
        }
    }

    /// Handles everything that is not a completion: timers, wake-ups and jobs from other threads,
    /// deferred and late wakers, and tasks that have spent their budget.
    fn handle_wakeups(&self) {
        if self.timers.next_deadline().is_some() {
            let fired = self.timers.fire(self.now(), self);
            self.stats.timers_fired.add(fired);
        }
        self.remote.take(|task| {
            self.stats.remote_wakes.add(1);
            // SAFETY: the inbox's reference keeps the task alive until it is given up here; tasks
            // in this inbox belong to this runtime and so to this thread.
            unsafe {
                (*task).schedule();
                Header::release(task);
            }
        });
        if self.remote.has_jobs() {
            self.run_jobs();
        }
        if self.has_postponed.get() {
            self.handle_postponed();
        }
    }

    #[cold]
    fn run_jobs(&self) {
        for job in self.remote.take_jobs() {
            job(self);
        }
    }

    /// Wakes the deferred wakers, one at a time: if one panics, the next call wakes the others.
    #[cold]
    pub(super) fn wake_deferred(&self) {
        while let Some(waker) = self.next_deferred() {
            waker.wake();
        }
    }

    /// Returns when there is something to do that was postponed; a time that has passed: at once.
    #[cold]
    fn next_postponed(&self) -> Option<u64> {
        let is_urgent = !self.poll_budget.tasks.is_empty() || !self.deferred.borrow().is_empty();
        if is_urgent { Some(0) } else { self.next_late() }
    }

    /// Returns when late wakers are to be woken, or task memory is to be given back.
    fn next_late(&self) -> Option<u64> {
        [self.late_wakes.next_deadline(), self.trim_at.get()].into_iter().flatten().min()
    }

    fn handle_late(&self, now: u64) {
        while let Some(waker) = self.late_wakes.take_due(now) {
            waker.wake();
        }
        if self.trim_at.get().is_some_and(|due| due <= now) {
            self.trim_at.set(self.task_memory.trim().then(|| now + TRIM_AFTER));
        }
    }

    #[cold]
    fn handle_postponed(&self) {
        self.wake_deferred();
        if self.next_late().is_some() {
            self.handle_late(self.now());
        }
        // The first one has had its turn. The next one joins the others, however many are ready.
        self.poll_budget.tasks.rotate();
        if let Some(task) = self.poll_budget.tasks.pop() {
            // SAFETY: a queued task is alive, and has just left its only queue.
            unsafe { self.ready.push(task) };
        }
        self.has_postponed.set(self.next_postponed().is_some());
    }

    fn next_deferred(&self) -> Option<Waker> {
        self.deferred.borrow_mut().pop()
    }

    /// Returns the statistics so far.
    pub(crate) fn snapshot(&self) -> Stats {
        self.stats.snapshot(self.driver(|driver| driver.syscalls()))
    }

    /// Returns `true` if a task is ready to be polled.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty() || !self.poll_budget.tasks.is_empty()
    }
}
