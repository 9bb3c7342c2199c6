//! The end of a context's tasks, in time linear in their number.
//!
//! Tasks have a list of their own, newest first, in the scope `Runtime::tasks`.

// # Why this file has `unsafe`
// Tasks are known by the addresses of their scopes.

use std::time::Duration;

use super::Runtime;
use super::list::{List, unlink};
use super::scope::Scope;
use super::task::Header;
use super::tracked_op::{State, TrackedOp};
use crate::driver::seams::clock;
use crate::driver::{Driver, Wait};

/// The end of `block_on`: until this is dropped, everything that is in flight is cancelled.
pub(crate) struct Settling<'a> {
    runtime: &'a Runtime,
    /// How many tasks had been spawned when they were cancelled last.
    cancelled: u64,
}

impl Settling<'_> {
    /// Cancels the tasks that were spawned since the last call.
    pub(crate) fn cancel_new_tasks(&mut self) {
        let spawned = self.runtime.stats.tasks_spawned.get();
        // Those that have not ended are the first of the list.
        let new = spawned.wrapping_sub(std::mem::replace(&mut self.cancelled, spawned));
        // SAFETY: the children of this scope are fields of headers.
        let cancel = |scope: &Scope| unsafe { &*Header::of_scope(scope) }.cancel();
        self.runtime.tasks.children().for_newest(new, cancel);
    }
}

impl Drop for Settling<'_> {
    fn drop(&mut self) {
        self.runtime.root.open();
    }
}

/// Tasks that are about to be ended, oldest first. It does not move.
struct Ending<'a> {
    tasks: List<Scope>,
    runtime: &'a Runtime,
}

impl Ending<'_> {
    /// Moves all nodes of `from` to `to`, which reverses their order.
    ///
    /// # Safety
    /// `to` does not move until its nodes are unlinked.
    unsafe fn move_all(from: &List<Scope>, to: &List<Scope>) {
        while let Some(scope) = from.first() {
            // SAFETY: linked nodes are alive, and stay in place until they are unlinked, as they
            // were promised to `from`; so does `to`.
            unsafe {
                unlink(&*scope);
                to.push(scope);
            }
        }
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        // Those left over by the panic of a foreign waker.
        // SAFETY: the runtime does not move, and detaches its tasks before it is freed.
        unsafe { Self::move_all(&self.tasks, self.runtime.tasks.children()) };
    }
}

impl Runtime {
    /// Puts the scope of the tasks below the root.
    pub(super) fn attach_tasks(&self) {
        // SAFETY: the caller has just made the root, or detached all its children. Both scopes are
        // fields of the runtime, which does not move, and detach what is below them when dropped.
        unsafe { self.tasks.attach(&self.root) };
    }

    /// Cancels everything that is in flight, and, until the returned value is dropped, what starts.
    /// The tasks are cancelled by [`Settling::cancel_new_tasks`].
    pub(crate) fn settle(&self) -> Settling<'_> {
        // Also operations of no task: leaked ones, and those polled outside of tasks.
        self.cancels.set(self.cancels.get() + 1);
        self.root.cancel_all_but_tasks();
        // The first call cancels all.
        Settling { runtime: self, cancelled: 0 }
    }

    /// Cancels every operation in flight and returns how many there were. New ones may start. Whole
    /// transfers that wait for one of these to end are cancelled when it is their turn.
    pub(crate) fn cancel_pending(&self) -> usize {
        self.cancels.set(self.cancels.get() + 1);
        let mut count = 0;
        self.root.visit(&mut |op| {
            op.cancel();
            count += 1;
        });
        count
    }

    /// Returns `true` if there is a task that has not finished.
    pub(crate) fn has_tasks(&self) -> bool {
        !self.tasks.children().is_empty()
    }

    /// Drops the bodies of all tasks, oldest first, without polling them.
    ///
    /// A body's destructor may do anything, such as spawning other tasks, which follow.
    pub(crate) fn end_tasks(&self) {
        while self.has_tasks() {
            let ending = Ending { tasks: List::new(), runtime: self };
            // SAFETY: it stays in place until it is dropped, which empties it.
            unsafe { Ending::move_all(self.tasks.children(), &ending.tasks) };
            while let Some(scope) = ending.tasks.first() {
                // SAFETY: linked scopes are alive, and these are fields of headers; the caller has
                // drained, so nothing is in flight.
                unsafe { Header::end(Header::of_scope(&*scope)) };
            }
        }
    }

    /// Drops every finished task that is still queued, closes the inbox, and detaches scopes and
    /// timers that outlive this runtime.
    pub(crate) fn discard_queues(&self) {
        while let Some(task) = self.ready.pop().or_else(|| self.poll_budget.tasks.pop()) {
            // SAFETY: just popped. All tasks are done by now, so nothing is polled.
            unsafe { Header::run(task, self) };
        }
        // SAFETY: as in `handle_wakeups`.
        self.remote.close(|task| unsafe { Header::release(task) });
        // Scopes and timers may lie in futures that outlive this context.
        self.root.release();
        self.attach_tasks();
        self.timers.clear();
        drop(self.deferred.take());
        self.late_wakes.clear();
    }

    /// Leaks what is still in flight, and the tasks: neither is ever freed. What waits for the
    /// tasks ends as if they had been cancelled; futures, scopes and timers that outlive this
    /// runtime leave it.
    pub(crate) fn give_up(&self) {
        // First, as foreign code below may wait for one of them.
        self.root.give_up(self);
        // That may also start new tasks and timers: until none is left.
        loop {
            while let Some(scope) = self.tasks.children().first() {
                // SAFETY: as in `end_tasks`; the caller never frees this. The task's scope leaves
                // the list.
                unsafe { Header::leak(Header::of_scope(&*scope)) };
            }
            // SAFETY: as in `handle_wakeups`.
            self.remote.close(|task| unsafe { Header::release(task) });
            self.root.release();
            self.attach_tasks();
            self.timers.clear();
            self.wake_deferred();
            self.late_wakes.clear();
            if !self.has_tasks() && self.timers.is_empty() && self.deferred.borrow().is_empty() {
                break;
            }
        }
        if self.driver(|driver| driver.closing()) > 0 {
            // Submits the closes of what was dropped. An error has no consequence.
            let _ = self.reap(Wait::No);
        }
        self.given_up.set(true);
    }

    /// Waits, for a tenth of a second at most, until `op` has ended, which a context has left in
    /// flight and which is being cancelled now. No loop would deliver it.
    #[cold]
    pub(super) fn await_given_up(&self, op: &TrackedOp) {
        let end = clock::now() + Duration::from_millis(100);
        while op.state() == State::Pending {
            let left = end.saturating_duration_since(clock::now());
            if left.is_zero() || self.reap(Wait::For(left)).is_err() {
                break;
            }
        }
        self.wake_deferred();
    }

    /// Returns `true` if no task, timer or waker that was kept refers to this runtime.
    pub(crate) fn is_unreferenced(&self) -> bool {
        !self.has_tasks()
            && !self.has_ready()
            && self.timers.is_empty()
            && self.deferred.borrow().is_empty()
            && self.late_wakes.is_empty()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::cell::RefCell;
    use std::future::pending;
    use std::rc::Rc;
    use std::time::Duration;

    use super::super::list::steps;
    use crate::IoContext;

    const TASKS: u64 = if cfg!(miri) { 200 } else { 20_000 };

    /// Returns the steps along lists per task.
    fn steps_per_task(run: impl FnOnce()) -> u64 {
        steps::take();
        run();
        steps::take() / TASKS
    }

    fn spawn_all() {
        for _ in 0..TASKS {
            drop(crate::spawn(pending::<()>()));
        }
    }

    #[test]
    fn the_end_of_block_on_takes_steps_linear_in_the_tasks() {
        let mut context = IoContext::new(8).expect("a context");
        let steps = steps_per_task(|| context.block_on(async { spawn_all() }));
        assert!(steps <= 4, "{steps} steps for each task");
        assert!(!context.runtime().has_tasks());
    }

    #[test]
    fn dropping_a_context_takes_steps_linear_in_its_tasks() {
        let mut context = IoContext::new(8).expect("a context");
        context.spawn(async { spawn_all() });
        context.poll_once(Some(Duration::ZERO)).expect("a turn");
        let steps = steps_per_task(|| drop(context));
        assert!(steps <= 4, "{steps} steps for each task");
    }

    #[test]
    fn tasks_that_destructors_spawn_end_after_those_before() {
        struct Spawns(Rc<RefCell<Vec<u32>>>, u32);
        impl Drop for Spawns {
            fn drop(&mut self) {
                self.0.borrow_mut().push(self.1);
                if self.1 < 10 {
                    spawn(&self.0, self.1 + 10);
                }
            }
        }
        fn spawn(ended: &Rc<RefCell<Vec<u32>>>, number: u32) {
            let value = Spawns(ended.clone(), number);
            drop(crate::spawn(async move {
                pending::<()>().await;
                drop(value);
            }));
        }
        let ended = Rc::default();
        let mut context = IoContext::new(8).expect("a context");
        let out = Rc::clone(&ended);
        context.spawn(async move { (0..4).for_each(|number| spawn(&out, number)) });
        context.poll_once(Some(Duration::ZERO)).expect("a turn");
        drop(context);
        assert_eq!(*ended.borrow(), [0, 1, 2, 3, 10, 11, 12, 13]);
    }
}
