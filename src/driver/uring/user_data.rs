//! What an entry's `user_data` says: whose it is, and what its completion means.
//!
//! # Why this file has `unsafe`
//! It turns addresses that come back from the kernel into records.

use std::os::fd::RawFd;
use std::ptr::NonNull;

use crate::driver::{Record, Token};

/// What the low three bits of a completion's `user_data` say about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Mark {
    /// The operation itself has ended.
    Whole = 0,
    /// A cancel of the operation has been carried out.
    Cancel = 1,
    /// What the operation acts on is ready: try the operation again.
    Ready = 2,
    /// Never on an entry: the operation is with a thread.
    Thread = 3,
    /// A receive that goes on by itself: not an operation's address but a feed's. On an operation: it waits
    /// for one.
    RecvQueue = 4,
    /// A cancel of such a receive has been carried out.
    FeedCancel = 5,
}

pub(super) const MARKS: u64 = 0b111;

/// `user_data` of the driver's own entries: the mark 7 is used by no operation.
pub(super) const WAKE: u64 = 7;

/// The `user_data` of a detached close: [`CLOSE`], and the fd in the upper half.
pub(super) fn close(fd: RawFd) -> u64 {
    (fd as u64) << 32 | CLOSE
}

/// The `user_data` of an entry that tries out whether its opcode is refused.
pub(super) fn trial(opcode: u8) -> u64 {
    u64::from(opcode) << 32 | TRIAL
}

/// The opcode that was tried out.
pub(super) fn tried_opcode(data: u64) -> Option<u8> {
    (data & u64::from(u32::MAX) == TRIAL).then_some((data >> 32) as u8)
}

const TRIAL: u64 = 40 | 7;

/// The fd of a detached close.
pub(super) fn closed_fd(data: u64) -> Option<RawFd> {
    (data & u64::from(u32::MAX) == CLOSE).then_some((data >> 32) as RawFd)
}

const CLOSE: u64 = 8 | 7;

/// Another ring has written: there is news.
pub(super) const NEWS: u64 = 16 | 7;

/// What was written to another ring did not get there.
pub(super) const NEWS_LOST: u64 = 24 | 7;

/// Nobody wants to know.
pub(super) const IGNORED: u64 = 32 | 7;

#[inline(always)]
pub(super) fn address(token: Token) -> u64 {
    token.as_ptr().expose_provenance() as u64
}

#[inline(always)]
pub(super) fn mark(token: Token, mark: Mark) -> u64 {
    address(token) | mark as u64
}

/// Fetches the record behind a completion's `user_data` into the cache, on processors where that can
/// be said. Any value will do: a wrong address is no error.
#[inline(always)]
pub(super) fn prefetch(data: u64) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let record = std::ptr::without_provenance::<i8>((data & !MARKS) as usize);
        // SAFETY: a prefetch reads nothing that a program could notice, and never faults.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(record);
            _mm_prefetch::<_MM_HINT_T0>(record.wrapping_add(64));
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = data;
}

/// The record behind a completion's `user_data`.
///
/// # Safety
/// The address was made by [`address`], and the record has not been given up since.
#[inline(always)]
pub(super) unsafe fn record<'a>(data: u64) -> (Token, &'a Record) {
    let ptr = std::ptr::with_exposed_provenance_mut::<Record>((data & !MARKS) as usize);
    // SAFETY: the caller promises that the record is there.
    unsafe { (NonNull::new_unchecked(ptr), &*ptr) }
}
