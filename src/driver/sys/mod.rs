//! System calls that drivers make themselves, because the host has no better way.
//!
//! Each host has the same few functions:
//!
//! - `attempt` carries a request out without ever waiting: `-EAGAIN` instead;
//! - `block` carries a request out on a thread that may wait, as long as it takes;
//! - `kind` tells which of the two is for a file;
//! - `connected` asks a socket that is connecting how that went;
//! - `sendfile` is an attempt that also counts its system calls.

#[cfg(target_os = "linux")]
mod eventfd;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
#[cfg_attr(corio_polling, allow(unused_imports))]
pub(super) use eventfd::EventFd;

#[cfg(unix)]
pub(super) use unix::*;
#[cfg(windows)]
pub(super) use windows::*;

/// What sort of file an fd is, as far as waiting is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A regular file, a directory or a disk: never "not ready", but the calls take their time.
    Disk,
    /// A TCP socket: a short read says that it is drained. (Of other streams it does not: a Unix
    /// socket ends a read where file descriptors came along.)
    Tcp,
    /// Any other that can be waited for.
    Other,
}
