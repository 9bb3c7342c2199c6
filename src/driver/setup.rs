//! What a driver is asked to be, what came of it, and why it could not be made.

use crate::os::RawFd;
use std::io;

use thiserror::Error;

use super::DriverChoice;

/// What a driver is asked to be.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// How many operations one turn can submit without an extra system call.
    pub(crate) entries: u32,
    /// How many ends of operations fit between two turns, or `None` for a size made for bursts.
    pub(crate) cq_entries: Option<u32>,
    /// Which driver; `None`: what the environment says, or else the best that can be had.
    pub(crate) choice: Option<DriverChoice>,
    /// The most threads for calls that block.
    pub(crate) blocking_threads: usize,
    /// The most memory that is received into before it is asked for, in bytes.
    pub(crate) receive_memory: usize,
    /// Ring opcodes that the ring is made to refuse, for tests.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    pub(crate) refused_opcodes: Vec<u8>,
}

/// The limits of io_uring, which hold for every driver.
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

    /// The sizes of submission and completion queue, checked.
    pub(crate) fn sizes(&self) -> Result<(u32, u32), SetupError> {
        let entries = self.entries;
        if !(1..=MAX_ENTRIES).contains(&entries) {
            return Err(SetupError::InvalidEntries {
                entries,
                queue: "submission",
                max: MAX_ENTRIES,
            });
        }
        // Four times the submissions: room for bursts, at 16 bytes an entry.
        let cq_entries = self
            .cq_entries
            .unwrap_or(entries.next_power_of_two().saturating_mul(4).clamp(1024, MAX_CQ_ENTRIES));
        if !(1..=MAX_CQ_ENTRIES).contains(&cq_entries) {
            return Err(SetupError::InvalidEntries {
                entries: cq_entries,
                queue: "completion",
                max: MAX_CQ_ENTRIES,
            });
        }
        if cq_entries < entries {
            return Err(SetupError::InvalidEntries {
                entries,
                queue: "submission (never more than completion)",
                max: cq_entries,
            });
        }
        Ok((entries, cq_entries))
    }
}

/// What a driver has got.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setup {
    /// The kernel's features in use, by the names of its manual pages.
    pub(crate) flags: Vec<&'static str>,
    pub(crate) queue_sizes: (u32, u32),
    /// The fd by which the kernel knows the driver's queue, if there is one.
    pub(crate) queue_fd: Option<RawFd>,
}

/// Why an [`IoContext`](crate::IoContext) could not be made.
///
/// # Examples
/// ```
/// use corio::{IoContext, SetupError};
/// match IoContext::new(0) {
///     Err(SetupError::InvalidEntries { .. }) => {}
///     other => panic!("zero entries must be refused, got {:?}", other.err()),
/// }
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SetupError {
    /// A queue size that no kernel accepts.
    #[error("{entries} {queue} queue entries: the kernel takes 1 to {max}")]
    InvalidEntries {
        /// What was asked for.
        entries: u32,
        /// `submission` or `completion`.
        queue: &'static str,
        /// The most there can be.
        max: u32,
    },
    /// The kernel is built without io_uring, or is older than 5.1.
    #[error(
        "this kernel has no io_uring (io_uring_setup: {0}): Linux 5.13 or newer is needed, or a \
         seccomp filter answers in its place; see `docs/platforms.md`"
    )]
    Missing(io::Error),
    /// io_uring is there, but older than what this driver builds on.
    #[error("this kernel's io_uring lacks {0}: Linux 5.13 or newer is needed")]
    TooOld(&'static str),
    /// An administrator has forbidden it.
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
    /// A sandbox has forbidden it.
    #[error(
        "io_uring is forbidden by a security policy (io_uring_setup: {0}), as in most container \
         runtimes: allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp \
         profile (Docker: --security-opt seccomp=FILE)"
    )]
    ForbiddenByPolicy(io::Error),
    /// A sandbox has granted a ring, but forbidden an operation that can't be replaced.
    #[error(
        "io_uring's operation {0} is forbidden by a security policy: allow it, or use the readiness \
         driver"
    )]
    ForbiddenOperation(&'static str),
    /// Not enough memory may be locked; kernels before 5.12 count rings against the limit.
    #[error(
        "no memory for a ring of {entries} entries (io_uring_setup: {source}): raise the limit on \
         locked memory (ulimit -l), or ask for fewer entries"
    )]
    Memory {
        /// What was asked for.
        entries: u32,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The process or the system is out of file descriptors.
    #[error("no file descriptor left for a ring ({0}): raise the limit (ulimit -n)")]
    Descriptors(io::Error),
    /// The event counter by which other threads wake the ring could not be made or polled.
    #[error("no way to wake the ring from other threads: {0}")]
    Wakeup(io::Error),
    /// The environment variable `CORIO_DRIVER` names no driver.
    #[error("CORIO_DRIVER={0:?} names no driver: it can be auto, uring or readiness")]
    UnknownDriver(std::ffi::OsString),
    /// This thread has a context already.
    #[error(
        "this thread has an IoContext already, made at {0}: one thread owns one ring; drop the \
         other one first, or use another thread"
    )]
    SecondContext(&'static std::panic::Location<'static>),
    /// Anything else the kernel said.
    #[error("io_uring_setup failed: {0}")]
    Other(io::Error),
}

impl SetupError {
    /// Whether another driver may do better.
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
        assert!(sizes(8, Some(4)).is_err());
        assert!(sizes(8, Some(u32::MAX)).is_err());
        assert_eq!(sizes(MAX_ENTRIES, None).unwrap().1, 65_536);
    }
}
