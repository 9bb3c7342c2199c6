//! The submission side: entries go into the ring, or wait for room, and the kernel is entered.

// # Why this file has `unsafe`
// It writes entries, which name memory, into the ring, and makes the system call.

use std::io;
use std::time::Duration;

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{EnterFlags, squeue};

use super::Uring;
use super::complete::PAUSE;
use crate::driver::Wait;

/// The longest wait that is passed to the kernel, which adds it to the present time in signed
/// nanoseconds without a check for overflow. A turn may return early.
const LONGEST_WAIT: Duration = Duration::from_secs(365 * 24 * 3600);

impl Uring {
    /// Queues an entry; never fails.
    ///
    /// # Safety
    /// All memory that `entry` names is valid for what the entry does with it, and is neither moved
    /// nor freed before the kernel has posted the entry's last completion.
    #[inline(always)]
    pub(super) unsafe fn push(&mut self, entry: squeue::Entry) {
        if self.direct {
            // SAFETY: this function's only item.
            if unsafe { self.ring.sq().push(&entry) }.is_ok() {
                return;
            }
        }
        // SAFETY: the same item.
        unsafe { self.push_slow(entry) };
    }

    /// Queues an entry behind the others that found the submission queue full.
    ///
    /// # Safety
    /// As for [`push`](Self::push).
    #[cold]
    unsafe fn push_slow(&mut self, entry: squeue::Entry) {
        if self.intercept(&entry) {
            return;
        }
        // SAFETY: as in `push`.
        if self.backlog.is_empty() && unsafe { self.ring.sq().push(&entry) }.is_ok() {
            return;
        }
        self.direct = false;
        self.undelivered = true;
        self.backlog.push_back(entry);
        if self.reaping {
            return;
        }
        // An error here recurs in the turn, which reports it.
        let _ = self.enter(0, None);
        self.refill();
    }

    /// Moves entries from the backlog to the submission queue, in order.
    pub(super) fn refill(&mut self) {
        while let Some(entry) = self.backlog.front() {
            // SAFETY: only `push_slow` fills the backlog; its item holds until the entry's last
            // completion, and so at its submission.
            if unsafe { self.ring.sq().push(entry) }.is_err() {
                return;
            }
            self.backlog.pop_front();
        }
        self.direct = !self.refused.any;
    }

    /// Submits everything queued without waiting.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        const TRIES: usize = 1000;
        for _ in 0..TRIES {
            self.refill();
            if self.ring.sq().is_empty() {
                return Ok(());
            }
            self.enter(0, None)?;
        }
        Err(io::Error::from_raw_os_error(libc::EBUSY))
    }

    /// `io_uring_enter(2)`: submits, runs the kernel's deferred work, waits for `want` completions.
    pub(super) fn enter(&mut self, want: usize, timeout: Option<Duration>) -> io::Result<()> {
        let len = self.ring.sq().len() as u32;
        let mut flags = EnterFlags::GETEVENTS;
        if want > 0 && self.features.no_iowait {
            flags |= EnterFlags::NO_IOWAIT;
        }
        self.syscalls += 1;
        let submitter = self.ring.submitter();
        let entered = match timeout {
            Some(timeout) => {
                let timespec = Timespec::from(timeout.min(LONGEST_WAIT));
                let args = SubmitArgs::new().timespec(&timespec);
                flags |= EnterFlags::EXT_ARG;
                // SAFETY: `args` is the structure that EXT_ARG announces, and outlives the call.
                unsafe { submitter.enter(len, want as u32, flags.bits(), Some(&args)) }
            }
            // SAFETY: no argument is passed, as the flags say.
            None => unsafe {
                submitter.enter::<libc::sigset_t>(len, want as u32, flags.bits(), None)
            },
        };
        let Err(error) = entered else { return Ok(()) };
        match error.raw_os_error() {
            // The timeout has elapsed, or a signal came: the caller checks its conditions again.
            Some(libc::ETIME | libc::EINTR) => Ok(()),
            // The kernel holds completions that found the queue full: make room, try again later.
            Some(libc::EBUSY) => {
                self.take_early();
                Ok(())
            }
            // The kernel is out of memory for requests. The entries are still queued.
            Some(libc::EAGAIN) => {
                std::thread::yield_now();
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// Moves completions from a full completion queue to `early`.
    pub(super) fn take_early(&mut self) {
        debug_assert!(!self.reaping, "a second handle to the completion queue");
        // SAFETY: the one handle from `completions` exists while `reaping` is set, during which
        // nothing enters the ring: `push_slow` and `message_ring` check it.
        let taken = unsafe { self.ring.cq() };
        self.early.extend(taken);
        self.undelivered = true;
    }

    /// Looks which lists have something to deliver, and stores whether any has.
    #[cold]
    fn has_undelivered(&mut self) -> bool {
        self.undelivered = !self.reclaimed.is_empty()
            || !self.withdrawn.is_empty()
            || !self.backlog.is_empty()
            || !self.early.is_empty()
            || !self.retries.is_empty()
            || !self.refused.waiting.is_empty();
        self.undelivered
    }

    /// Returns how long a turn may wait for which `wait` was asked: not at all if a list has
    /// something to deliver, or the length of a pause if operations pause that the ring has no
    /// timeout for.
    #[cold]
    pub(super) fn limit_wait(&mut self, wait: Wait) -> Wait {
        let undelivered = self.has_undelivered();
        let is_paused = !self.refused.paused.is_empty();
        // They are tried again in this turn, after the wait.
        self.retries.append(&mut self.refused.paused);
        match wait {
            _ if undelivered => Wait::No,
            Wait::Forever if is_paused => Wait::For(PAUSE),
            Wait::For(limit) if is_paused => Wait::For(limit.min(PAUSE)),
            wait => wait,
        }
    }
}
