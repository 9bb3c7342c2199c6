//! An event counter, `eventfd(2)`, that wakes a thread which waits in the kernel and polls it.

// # Why this file has `unsafe`
// It makes the two system calls of the event counter.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::driver::Notify;

/// A kernel event counter. It is never read: each write is an event of its own.
pub(in crate::driver) struct EventFd(OwnedFd);

impl EventFd {
    pub(in crate::driver) fn new() -> io::Result<Self> {
        // SAFETY: no memory is passed.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `eventfd` has just returned this fd, which nothing else owns.
        Ok(EventFd(unsafe { OwnedFd::from_raw_fd(fd) }))
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Notify for EventFd {
    fn notify(&self) {
        let one = 1u64;
        // SAFETY: `one` is eight readable bytes. A write fails only at a count of 2^64 - 1.
        unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
    }
}
