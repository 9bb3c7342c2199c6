//! Operations on files of a disk that end at once, as what they need is in memory; all others go to
//! the threads.
//!
//! # Why this file has `unsafe`
//! It passes on what the requests of operations in flight point to.

use super::Readiness;
use super::complete::{AGAIN, record};
use super::submit::{advance, rest};
use crate::driver::{Request, Token, sys};
#[cfg(target_os = "linux")]
use crate::driver::{inline_backoff::InlineBackoff, sys::Opener};
use crate::os::RawFd;

/// Opens on this thread.
#[cfg(target_os = "linux")]
#[derive(Default)]
pub(super) struct Opens {
    /// Made by the first open; `None` within: this host has none.
    opener: Option<Option<Opener>>,
    hits: InlineBackoff,
}

impl Readiness {
    /// What of the work for threads takes no waiting.
    #[cfg(target_os = "linux")]
    pub(super) fn at_once(&mut self, request: &Request) -> Option<i32> {
        match *request {
            Request::Statx { dir, path, flags, out } => {
                self.syscalls += 1;
                // SAFETY: the caller of `submit` keeps path and place.
                unsafe { sys::stat_at_once(dir, path, flags, out) }.then_some(0)
            }
            Request::Open { dir, path, flags, .. } if Opener::is_for(flags) => {
                let Opens { opener, hits } = &mut self.opens;
                let opener = opener.get_or_insert_with(Opener::new);
                let opener = opener.as_ref().filter(|_| hits.are_likely())?;
                // SAFETY: the caller of `submit` keeps the path.
                let (result, calls) = unsafe { opener.open(dir, path, flags) };
                self.syscalls += calls;
                hits.note(result.is_some());
                result
            }
            Request::Close { fd } if self.closes_at_once(fd) => {
                self.syscalls += 1;
                // SAFETY: passes no memory.
                Some(unsafe { sys::block(*request, self.sigpipe) })
            }
            _ => None,
        }
    }

    #[cfg(target_os = "linux")]
    pub(super) fn closes_at_once(&mut self, file: RawFd) -> bool {
        let (at_once, calls) = sys::closes_at_once(file);
        self.syscalls += calls;
        at_once
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn closes_at_once(&mut self, _: RawFd) -> bool {
        false
    }

    /// A file's contents may be in memory: then there is no need for another thread.
    pub(super) fn start_on_disk(&mut self, op: Token, request: Request) -> Option<i32> {
        let Request::Read { fd, ptr, len, offset } = request else {
            return self.hand_over(op, request);
        };
        let mut done = 0;
        loop {
            self.syscalls += 1;
            let (ptr, offset) = (ptr.wrapping_add(done as usize), advance(offset, done));
            // SAFETY: as in `hand_over`; what is left of the memory.
            match unsafe { sys::read_cached(fd.fd, ptr, len - done, offset) } {
                0 => return Some(done as i32),
                moved @ 1.. => done += moved as u32,
                AGAIN => {
                    // SAFETY: being submitted.
                    unsafe { record(op) }.result.set(done as i32);
                    return self.hand_over(op, rest(request, done));
                }
                error => return Some(if done > 0 { done as i32 } else { error }),
            }
            if done == len {
                return Some(done as i32);
            }
        }
    }
}
