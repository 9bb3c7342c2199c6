//! The host's own types and constants, where hosts differ, each under one name.
//!
//! On Unix, [`OwnedFd`] and its relatives are those of `std::os::fd`. On Windows they are types that
//! hold a socket or any other file.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
#[allow(non_camel_case_types)] // The names are those of Unix.
mod windows;

#[cfg(unix)]
pub use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
#[cfg(unix)]
pub(crate) use unix::*;
#[cfg(windows)]
pub(crate) use windows::*;
#[cfg(windows)]
pub use windows::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};

/// The error number of operations that a time limit has ended, so that they are told from TCP's
/// `ETIMEDOUT`. Beyond the numbers of every host (4095 on Linux, 15999 on Windows), and fits 16 bits.
pub(crate) const TIME_LIMIT: i32 = 0xF000;

/// A point in time: seconds since 1970, and nanoseconds.
pub(crate) type Time = (i64, u32);

/// The parts of a [`Stat`].
pub(crate) trait StatParts {
    fn size(&self) -> u64;
    /// The kind of file, and on Unix its permissions.
    fn mode(&self) -> u32;
    #[cfg(unix)]
    fn ino(&self) -> u64;
    #[cfg(unix)]
    fn dev(&self) -> u64;
    #[cfg(unix)]
    fn nlink(&self) -> u64;
    fn modified(&self) -> Option<Time>;
    fn accessed(&self) -> Option<Time>;
    fn created(&self) -> Option<Time>;
}
