//! Messages between rings: how one context ends the wait of another.
//!
//! A thread without a ring writes to an event counter, which the other ring polls. A thread with a
//! ring has the kernel post a completion to the other ring (`IORING_OP_MSG_RING`), which spares the
//! woken side the poll. The message is submitted at once, as an event counter would be written at
//! once: the sending thread may be about to wait for the one that it wakes.

// # Why this file has `unsafe`
// It queues entries and submits them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard};

use io_uring::squeue::Flags;
use io_uring::{IoUring, opcode, types};

use super::Uring;
use super::user_data::{MESSAGE, MESSAGE_FAILED};
use crate::driver::Notify;
use crate::driver::sys::EventFd;
use crate::os::lock::lock;

/// The handle by which other threads end a ring's wait.
pub(super) struct RingNotifier {
    counter: EventFd,
    /// The ring, as long as its driver lives, under a descriptor of its own: the number of the
    /// driver's descriptor may name another file by the time that a thread uses it.
    ring: Mutex<Option<Arc<OwnedFd>>>,
}

impl RingNotifier {
    /// Creates the notifier of a driver; `ring`: its ring, if other rings may send messages to it.
    pub(super) fn new(ring: Option<&IoUring>) -> io::Result<Self> {
        // SAFETY: borrowed from a ring that outlives the borrow, which ends with the next line.
        let ring = ring.map(|ring| unsafe { BorrowedFd::borrow_raw(ring.as_raw_fd()) });
        // Without a descriptor for it, the counter still works.
        let ring = ring.and_then(|ring| ring.try_clone_to_owned().ok()).map(Arc::new);
        Ok(RingNotifier { counter: EventFd::new()?, ring: Mutex::new(ring) })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<OwnedFd>>> {
        lock(&self.ring)
    }

    /// Ends messages to the ring, which is about to be closed.
    pub(super) fn detach_ring(&self) {
        let ring = self.lock().take();
        drop(ring);
    }
}

impl AsRawFd for RingNotifier {
    fn as_raw_fd(&self) -> RawFd {
        self.counter.as_raw_fd()
    }
}

impl Notify for RingNotifier {
    fn notify(&self) {
        self.counter.notify();
    }

    fn ring(&self) -> Option<Arc<OwnedFd>> {
        self.lock().clone()
    }
}

impl Uring {
    /// Posts a completion to another driver's ring; returns `false` if that is not possible at
    /// present.
    pub(super) fn message_ring(&mut self, other: &Arc<dyn Notify>) -> bool {
        if !self.features.messages || !self.backlog.is_empty() || self.reaping {
            return false;
        }
        let Some(ring) = other.ring() else { return false };
        let to = types::Fd(ring.as_fd().as_raw_fd());
        let message = opcode::MsgRingData::new(to, 0, MESSAGE, None)
            .build()
            .user_data(MESSAGE_FAILED)
            .flags(Flags::SKIP_SUCCESS);
        // SAFETY: a message names no memory; `notified` keeps the ring that it names open until the
        // submission queue is empty.
        if unsafe { self.ring.sq().push(&message) }.is_err() {
            return false;
        }
        self.notified.push((other.clone(), ring));
        let len = self.ring.sq().len() as u32;
        self.syscalls += 1;
        // SAFETY: no argument is passed, as the flags say.
        let entered = unsafe { self.ring.submitter().enter::<libc::sigset_t>(len, 0, 0, None) };
        // What was not submitted waits for the next turn, but a wake-up must not wait for that.
        entered.is_ok() && self.ring.sq().is_empty()
    }

    /// Notifies all drivers by their event counters that an undelivered message may have been for.
    #[cold]
    pub(super) fn notify_by_counter(&mut self) {
        self.syscalls += self.notified.len() as u64;
        self.notified.iter().for_each(|(other, _)| other.notify());
    }
}
