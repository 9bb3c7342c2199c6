//! Cancelling, also of very many operations at once.
//!
//! The kernel finds an operation that is to be cancelled in a hash table of at most 256 rows
//! (`io_ring_ctx_alloc` in its `io_uring.c`), of which each is a list, newest first. One that is
//! cancelled leaves its row when the kernel does the work that it has deferred for this thread.
//! Since 6.13 a call does twenty pieces of that, or as many as completions are asked for
//! (`IO_LOCAL_TW_DEFAULT_MAX`). So 100,000 cancels are 100,000 walks along lists of thousands, past
//! many that are cancelled already.
//!
//! Cancels are therefore kept until the turn. If they are many, they are sent newest first, and the
//! kernel is made to finish each batch: then whatever it looks for is near the front of its row.
//! Either alone does not help.
//!
//! One cancel of everything (`IORING_ASYNC_CANCEL_ANY` with `_ALL`, 5.19) is slower still: it
//! starts over for each operation, at the first row, and passes all that it has found before.
//!
//! # Why this file has `unsafe`
//! It looks at the records of operations in flight.

use std::time::Duration;

use io_uring::opcode;

use super::Uring;
use super::user_data::{Mark, address, mark};
use crate::driver::{Record, Token};

/// Room for so many cancels stays allocated.
const KEPT: usize = 256;

/// A cancel of an operation that is in flight, until the turn.
pub(super) struct Cancel {
    op: Token,
    /// The operation's place among all that were started.
    number: u32,
}

impl Uring {
    /// Remembers to cancel an operation whose own completion has not been settled.
    pub(super) fn cancel_later(&mut self, op: Token, record: &Record) {
        note_cancel(record);
        // Until there is a result, its place holds the number that `submit` has given.
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
            if self.sq().is_full() {
                self.finish_queued();
            }
            // SAFETY: it is not delivered before its cancel has ended.
            self.push_cancel(op, unsafe { op.as_ref() });
        }
        cancels.shrink_to(KEPT);
        self.cancels = cancels;
    }

    /// Has the kernel carry out what is queued, together with the work that it defers.
    fn finish_queued(&mut self) {
        let all = self.features.cq_entries as usize;
        // An error here is met again, and reported, by the turn.
        let _ = self.enter(all, Some(Duration::ZERO));
        self.take_early();
    }

    /// Cancels once more what was missed.
    pub(super) fn cancel_again(&mut self, op: Token, record: &Record) {
        note_cancel(record);
        self.push_cancel(op, record);
    }

    fn push_cancel(&mut self, op: Token, record: &Record) {
        let target = address(op) | u64::from(record.notes.get().mark);
        self.push(opcode::AsyncCancel::new(target).build().user_data(mark(op, Mark::Cancel)));
    }
}

/// One more completion is to come, the cancel's own.
fn note_cancel(record: &Record) {
    let mut notes = record.notes.get();
    notes.awaited += 1;
    notes.cancels += 1;
    record.notes.set(notes);
}
