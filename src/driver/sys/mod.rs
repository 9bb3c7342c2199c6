//! System calls that drivers make themselves, where the host has no better way.
//!
//! Each host has the same functions, among them:
//!
//! - `attempt` carries a request out without blocking: it returns `-EAGAIN` instead;
//! - `block` carries a request out on a thread that may block;
//! - `ending` says how long a close may take, and `open_waits` whether an open may wait for ever;
//! - `kind` decides which of the two is right for a file;
//! - `connected` returns the outcome of a connect that was under way;
//! - `read_cached` reads file contents that are in memory.

mod cached;
#[cfg(target_os = "linux")]
mod eventfd;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use super::Ending;
use crate::os::RawFd;

pub(super) use cached::{advance, read_all_cached};
#[cfg(target_os = "linux")]
#[cfg_attr(corio_polling, allow(unused_imports))]
pub(super) use eventfd::EventFd;

#[cfg(unix)]
pub(super) use unix::*;
#[cfg(windows)]
pub(super) use windows::*;

/// A result, and the number of system calls that it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counted<T> {
    pub(super) result: T,
    pub(super) syscalls: u64,
}

impl<T> Counted<T> {
    #[inline(always)]
    pub(super) fn new(result: T, syscalls: u64) -> Self {
        Counted { result, syscalls }
    }
}

/// Returns how long the close of `fd` may take, if that is not `known` yet.
pub(super) fn ending_unless_known(fd: RawFd, known: Ending) -> Counted<Ending> {
    if known == Ending::Unknown { ending(fd) } else { Counted::new(known, 0) }
}

/// The kind of a file, as far as waiting is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A regular file, a directory or a disk: always ready, but calls on it take time.
    Disk,
    /// A TCP socket: a short read shows that it is drained. (Of other streams it does not: a Unix
    /// socket ends a read where file descriptors came along.)
    Tcp,
    /// Any other file, whose readiness can be waited for.
    Other,
}
