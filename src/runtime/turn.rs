//! The turn of the loop: poll ready tasks, submit and wait in one system call, reap, again.
//!
//! The stack stays flat: reaping marks and queues, and only [`Runtime::run_ready`] polls.
//!
//! # Why this file has `unsafe`
//! It hands raw task pointers and tokens to their owners.

use std::io;
use std::task::Waker;
use std::time::Duration;

use super::inflight::Inflight;
use super::scope::Kind;
use super::stats::Stats;
use super::task::Header;
use super::{POLL_BUDGET, Runtime};
use crate::driver::{Driver, Sink, Token, Wait};

/// Where a runtime's driver delivers.
struct Reaper<'a>(&'a Runtime);

// SAFETY: clause 8: `Inflight::deliver` sets states and queues the task, or a foreign waker for later
// (`LocalWaker::wake`); it neither calls the driver nor frees the record, which its future owns.
unsafe impl Sink for Reaper<'_> {
    #[inline(always)]
    unsafe fn deliver(&mut self, op: Token) {
        // SAFETY: the items of `Sink::deliver`; only `reap` creates a sink, for this runtime's own
        // driver.
        unsafe { Inflight::deliver(op, self.0) };
    }
}

impl Runtime {
    /// Polls tasks that are ready, and those that become so meanwhile, within the budget.
    pub(crate) fn run_ready(&self) {
        /// A foreign waker may panic: what comes later must not take its task for the current one,
        /// nor for one that holds the thread.
        struct Over<'a>(&'a Runtime);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.current_task.set(std::ptr::null());
                if let Some(watched) = &self.0.stalls {
                    watched.end();
                }
            }
        }
        let _over = Over(self);
        // SAFETY: just popped; this is the runtime's thread.
        let run = |task| unsafe { Header::run(task, self) };
        let polls = match &self.stalls {
            None => self.each_ready(run),
            Some(watched) => self.each_ready(|task| {
                // SAFETY: a task that was just popped is alive.
                watched.begin(unsafe { &*task }.scope.location);
                run(task);
                watched.end();
            }),
        };
        self.stats.polls.add(polls as u64);
    }

    /// Calls `run` for tasks that are ready, within the budget; gives how many those were.
    #[inline(always)]
    fn each_ready(&self, run: impl Fn(*const Header)) -> usize {
        let mut polls = 0;
        while polls < self.budget {
            let Some(task) = self.ready.pop() else { break };
            polls += 1;
            self.current_task.set(task);
            self.poll_budget.set(POLL_BUDGET);
            run(task);
        }
        polls
    }

    /// Submits, waits at most as told, and takes in everything that happened meanwhile.
    ///
    /// With `heed_stop` it does not wait while a stop is asked for.
    pub(crate) fn turn(&self, wait: Wait, heed_stop: bool) -> io::Result<()> {
        self.stats.turns.add(1);
        let wait = match wait {
            Wait::No => Wait::No,
            _ if heed_stop && self.remote.is_stopped() => Wait::No,
            wait => self.shorten(wait),
        };
        let wait = if wait != Wait::No && !self.spin.is_off() { self.look(wait)? } else { wait };
        // Announced before the wait, so that no wake is lost.
        let wait = if wait != Wait::No && !self.remote.fall_asleep() { Wait::No } else { wait };
        let reaped = self.reap(wait);
        if wait != Wait::No {
            self.remote.wake_up();
        }
        self.take_in();
        reaped
    }

    /// Looks for news for a while, without sleeping; gives how long to wait after that.
    #[cold]
    fn look(&self, wait: Wait) -> io::Result<Wait> {
        let limit = match wait {
            Wait::For(limit) => limit.min(self.spin.limit()),
            _ => self.spin.limit(),
        };
        let (ended, began) = (self.stats.ended(), self.now());
        loop {
            self.reap(Wait::No)?;
            if self.stats.ended() != ended || self.has_ready() || self.remote.has_news() {
                self.spin.adapt(false);
                return Ok(Wait::No);
            }
            let spent = Duration::from_nanos(self.now() - began);
            if spent >= limit {
                self.spin.adapt(true);
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

    /// The part of a turn that lies in the kernel: no task is polled and no foreign code runs.
    pub(crate) fn reap(&self, wait: Wait) -> io::Result<()> {
        let reaped = self.driver(|driver| driver.turn(wait, &mut Reaper(self)));
        self.tick_clock();
        reaped
    }

    /// How long a turn may wait, given what else is to be done.
    fn shorten(&self, wait: Wait) -> Wait {
        if !self.ready.is_empty() || !self.deferred.borrow().is_empty() {
            return Wait::No;
        }
        let Some(deadline) = self.timers.next_deadline() else { return wait };
        match (deadline.saturating_sub(self.now()), wait) {
            (0, _) => Wait::No,
            (left, Wait::For(limit)) => Wait::For(limit.min(Duration::from_nanos(left))),
            (left, _) => Wait::For(Duration::from_nanos(left)),
        }
    }

    /// Everything that is not a completion: timers, wakes from other threads, foreign wakers.
    fn take_in(&self) {
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
        if !self.deferred.borrow().is_empty() {
            self.wake_deferred();
        }
    }

    #[cold]
    fn run_jobs(&self) {
        for job in self.remote.take_jobs() {
            job(self);
        }
    }

    #[cold]
    fn wake_deferred(&self) {
        // One by one: if one panics, the others are woken by the next turn.
        while let Some(waker) = self.next_deferred() {
            waker.wake();
        }
    }

    fn next_deferred(&self) -> Option<Waker> {
        self.deferred.borrow_mut().pop()
    }

    pub(crate) fn snapshot(&self) -> Stats {
        self.stats.snapshot(self.driver(|driver| driver.syscalls()))
    }

    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Cancels every operation in flight, without refusing new ones; returns how many.
    pub(crate) fn cancel_pending(&self) -> usize {
        let mut count = 0;
        self.root.visit(&mut |op| {
            op.cancel();
            count += 1;
        });
        count
    }

    /// Cancels every task.
    pub(crate) fn cancel_tasks(&self) {
        self.root.children().for_each(|scope| {
            if scope.kind == Kind::Task {
                // SAFETY: scopes of this kind are fields of headers.
                unsafe { &*Header::of_scope(scope) }.cancel();
            }
        });
    }

    /// Whether any task exists, finished ones that somebody still holds left out.
    pub(crate) fn has_tasks(&self) -> bool {
        let mut any = false;
        self.root.children().for_each(|scope| any |= scope.kind == Kind::Task);
        any
    }

    /// Drops the bodies of all tasks without polling them.
    ///
    /// Bodies may do anything when dropped, such as ending other tasks, so the list is started
    /// over after each.
    pub(crate) fn end_tasks(&self) {
        loop {
            let mut next = None;
            self.root.children().for_each(|scope| {
                if scope.kind == Kind::Task {
                    next = Some(std::ptr::from_ref(scope));
                }
            });
            let Some(scope) = next else { return };
            // SAFETY: attached scopes are alive; nothing is in flight, as the caller has drained.
            unsafe { Header::end(Header::of_scope(&*scope)) };
        }
    }

    /// Gives up every finished task that is still queued, and everything in the inbox.
    pub(crate) fn discard_queues(&self) {
        while let Some(task) = self.ready.pop() {
            // SAFETY: just popped. All tasks are done by now, so nothing is polled.
            unsafe { Header::run(task, self) };
        }
        // SAFETY: as in `take_in`.
        self.remote.close(|task| unsafe { Header::release(task) });
        // Scopes and timers in futures that outlive this context are set free.
        self.root.release();
        self.timers.clear();
        drop(self.deferred.take());
    }

    /// Whether no task, timer or waker refers to this runtime any more.
    pub(crate) fn is_deserted(&self) -> bool {
        !self.has_tasks()
            && !self.has_ready()
            && self.timers.is_empty()
            && self.deferred.borrow().is_empty()
    }
}
