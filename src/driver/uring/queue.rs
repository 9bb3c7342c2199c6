//! The submission side: entries go into the ring, or wait for room, and the kernel is entered.
//!
//! # Why this file has `unsafe`
//! It fills the ring, and makes the system call with its argument.

use std::io;
use std::time::Duration;

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{EnterFlags, squeue};

use super::Uring;

/// The kernel adds a wait to the time it is now, in signed nanoseconds, and does not look whether
/// that overflows. A turn may return early.
const LONGEST_WAIT: Duration = Duration::from_secs(365 * 24 * 3600);

impl Uring {
    /// Queues an entry; never fails.
    #[inline(always)]
    pub(super) fn push(&mut self, entry: squeue::Entry) {
        if self.direct {
            // SAFETY: `Driver::submit`'s caller answers for the memory the entry names; the
            // driver's own entries name none.
            if unsafe { self.sq().push(&entry) }.is_ok() {
                return;
            }
        }
        self.push_slow(entry);
    }

    #[cold]
    pub(super) fn push_slow(&mut self, entry: squeue::Entry) {
        if self.intercept(&entry) {
            return;
        }
        // SAFETY: as in `push`.
        if self.backlog.is_empty() && unsafe { self.sq().push(&entry) }.is_ok() {
            return;
        }
        self.direct = false;
        self.unsettled = true;
        self.backlog.push_back(entry);
        if self.reaping {
            return;
        }
        // An error here is met again, and reported, by the turn.
        let _ = self.enter(0, None);
        self.refill();
    }

    /// Moves entries from the backlog to the submission queue, in order.
    pub(super) fn refill(&mut self) {
        while let Some(entry) = self.backlog.front() {
            // SAFETY: as in `push`.
            if unsafe { self.sq().push(entry) }.is_err() {
                return;
            }
            self.backlog.pop_front();
        }
        self.direct = !self.refused.any;
    }

    /// Hands everything queued to the kernel without waiting.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        const TRIES: usize = 1000;
        for _ in 0..TRIES {
            self.refill();
            if self.sq().is_empty() {
                return Ok(());
            }
            self.enter(0, None)?;
        }
        Err(io::Error::from_raw_os_error(libc::EBUSY))
    }

    /// `io_uring_enter(2)`: submits, runs the kernel's deferred work, waits for `want` completions.
    pub(super) fn enter(&mut self, want: usize, timeout: Option<Duration>) -> io::Result<()> {
        let len = self.sq().len() as u32;
        let mut flags = EnterFlags::GETEVENTS;
        if want > 0 && self.features.no_iowait {
            flags |= EnterFlags::NO_IOWAIT;
        }
        self.syscalls += 1;
        let entered = match timeout {
            Some(timeout) => {
                let timespec = Timespec::from(timeout.min(LONGEST_WAIT));
                let args = SubmitArgs::new().timespec(&timespec);
                flags |= EnterFlags::EXT_ARG;
                // SAFETY: `args` is what EXT_ARG asks for, and outlives the call.
                unsafe { self.submitter.enter(len, want as u32, flags.bits(), Some(&args)) }
            }
            // SAFETY: no argument is passed.
            None => unsafe {
                self.submitter.enter::<libc::sigset_t>(len, want as u32, flags.bits(), None)
            },
        };
        let Err(error) = entered else { return Ok(()) };
        match error.raw_os_error() {
            // The time is up, or a signal came: the caller looks at the world again.
            Some(libc::ETIME | libc::EINTR) => Ok(()),
            // The kernel holds completions that found no room: make some, and try again later.
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

    pub(super) fn take_early(&mut self) {
        // SAFETY: no other completion queue handle is alive: `turn` takes its own afterwards.
        let taken = unsafe { self.ring.as_ref().completion_shared() };
        self.early.extend(taken);
        self.unsettled = true;
    }
}
