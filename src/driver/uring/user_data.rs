//! The `user_data` of submission entries: an address and a tag, or a number of the driver's own.

// # Why this file has `unsafe`
// It turns addresses that come back from the kernel into tokens.

use std::ptr::NonNull;

use crate::driver::{Record, Token};

/// What the low three bits of a completion's `user_data` say about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Tag {
    /// The operation's own completion.
    Operation = 0,
    /// The completion of a cancel of the operation.
    Cancel = 1,
    /// The file that the operation waits for is ready: the operation is to be tried again.
    Ready = 2,
    /// Never in an entry; in [`Notes`](crate::driver::Notes): a thread of the pool has the
    /// operation.
    Thread = 3,
    /// In an entry: a completion of a multishot receive, with the address of a
    /// [`RecvQueue`](crate::driver::RecvQueue). In `Notes`: the operation waits for such a receive.
    RecvQueue = 4,
    /// The completion of a cancel of a multishot receive, with the address of its queue.
    RecvQueueCancel = 5,
    /// The completion of an open that may wait for the other end of a FIFO.
    Open = 6,
}

/// The bits of `user_data` that hold the [`Tag`].
pub(super) const TAG_BITS: u64 = 0b111;

/// The tag of the driver's own entries, which the other bits distinguish.
const OWN: u64 = 7;

/// The event counter was written: another thread ends this ring's wait.
pub(super) const WAKE: u64 = OWN;

/// A detached close.
pub(super) const CLOSE: u64 = 1 << 3 | OWN;

/// Another ring has sent a message: it ends this ring's wait.
pub(super) const MESSAGE: u64 = 2 << 3 | OWN;

/// A message to another ring could not be delivered.
pub(super) const MESSAGE_FAILED: u64 = 3 << 3 | OWN;

/// A completion without meaning.
pub(super) const IGNORED: u64 = 4 << 3 | OWN;

/// A probe whether the ring refuses an opcode, which is in the upper half.
const PROBE: u64 = 5 << 3 | OWN;

/// Returns the `user_data` of a probe.
pub(super) fn probe_data(opcode: u8) -> u64 {
    u64::from(opcode) << 32 | PROBE
}

/// Returns the opcode of a probe; `None` for any other `user_data`.
pub(super) fn probed_opcode(data: u64) -> Option<u8> {
    (data & u64::from(u32::MAX) == PROBE).then_some((data >> 32) as u8)
}

/// The `user_data` of an operation's own entry.
#[inline(always)]
pub(super) fn address(token: Token) -> u64 {
    token.as_ptr().expose_provenance() as u64
}

/// The `user_data` of another entry on an operation's behalf.
#[inline(always)]
pub(super) fn tagged(token: Token, tag: Tag) -> u64 {
    address(token) | tag as u64
}

/// Prefetches the record behind a completion's `user_data` into the cache, on processors with an
/// instruction for that. A wrong address is no error.
#[inline(always)]
pub(super) fn prefetch(data: u64) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let record = std::ptr::without_provenance::<i8>((data & !TAG_BITS) as usize);
        // SAFETY: a prefetch changes nothing that a program can observe, and never faults.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(record);
            _mm_prefetch::<_MM_HINT_T0>(record.wrapping_add(64));
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = data;
}

/// Returns the operation that a completion's `user_data` names.
///
/// # Safety
/// `data` was made by [`address`] or [`tagged`], so that it is the address of a record.
#[inline(always)]
pub(super) unsafe fn token(data: u64) -> Token {
    let ptr = std::ptr::with_exposed_provenance_mut::<Record>((data & !TAG_BITS) as usize);
    // SAFETY: the address of a record is not null.
    unsafe { NonNull::new_unchecked(ptr) }
}
