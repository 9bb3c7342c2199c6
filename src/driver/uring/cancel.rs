//! Cancellation, also of very many operations at once.
//!
//! The kernel finds the operation that is to be cancelled in a hash table of at most 256 rows
//! (`io_ring_ctx_alloc` in its `io_uring.c`). Each row is a list, newest first. A cancelled
//! operation leaves its row when the kernel runs the work that it has deferred for this thread;
//! since 6.13 one call runs twenty pieces of that work, or as many as completions are asked for
//! (`IO_LOCAL_TW_DEFAULT_MAX`). So 100,000 cancels are 100,000 walks along lists of thousands, past
//! many that are cancelled already.
//!
//! Cancels are therefore kept until the turn. If they are many, they are sent newest first, and the
//! kernel is made to finish each batch: then the operation that it looks for is near the front of
//! its row. Either measure alone does not help.
//!
//! One cancel of everything (`IORING_ASYNC_CANCEL_ANY` with `_ALL`, 5.19) is slower still: it
//! starts over for each operation, at the first row, and passes all that it has found before.

// # Why this file has `unsafe`
// It accesses the records of operations in flight, by their tokens.

use std::time::Duration;

use io_uring::opcode;

use super::Uring;
use super::user_data::{Tag, address, tagged};
use crate::driver::record::record;
use crate::driver::{Record, Token};

/// How often one cancel is sent. A cancel misses an operation that is just moving between two of
/// the kernel's lists (`ENOENT`), and is then sent again, but not without limit: more often than
/// the kernel polls the file of one operation (`APOLL_MAX_RETRY`, 128) before it has a worker
/// thread wait, which a cancel finds.
pub(super) const CANCEL_TRIES: u8 = 200;

/// The number of remembered cancels for which memory stays allocated.
const KEPT: usize = 256;

/// A cancel of an operation that is in flight, until the next turn.
pub(super) struct Cancel {
    op: Token,
    /// The operation's place in the order of submission.
    number: u32,
}

impl Uring {
    /// Remembers to cancel an operation. From here on the operation is delivered only after its
    /// cancel has completed, too.
    ///
    /// # Safety
    /// - `op` is in flight;
    /// - its own last completion has not been handled, so that one more can be awaited.
    pub(super) unsafe fn cancel_later(&mut self, op: Token) {
        // SAFETY: item 1.
        let record = unsafe { record(op) };
        await_cancel(record);
        // Until there is a result, its place holds the number that `submit` has assigned.
        self.cancels.push(Cancel { op, number: record.result.get() as u32 });
    }

    /// Queues the cancels that were remembered.
    #[cold]
    pub(super) fn send_cancels(&mut self) {
        let mut cancels = std::mem::take(&mut self.cancels);
        if cancels.len() > self.features.sq_entries as usize {
            let now = self.started;
            cancels.sort_unstable_by_key(|cancel| now.wrapping_sub(cancel.number));
        }
        for Cancel { op, .. } in cancels.drain(..) {
            if self.ring.sq().is_full() {
                self.finish_queued();
            }
            // SAFETY: `cancel_later` had it in flight, and has counted one more completion, which
            // is that of the entry made here: so it has not been delivered since.
            unsafe { self.push_cancel(op) };
        }
        cancels.shrink_to(KEPT);
        self.cancels = cancels;
    }

    /// Has the kernel carry out what is queued, together with the work that it defers.
    fn finish_queued(&mut self) {
        let all = self.features.cq_entries as usize;
        // An error here recurs in the turn, which reports it.
        let _ = self.enter(all, Some(Duration::ZERO));
        self.take_early();
    }

    /// Sends a cancel that missed once more.
    ///
    /// # Safety
    /// As for [`cancel_later`](Self::cancel_later).
    pub(super) unsafe fn cancel_again(&mut self, op: Token) {
        // SAFETY: item 1; it stays in flight, as one more completion is counted.
        unsafe {
            await_cancel(record(op));
            self.push_cancel(op);
        }
    }

    /// # Safety
    /// `op` is in flight, and the completion of this cancel has been counted in its record.
    unsafe fn push_cancel(&mut self, op: Token) {
        // SAFETY: this function's only item.
        let tag = unsafe { record(op) }.notes.get().tag;
        let target = address(op) | u64::from(tag);
        let cancel = opcode::AsyncCancel::new(target).build().user_data(tagged(op, Tag::Cancel));
        // SAFETY: a cancel names no memory, only numbers.
        unsafe { self.push(cancel) };
    }
}

/// Counts one more completion to come: the cancel's own.
fn await_cancel(record: &Record) {
    let mut notes = record.notes.get();
    notes.awaited += 1;
    notes.cancels += 1;
    record.notes.set(notes);
}
