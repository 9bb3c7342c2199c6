//! Operations on disk files that are tried inline: they complete at once if the data is in the
//! kernel's memory. All others go to threads.

// # Why this file has `unsafe`
// It passes the memory of requests on to system calls.

use super::Readiness;
use super::complete::AGAIN;
use super::submit::rest;
use crate::driver::record::record;
use crate::driver::{Ending, INLINE_LEN, Request, Token, sys};
#[cfg(target_os = "linux")]
use crate::driver::{inline_backoff::InlineBackoff, sys::Opener};
use crate::os::RawFd;

/// The state of opens on this thread.
#[cfg(target_os = "linux")]
#[derive(Default)]
pub(super) struct Opens {
    /// Created by the first open; `None` within: this host cannot have one.
    opener: Option<Option<Opener>>,
    backoff: InlineBackoff,
}

impl Readiness {
    /// Carries out a request for a thread here, if that does not block.
    ///
    /// # Safety
    /// Clauses 1 and 2 of the contract hold for everything that `request` points to.
    #[cfg(target_os = "linux")]
    pub(super) unsafe fn try_inline(&mut self, request: &Request) -> Option<i32> {
        match *request {
            Request::Statx { dir, path, flags, out } => {
                self.syscalls += 1;
                // SAFETY: by clause 1 path and place are valid, by clause 2 `out` may be written.
                unsafe { sys::stat_at_once(dir, path, flags, out) }.then_some(0)
            }
            Request::Open { dir, path, flags, .. } if Opener::is_for(flags) => {
                let Opens { opener, backoff } = &mut self.opens;
                let opener = opener.get_or_insert_with(Opener::new);
                let opener = opener.as_ref().filter(|_| backoff.should_try())?;
                // SAFETY: by clause 1 the path is in place; requests have paths with a NUL.
                let opened = unsafe { opener.open(dir, path, flags) };
                self.syscalls += opened.syscalls;
                backoff.record(opened.result.is_some());
                opened.result
            }
            _ => None,
        }
    }

    /// Determines how long a close may take, unless that is known.
    pub(super) fn ending(&mut self, fd: RawFd, known: Ending) -> Ending {
        let found = sys::ending_unless_known(fd, known);
        self.syscalls += found.syscalls;
        found.result
    }

    /// Closes a file at once if that does not block, else on a thread.
    ///
    /// # Safety
    /// As for [`start`](Self::start).
    pub(super) unsafe fn start_close(
        &mut self,
        op: Token,
        fd: RawFd,
        known: Ending,
    ) -> Option<i32> {
        let ending = self.ending(fd, known);
        let request = Request::Close { fd, ending };
        if ending == Ending::AtOnce {
            self.syscalls += 1;
            // SAFETY: a close names no memory.
            return Some(unsafe { sys::block(request, self.sigpipe.get()) });
        }
        // SAFETY: all three items; only what is known of the close has changed.
        unsafe { self.hand_over(op, request) }
    }

    /// Reads what is in memory, and hands the rest, or any other request, to a thread.
    ///
    /// # Safety
    /// As for [`start`](Self::start).
    pub(super) unsafe fn start_on_disk(&mut self, op: Token, request: Request) -> Option<i32> {
        let (fd, ptr, len, offset) = match request {
            Request::Read { fd, ptr, len, offset } if len <= INLINE_LEN => (fd, ptr, len, offset),
            // SAFETY: all three items.
            _ => return unsafe { self.hand_over(op, request) },
        };
        // SAFETY: item 1: the buffer is in place, and ours to write to.
        let cached = unsafe { sys::read_all_cached(fd.fd, ptr, len, offset) };
        self.syscalls += cached.syscalls;
        let read = cached.read as i32;
        match cached.stopped {
            None => Some(read),
            // SAFETY: all three items; what is handed over is the rest of the request.
            Some(AGAIN) => unsafe {
                record(op).result.set(read);
                self.hand_over(op, rest(request, cached.read))
            },
            Some(error) => Some(if read > 0 { read } else { error }),
        }
    }
}
