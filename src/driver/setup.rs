//! A driver's settings, what the host granted, and the errors of creating one.

use crate::os::RawFd;
use std::io;

use thiserror::Error;

use super::DriverChoice;
use crate::error::debug_as_display;

/// The settings of a driver.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The size of the submission queue: the operations that one turn can submit by one system
    /// call.
    pub(crate) entries: u32,
    /// The size of the completion queue; `None`: a size with room for bursts.
    pub(crate) cq_entries: Option<u32>,
    /// The driver; `None`: as the environment says, or else [`DriverChoice::Auto`].
    pub(crate) choice: Option<DriverChoice>,
    /// The most threads for calls that block.
    pub(crate) blocking_threads: usize,
    /// The most memory for bytes received before an operation asks for them, in bytes.
    pub(crate) receive_memory: usize,
    /// Ring opcodes that the ring is made to refuse, for tests.
    #[cfg_attr(not(corio_uring), allow(dead_code))]
    pub(crate) refused_opcodes: Vec<u8>,
}

/// The largest queues of io_uring, which are the limits of every driver.
pub(crate) const MAX_ENTRIES: u32 = 32_768;
pub(crate) const MAX_CQ_ENTRIES: u32 = 2 * MAX_ENTRIES;

/// The most registered files that a table can have.
pub(crate) const MAX_SLOTS: u32 = 1 << 20;

impl Settings {
    pub(crate) fn new(entries: u32) -> Self {
        Settings {
            entries,
            cq_entries: None,
            choice: None,
            blocking_threads: 8,
            receive_memory: 256 << 20,
            refused_opcodes: Vec::new(),
        }
    }

    /// Checks and returns the sizes of the submission and the completion queue.
    pub(crate) fn sizes(&self) -> Result<(u32, u32), SetupError> {
        let entries = self.entries;
        if !(1..=MAX_ENTRIES).contains(&entries) {
            return Err(SetupError::InvalidEntries {
                entries,
                queue: "submission",
                min: 1,
                max: MAX_ENTRIES,
            });
        }
        // Four times the submissions: room for bursts, at 16 bytes an entry.
        let cq_entries = self
            .cq_entries
            .unwrap_or(entries.next_power_of_two().saturating_mul(4).clamp(1024, MAX_CQ_ENTRIES));
        // Every submission has a completion.
        if !(entries..=MAX_CQ_ENTRIES).contains(&cq_entries) {
            return Err(SetupError::InvalidEntries {
                entries: cq_entries,
                queue: "completion",
                min: entries,
                max: MAX_CQ_ENTRIES,
            });
        }
        Ok((entries, cq_entries))
    }
}

/// What the host has granted to a driver.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setup {
    /// The names of the kernel's features in use, as in its manual pages; for reports.
    pub(crate) flags: Vec<&'static str>,
    pub(crate) queue_sizes: (u32, u32),
    /// The ring's fd, if the driver has a ring.
    pub(crate) queue_fd: Option<RawFd>,
}

/// The error of creating an [`IoContext`](crate::IoContext).
///
/// # Examples
/// ```
/// use corio::{IoContext, SetupError};
/// match IoContext::new(0) {
///     Err(SetupError::InvalidEntries { .. }) => {}
///     other => panic!("zero entries must be refused, got {:?}", other.err()),
/// }
/// ```
#[derive(Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The size of a queue is out of range.
    #[error("invalid size of the {queue} queue: {entries} entries; use {min} to {max}")]
    InvalidEntries {
        /// The size that was asked for.
        entries: u32,
        /// The queue: `submission` or `completion`.
        queue: &'static str,
        /// The smallest possible size: 1, or that of the submission queue.
        min: u32,
        /// The largest possible size.
        max: u32,
    },
    /// The kernel is built without io_uring, or is older than 5.1.
    #[error(
        "this kernel has no io_uring (io_uring_setup: {0}): Linux 5.13 or newer is needed, or a \
         seccomp filter answers in its place; see `docs/platforms.md`"
    )]
    Missing(io::Error),
    /// The kernel's io_uring is older than what the driver needs.
    #[error("this kernel's io_uring lacks {0}: Linux 5.13 or newer is needed")]
    TooOld(&'static str),
    /// The administrator has disabled io_uring.
    #[error(
        "io_uring is forbidden by the sysctl kernel.io_uring_disabled={value}: {}",
        if *.value == 2 { "set it to 0 to allow it" } else {
            "set it to 0, or put this process into the group kernel.io_uring_group"
        }
    )]
    ForbiddenBySysctl {
        /// The value read from `/proc/sys/kernel/io_uring_disabled`.
        value: u32,
    },
    /// A sandbox denies io_uring.
    #[error(
        "io_uring is forbidden by a security policy (io_uring_setup: {0}), as in most container \
         runtimes: allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp \
         profile (Docker: --security-opt seccomp=FILE)"
    )]
    ForbiddenByPolicy(io::Error),
    /// A sandbox granted a ring, but forbids an operation that has no substitute.
    #[error(
        "io_uring's operation {0} is forbidden by a security policy: allow it, or use the \
         readiness driver"
    )]
    ForbiddenOperation(&'static str),
    /// The limit on locked memory is too low; kernels before 5.12 count rings against it.
    #[error(
        "no memory for a ring of {entries} entries (io_uring_setup: {source}): raise the limit on \
         locked memory (ulimit -l), or ask for fewer entries"
    )]
    Memory {
        /// The size that was asked for.
        entries: u32,
        /// The kernel's error.
        source: io::Error,
    },
    /// The process or the system is out of file descriptors.
    #[error("no file descriptor left for a driver ({0}): raise the limit (ulimit -n)")]
    Descriptors(io::Error),
    /// The event counter by which other threads wake the ring could not be created or polled.
    #[error("cannot create or poll the eventfd that wakes the ring from other threads: {0}")]
    Wakeup(io::Error),
    /// The environment variable `CORIO_DRIVER` names no driver.
    #[error("unknown driver in CORIO_DRIVER={0:?}: use auto, uring or readiness")]
    UnknownDriver(std::ffi::OsString),
    /// The thread has a context already.
    #[error(
        "this thread has an IoContext already, made at {0}: drop that one first, or use another \
         thread"
    )]
    SecondContext(&'static std::panic::Location<'static>),
    /// Any other error of the kernel.
    #[error("cannot create the driver: {0}")]
    Other(io::Error),
}

debug_as_display!(SetupError);

impl SetupError {
    /// Returns `true` if another driver may succeed.
    pub(crate) fn is_about_io_uring(&self) -> bool {
        !matches!(
            self,
            SetupError::InvalidEntries { .. }
                | SetupError::Descriptors(_)
                | SetupError::UnknownDriver(_)
                | SetupError::SecondContext(_)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurd_sizes_are_refused_before_the_kernel_sees_them() {
        let sizes = |entries, cq_entries| Settings { cq_entries, ..Settings::new(entries) }.sizes();
        assert!(sizes(0, None).is_err());
        assert!(sizes(MAX_ENTRIES + 1, None).is_err());
        assert!(sizes(8, Some(0)).is_err());
        let small = sizes(8, Some(4)).unwrap_err().to_string();
        assert!(small.contains("completion queue: 4 entries; use 8 to "), "{small}");
        assert!(sizes(8, Some(u32::MAX)).is_err());
        assert_eq!(sizes(MAX_ENTRIES, None).unwrap().1, 65_536);
    }
}
