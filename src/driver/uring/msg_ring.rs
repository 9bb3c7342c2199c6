//! Between rings: how one context ends the wait of another.
//!
//! A thread without a ring writes to an event counter, which the other ring polls. A thread with one
//! has the kernel write a completion into the other ring (`IORING_OP_MSG_RING`): that spares the woken
//! side the poll. The message is submitted at once, as an event counter would be written at once: whoever
//! wakes somebody may be about to wait for him.
//!
//! # Why this file has `unsafe`
//! It queues entries and submits them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use io_uring::squeue::Flags;
use io_uring::{IoUring, opcode, types};

use super::Uring;
use super::user_data::{NEWS, NEWS_LOST};
use crate::driver::Notify;
use crate::driver::sys::EventFd;

/// How a ring is told that there is news.
pub(super) struct Bell {
    counter: EventFd,
    /// The ring, under an fd of its own, as long as its driver lives: the driver's fd may be another
    /// file's by the time that somebody uses it.
    ring: Mutex<Option<Arc<OwnedFd>>>,
}

impl Bell {
    /// `ring`: if others may write to it.
    pub(super) fn new(ring: Option<&IoUring>) -> io::Result<Self> {
        // SAFETY: the ring is there, and so is its fd.
        let ring = ring.map(|ring| unsafe { BorrowedFd::borrow_raw(ring.as_raw_fd()) });
        // Without one there is still the counter.
        let ring = ring.and_then(|ring| ring.try_clone_to_owned().ok()).map(Arc::new);
        Ok(Bell { counter: EventFd::new()?, ring: Mutex::new(ring) })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<OwnedFd>>> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ring goes: nobody is to write to it any more.
    pub(super) fn silence(&self) {
        let ring = self.lock().take();
        drop(ring);
    }
}

impl AsRawFd for Bell {
    fn as_raw_fd(&self) -> RawFd {
        self.counter.as_raw_fd()
    }
}

impl Notify for Bell {
    fn notify(&self) {
        self.counter.notify();
    }

    fn ring(&self) -> Option<Arc<OwnedFd>> {
        self.lock().clone()
    }
}

impl Uring {
    /// Writes a completion into the other's ring; `false`: that is not to be had.
    pub(super) fn write_news(&mut self, other: &Arc<dyn Notify>) -> bool {
        if !self.features.messages || !self.backlog.is_empty() || self.reaping {
            return false;
        }
        let Some(ring) = other.ring() else { return false };
        let to = types::Fd(ring.as_fd().as_raw_fd());
        let message = opcode::MsgRingData::new(to, 0, NEWS, None)
            .build()
            .user_data(NEWS_LOST)
            .flags(Flags::SKIP_SUCCESS);
        // SAFETY: a message names no memory; the ring it names is kept open until it is submitted.
        if unsafe { self.sq().push(&message) }.is_err() {
            return false;
        }
        self.notified.push((other.clone(), ring));
        let len = self.sq().len() as u32;
        self.syscalls += 1;
        // SAFETY: no argument is passed.
        let entered = unsafe { self.submitter.enter::<libc::sigset_t>(len, 0, 0, None) };
        // What was not submitted is so by the next turn; nobody should have to wait for that.
        entered.is_ok() && self.sq().is_empty()
    }

    /// A message was not delivered: all who may be meant are told in the other way.
    #[cold]
    pub(super) fn notify_by_counter(&mut self) {
        self.syscalls += self.notified.len() as u64;
        self.notified.iter().for_each(|(other, _)| other.notify());
    }
}
