//! The part of a context that other threads can reach: its inbox of woken tasks, its jobs, its
//! notifier and its stop flag.
//!
//! Sleeping and waking meet in one atomic value, so that either the owner sees the wake-up before
//! it sleeps, or the waking thread sees that the owner sleeps:
//!
//! ```text
//!   owner:  swap(ASLEEP) == NOTIFIED?  yes: don't sleep    no: wait in the kernel
//!           swap(AWAKE), then empty the inbox
//!   others: post to the inbox, then swap(NOTIFIED) == ASLEEP?  yes: one write to the event counter
//! ```
//!
//! Only the first of many wakes finds `ASLEEP`, so a thousand wakes cost one system call.
//!
//! A waking thread must swap instead of storing `NOTIFIED`: a plain store would overwrite another
//! thread's `NOTIFIED` without making that thread's post visible to the owner.
//!
//! A context that no thread has woken for some time ([`QUIET_AFTER`] sleeps) pays nothing for this:
//! its owner leaves `ASLEEP` in place while it is awake, and then needs no swap to sleep again. The
//! next wake-up costs one unneeded write to the event counter; after that the owner announces its
//! state again.

// # Why this file has `unsafe`
// It passes raw task pointers, with a counted reference each, through the inbox.

use std::cell::Cell;
use std::sync::Arc;

use super::Runtime;
use super::inbox::{Inbox, InboxNode};
use super::slot::Slot;
use super::sync::{AtomicBool, AtomicU8, Mutex, Ordering, lock};
use crate::driver::Notify;

const AWAKE: u8 = 0;
const ASLEEP: u8 = 1;
const NOTIFIED: u8 = 2;

/// After so many sleeps without a wake-up from another thread the owner stays announced as asleep.
const QUIET_AFTER: u8 = if cfg!(loom) { 1 } else { 64 };

/// What other threads can reach of a context. Generic only for its loom model.
pub(crate) struct Remote<N = super::task::Header> {
    sleep: AtomicU8,
    /// Owner only: for how many more sleeps the state is announced exactly.
    announced_sleeps: Cell<u8>,
    stopped: AtomicBool,
    running: AtomicBool,
    inbox: Inbox<N>,
    /// `None`: the context is being dropped.
    jobs: Mutex<Option<Vec<Job>>>,
    has_jobs: AtomicBool,
    /// The messages sent to this context; `sync::messages` fills this.
    pub(crate) mailbox: Slot,
    notifier: Arc<dyn Notify>,
}

/// A function that another thread posts to be called on the context's thread.
pub(crate) type Job = Box<dyn FnOnce(&Runtime) + Send>;

// SAFETY: nodes pass through by pointer; their references are counted atomically, and `Header` says
// which thread touches which of its fields. `announced_sleeps` is touched by the owner alone. All
// else is `Send + Sync` by itself.
unsafe impl<N> Send for Remote<N> {}
// SAFETY: as above.
unsafe impl<N> Sync for Remote<N> {}

impl<N: InboxNode> Remote<N> {
    pub(crate) fn new(notifier: Arc<dyn Notify>) -> Self {
        Remote {
            sleep: AtomicU8::new(AWAKE),
            announced_sleeps: Cell::new(QUIET_AFTER),
            stopped: AtomicBool::new(false),
            running: AtomicBool::new(false),
            inbox: Inbox::new(),
            jobs: Mutex::new(Some(Vec::new())),
            has_jobs: AtomicBool::new(false),
            mailbox: Slot::new(),
            notifier,
        }
    }

    /// Any thread: posts a woken node. Returns `false` if the context was dropped.
    ///
    /// # Safety
    /// As for [`Inbox::post`].
    pub(crate) unsafe fn post(&self, node: *const N) -> bool {
        // SAFETY: this function's contract is that of `Inbox::post`.
        let posted = unsafe { self.inbox.post(node) };
        if posted {
            self.wake();
        }
        posted
    }

    /// Any thread: posts a job.
    ///
    /// # Errors
    /// The job, if the context was dropped.
    pub(crate) fn post_job(&self, job: Job) -> Result<(), Job> {
        match &mut *lock(&self.jobs) {
            Some(jobs) => jobs.push(job),
            None => return Err(job),
        }
        self.has_jobs.store(true, Ordering::Release);
        self.wake();
        Ok(())
    }

    /// Owner: returns `true` if there is a woken node, a job or a stop request.
    pub(crate) fn has_wakeups(&self) -> bool {
        !self.inbox.is_empty() || self.has_jobs() || self.is_stopped()
    }

    /// Owner: returns `true` if there are jobs.
    #[inline(always)]
    pub(crate) fn has_jobs(&self) -> bool {
        self.has_jobs.load(Ordering::Acquire)
    }

    /// Owner: takes all jobs.
    pub(crate) fn take_jobs(&self) -> Vec<Job> {
        self.has_jobs.store(false, Ordering::Relaxed);
        lock(&self.jobs).as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Any thread: wakes the context if it sleeps.
    pub(crate) fn wake(&self) {
        if self.sleep.swap(NOTIFIED, Ordering::AcqRel) == ASLEEP {
            Runtime::notify_other(&self.notifier);
        }
    }

    /// Any thread: requests that the context stop.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.wake();
    }

    /// Owner: returns `true` if a stop is requested.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Owner: returns `true` if a stop is requested, and clears the request.
    pub(crate) fn take_stop(&self) -> bool {
        self.stopped.swap(false, Ordering::AcqRel)
    }

    /// Owner: sets whether the context is being run.
    pub(crate) fn set_running(&self, running: bool) {
        self.running.store(running, Ordering::Release);
    }

    /// Any thread: returns `true` if the context is being run.
    pub(crate) fn is_running(&self) -> bool {
        self.running.load(Ordering::Acquire)
    }

    /// Any thread: returns `true` if the context is announced as asleep. One that was not woken for
    /// some time may be awake all the same; see [`expect_wakeups`](Self::expect_wakeups).
    pub(crate) fn is_asleep(&self) -> bool {
        self.sleep.load(Ordering::Relaxed) == ASLEEP
    }

    /// Owner: announces the state exactly for the next [`QUIET_AFTER`] sleeps.
    pub(crate) fn expect_wakeups(&self) {
        self.announced_sleeps.set(QUIET_AFTER);
    }

    /// Owner: announces that it is about to wait in the kernel. Returns `false` if there was a
    /// wake-up: the owner must not wait then.
    #[inline(always)]
    pub(crate) fn fall_asleep(&self) -> bool {
        // Still announced since the last sleep: a wake-up since then has notified the driver.
        self.sleep.load(Ordering::Relaxed) == ASLEEP || self.announce_sleep()
    }

    fn announce_sleep(&self) -> bool {
        if self.sleep.swap(ASLEEP, Ordering::AcqRel) != NOTIFIED {
            return true;
        }
        self.wake_up();
        false
    }

    /// Owner: announces that it is back from the kernel, before it empties the inbox.
    #[inline(always)]
    pub(crate) fn wake_up(&self) {
        if self.announced_sleeps.get() > 0 || self.sleep.load(Ordering::Relaxed) != ASLEEP {
            self.announce_waking();
        }
    }

    fn announce_waking(&self) {
        let notified = self.sleep.swap(AWAKE, Ordering::AcqRel) == NOTIFIED;
        let left = self.announced_sleeps.get().saturating_sub(1);
        self.announced_sleeps.set(if notified { QUIET_AFTER } else { left });
    }

    #[cfg(all(test, loom))]
    pub(super) fn is_quiet(&self) -> bool {
        self.announced_sleeps.get() == 0
    }

    /// Owner: takes all woken nodes.
    pub(crate) fn take(&self, visit: impl FnMut(*const N)) {
        self.inbox.take(visit);
    }

    /// Owner: closes what is attached to the context. Nothing is attached after this.
    pub(crate) fn close_attachments(&self) {
        self.mailbox.close();
    }

    /// Owner: closes the inbox and takes all woken nodes; drops all jobs.
    pub(crate) fn close(&self, visit: impl FnMut(*const N)) {
        let jobs = lock(&self.jobs).take();
        drop(jobs);
        self.inbox.close(visit);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::runtime::inbox::InboxLink;

    struct Node(InboxLink<Node>);

    impl InboxNode for Node {
        fn inbox(&self) -> &InboxLink<Self> {
            &self.0
        }
    }

    struct CountingNotifier(AtomicUsize);

    impl Notify for CountingNotifier {
        fn notify(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A notification is a system call.
    #[test]
    fn a_thousand_wakes_of_a_sleeper_cost_one_notification() {
        let notifier = Arc::new(CountingNotifier(AtomicUsize::new(0)));
        let remote = Remote::<Node>::new(notifier.clone());
        let nodes: Vec<_> = (0..1000).map(|_| Node(InboxLink::new())).collect();
        for round in 1..=3 {
            assert!(remote.fall_asleep());
            for node in &nodes {
                assert!(node.0.enter());
                // SAFETY: entered just now, and the nodes outlive the remote's use of them.
                assert!(unsafe { remote.post(node) });
            }
            assert_eq!(notifier.0.load(Ordering::Relaxed), round);
            remote.wake_up();
            let mut taken = 0;
            remote.take(|_| taken += 1);
            assert_eq!(taken, nodes.len());
        }
        // An owner that is awake needs no notification.
        assert!(nodes[0].0.enter());
        // SAFETY: as above.
        assert!(unsafe { remote.post(&nodes[0]) });
        assert_eq!(notifier.0.load(Ordering::Relaxed), 3);
        assert!(!remote.fall_asleep(), "there is a wake-up");
    }
}
