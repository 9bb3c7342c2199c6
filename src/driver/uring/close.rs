//! Closes: none holds the thread of the ring up. A ring would close most files on that thread, and
//! wait there as `close(2)` does.

// # Why this file has `unsafe`
// It starts operations.

use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};

use io_uring::opcode;

use super::submit;
use super::user_data::{CLOSE, address};
use super::{Uring, sys};
use crate::driver::{Ending, Request, Token};

impl Uring {
    /// Closes a file at once if that does not block, else on a thread, the kernel's or one of ours.
    ///
    /// # Safety
    /// As for [`start`](Self::start).
    #[cold]
    pub(super) unsafe fn start_close(
        &mut self,
        op: Token,
        fd: RawFd,
        known: Ending,
    ) -> Option<i32> {
        let ending = self.ending(fd, known);
        let request = Request::Close { fd, ending };
        match ending {
            Ending::AtOnce => {
                self.syscalls += 1;
                // SAFETY: a close names no memory.
                return Some(unsafe { sys::block(request, self.sigpipe.get()) });
            }
            // SAFETY: both items; only what is known of the close has changed.
            Ending::Waits => unsafe { self.hand_over(op, request) },
            // SAFETY: a close names no memory.
            _ => unsafe { self.push(submit::close(fd, ending).user_data(address(op))) },
        }
        None
    }

    /// Determines how long a close may take, unless that is known.
    fn ending(&mut self, fd: RawFd, known: Ending) -> Ending {
        let found = sys::ending_unless_known(fd, known);
        self.syscalls += found.syscalls;
        found.result
    }

    /// Closes a file of which no operation waits.
    #[inline]
    pub(super) fn close_detached(&mut self, fd: OwnedFd, socket: bool) {
        let known = if socket { Ending::AtOnce } else { Ending::Unknown };
        let ending = self.ending(fd.as_raw_fd(), known);
        match ending {
            Ending::AtOnce => {
                // An entry and its completion cost more than the call.
                self.syscalls += 1;
                drop(fd);
            }
            Ending::Flush | Ending::Disk if self.features.opcodes.has(opcode::Close::CODE) => {
                self.closing += 1;
                let entry = submit::close(fd.into_raw_fd(), ending).user_data(CLOSE);
                // SAFETY: a close names no memory.
                unsafe { self.push(entry) };
            }
            _ => self.closing += usize::from(self.pool().close(fd, ending)),
        }
    }
}
