//! What other threads can reach of a context: its inbox of woken tasks, its mailbox, its alarm, its
//! stop flag.
//!
//! Sleeping and waking meet in one atomic value, so that either the sleeper sees the news or the one
//! who brings it sees the sleeper:
//!
//! ```text
//!   owner:  swap(ASLEEP) == NOTIFIED?  yes: don't sleep    no: wait in the kernel
//!           swap(AWAKE), then take the news
//!   others: leave news, then swap(NOTIFIED) == ASLEEP?  yes: one write to the event counter
//! ```
//!
//! A context that nobody wakes pays nothing for this: when nobody has woken it for a while, the owner
//! just stays announced as `ASLEEP` while it is awake, and needs no swap to sleep again. News then
//! costs one unneeded write, once, and the owner goes back to telling the truth.
//!
//! A plain store when waking would overwrite a `NOTIFIED` whose news is not visible yet.
//!
//! Only the first of many wakes finds `ASLEEP`, so a thousand wakes cost one system call.
//!
//! # Why this file has `unsafe`
//! It passes raw task pointers, with a counted reference each, through the inbox.

use std::cell::Cell;
use std::sync::Arc;

use super::Runtime;
use super::inbox::{Inbox, InboxNode};
use super::sync::{AtomicBool, AtomicU8, Mutex, Ordering, lock};
use crate::driver::Notify;
use crate::sync::messages::Mailbox;

const AWAKE: u8 = 0;
const ASLEEP: u8 = 1;
const NOTIFIED: u8 = 2;

/// After so many sleeps without news a context counts as one that nobody wakes.
const QUIET_AFTER: u8 = if cfg!(loom) { 1 } else { 64 };

/// See the module's page. Generic only for its model.
pub(crate) struct Remote<N = super::task::Header> {
    sleep: AtomicU8,
    /// Owner only: for how many more sleeps to reckon with news.
    lively: Cell<u8>,
    stopped: AtomicBool,
    running: AtomicBool,
    inbox: Inbox<N>,
    /// `None`: the context is gone, or about to go.
    jobs: Mutex<Option<Vec<Job>>>,
    has_jobs: AtomicBool,
    pub(crate) mailbox: Mailbox,
    notifier: Arc<dyn Notify>,
}

/// What another thread wants done on the context's thread: starts a task.
pub(crate) type Job = Box<dyn FnOnce(&Runtime) + Send>;

// SAFETY: nodes pass through by pointer; their references are counted atomically, and what is
// touched on which thread is `Header`'s affair. `lively` is touched by the owner alone. All else is
// `Send + Sync` by itself.
unsafe impl<N> Send for Remote<N> {}
// SAFETY: as above.
unsafe impl<N> Sync for Remote<N> {}

impl<N: InboxNode> Remote<N> {
    pub(crate) fn new(notifier: Arc<dyn Notify>) -> Self {
        Remote {
            sleep: AtomicU8::new(AWAKE),
            lively: Cell::new(QUIET_AFTER),
            stopped: AtomicBool::new(false),
            running: AtomicBool::new(false),
            inbox: Inbox::new(),
            jobs: Mutex::new(Some(Vec::new())),
            has_jobs: AtomicBool::new(false),
            mailbox: Mailbox::new(),
            notifier,
        }
    }

    /// Any thread: leaves a woken node; `false`: the context is gone.
    ///
    /// # Safety
    /// As for [`Inbox::post`].
    pub(crate) unsafe fn post(&self, node: *const N) -> bool {
        // SAFETY: what the caller promises.
        let posted = unsafe { self.inbox.post(node) };
        if posted {
            self.rouse();
        }
        posted
    }

    /// Any thread: leaves a job, or gets it back if the context is gone.
    pub(crate) fn post_job(&self, job: Job) -> Result<(), Job> {
        match &mut *lock(&self.jobs) {
            Some(jobs) => jobs.push(job),
            None => return Err(job),
        }
        self.has_jobs.store(true, Ordering::Release);
        self.rouse();
        Ok(())
    }

    /// Owner: whether there is anything to take in.
    pub(crate) fn has_news(&self) -> bool {
        !self.inbox.is_empty() || self.has_jobs() || self.is_stopped()
    }

    /// Owner: whether jobs have been left.
    #[inline(always)]
    pub(crate) fn has_jobs(&self) -> bool {
        self.has_jobs.load(Ordering::Acquire)
    }

    /// Owner: takes all jobs.
    pub(crate) fn take_jobs(&self) -> Vec<Job> {
        self.has_jobs.store(false, Ordering::Relaxed);
        lock(&self.jobs).as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Any thread: makes the context look at the world.
    pub(crate) fn rouse(&self) {
        if self.sleep.swap(NOTIFIED, Ordering::AcqRel) == ASLEEP {
            Runtime::notify_other(&self.notifier);
        }
    }

    /// Any thread: asks the context to stop.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.rouse();
    }

    /// Owner: whether a stop is asked for; it stays so until [`take_stop`](Self::take_stop).
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Owner: whether a stop is asked for; it is answered by this.
    pub(crate) fn take_stop(&self) -> bool {
        self.stopped.swap(false, Ordering::AcqRel)
    }

    /// Owner: a run begins or ends.
    pub(crate) fn set_running(&self, running: bool) {
        self.running.store(running, Ordering::Release);
    }

    /// Any thread: whether the context is being run.
    pub(crate) fn is_running(&self) -> bool {
        self.running.load(Ordering::Acquire)
    }

    /// Any thread: whether the context sleeps, as far as can be seen from here. One that nobody has woken
    /// for a while may be taken for asleep; see [`expect_news`](Self::expect_news).
    pub(crate) fn is_asleep(&self) -> bool {
        self.sleep.load(Ordering::Relaxed) == ASLEEP
    }

    /// Owner: news is to be reckoned with, so others are told the truth for some more sleeps.
    pub(crate) fn expect_news(&self) {
        self.lively.set(QUIET_AFTER);
    }

    /// Owner: about to wait in the kernel. `false`: there is news, don't.
    #[inline(always)]
    pub(crate) fn fall_asleep(&self) -> bool {
        // Still announced since last time: whoever has brought news since has rung the bell.
        self.sleep.load(Ordering::Relaxed) == ASLEEP || self.announce_sleep()
    }

    fn announce_sleep(&self) -> bool {
        if self.sleep.swap(ASLEEP, Ordering::AcqRel) != NOTIFIED {
            return true;
        }
        self.wake_up();
        false
    }

    /// Owner: back from the kernel, and about to take the news.
    #[inline(always)]
    pub(crate) fn wake_up(&self) {
        if self.lively.get() > 0 || self.sleep.load(Ordering::Relaxed) != ASLEEP {
            self.announce_waking();
        }
    }

    fn announce_waking(&self) {
        let news = self.sleep.swap(AWAKE, Ordering::AcqRel) == NOTIFIED;
        self.lively.set(if news { QUIET_AFTER } else { self.lively.get().saturating_sub(1) });
    }

    #[cfg(all(test, loom))]
    pub(super) fn is_quiet(&self) -> bool {
        self.lively.get() == 0
    }

    /// Owner: takes all news.
    pub(crate) fn take(&self, visit: impl FnMut(*const N)) {
        self.inbox.take(visit);
    }

    /// Owner: takes all news, for the last time; jobs are dropped.
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

    struct Bell(AtomicUsize);

    impl Notify for Bell {
        fn notify(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A notification is a system call.
    #[test]
    fn a_thousand_wakes_of_a_sleeper_cost_one_notification() {
        let bell = Arc::new(Bell(AtomicUsize::new(0)));
        let remote = Remote::<Node>::new(bell.clone());
        let nodes: Vec<_> = (0..1000).map(|_| Node(InboxLink::new())).collect();
        for round in 1..=3 {
            assert!(remote.fall_asleep());
            for node in &nodes {
                assert!(node.0.enter());
                // SAFETY: entered just now, and the nodes outlive the remote's use of them.
                assert!(unsafe { remote.post(node) });
            }
            assert_eq!(bell.0.load(Ordering::Relaxed), round);
            remote.wake_up();
            let mut taken = 0;
            remote.take(|_| taken += 1);
            assert_eq!(taken, nodes.len());
        }
        // Awake, the owner looks by itself.
        assert!(nodes[0].0.enter());
        // SAFETY: as above.
        assert!(unsafe { remote.post(&nodes[0]) });
        assert_eq!(bell.0.load(Ordering::Relaxed), 3);
        assert!(!remote.fall_asleep(), "there is news");
    }
}
