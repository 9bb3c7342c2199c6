//! File descriptors, and what else differs between hosts, each under one name.
//!
//! On Unix, [`OwnedFd`] and its relatives are those of `std::os::fd`. On Windows they are types
//! that hold a socket or any other file.

// # Why this file has `unsafe`
// It makes a message header of zeros.

pub(crate) mod idle;
pub(crate) mod lock;
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

/// A message without buffers, address and control data. Zeroed, as some C libraries have private
/// fields in it.
// SAFETY: null pointers, lengths and flags of zero are valid for every field.
pub(crate) const EMPTY_HEADER: msghdr = unsafe { std::mem::zeroed() };

/// The error number of operations that a time limit has ended, distinct from TCP's `ETIMEDOUT`.
/// Greater than every error number of a host (4095 on Linux, 15999 on Windows); fits into 16 bits.
pub(crate) const TIME_LIMIT: i32 = 0xF000;

/// The error number of a read or receive into buffers without room; the system has none like it.
pub(crate) const NO_ROOM: i32 = 0xF001;

/// A time stamp: seconds since 1970-01-01 00:00 UTC, and nanoseconds.
pub(crate) type Time = (i64, u32);

/// Access to the fields of a [`Stat`], the host's own structure.
pub(crate) trait StatParts {
    fn size(&self) -> u64;
    /// Returns the type of the file, and on Unix its permissions.
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
