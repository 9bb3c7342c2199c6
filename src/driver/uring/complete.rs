//! The completion side: handles each completion queue entry, and delivers its operation.

// # Why this file has `unsafe`
// It accesses the records that completions name by their addresses.

use std::time::Duration;

use io_uring::types::Timespec;
use io_uring::{cqueue, opcode};

use super::cancel::CANCEL_TRIES;
use super::user_data::{
    CLOSE, IGNORED, MESSAGE, MESSAGE_FAILED, TAG_BITS, Tag, WAKE, probed_opcode, tagged, token,
};
use super::{Uring, refused, submit};
use crate::driver::record::{describe, record};
use crate::driver::{Notes, Request, Sink, Token};

/// How long an operation waits before it is tried again, where no event says when to: 1 ms.
pub(super) const PAUSE: Duration = Duration::from_millis(1);
static TIMEOUT: Timespec = Timespec::new().nsec(PAUSE.subsec_nanos());

/// Returns `true` if an error number says that something has interrupted an operation: `EINTR`, or
/// what no system call returns, but operations on the kernel's worker threads do (`ERESTARTSYS`,
/// `ERESTARTNOINTR`, `ERESTARTNOHAND` and `ERESTART_RESTARTBLOCK`).
pub(super) fn is_interruption(error: i32) -> bool {
    matches!(error, libc::EINTR | 512..=514 | 516)
}

impl Uring {
    /// Handles one completion. Returns its operation if that has ended, to be delivered.
    ///
    /// # Safety
    /// `entry` was posted by this driver's ring, and has not been handled before.
    #[inline(always)]
    pub(super) unsafe fn complete(&mut self, entry: &cqueue::Entry) -> Option<Token> {
        let data = entry.user_data();
        if data & TAG_BITS == Tag::RecvQueue as u64 {
            // SAFETY: this function's only item, and the tag was just checked.
            return unsafe { self.complete_recv(entry) };
        }
        if data & TAG_BITS != Tag::Operation as u64 {
            // SAFETY: this function's only item, and both tags were just checked.
            return unsafe { self.complete_tagged(entry) };
        }
        // SAFETY: entries with this tag are made by `start` alone, by `address`. The operation is
        // in flight: it is delivered only when `awaited` reaches 0, and until this moment that
        // counts the completion at hand.
        let (token, op) = unsafe {
            let token = token(data);
            (token, record(token))
        };
        debug_assert!(op.notes.get().awaited > 0, "a completion for an operation that has ended");
        let mut result = entry.result();
        if result < 0 {
            // SAFETY: in flight, as above; this completion ends the kernel's use of its memory.
            result = unsafe { self.failure(token, result) }?;
        }
        op.result.set(result);
        let mut notes = op.notes.get();
        if notes.awaited == 1 {
            op.notes.set(Notes { more: cqueue::sock_nonempty(entry.flags()), ..notes });
            return Some(token);
        }
        notes.awaited -= 1;
        op.notes.set(notes);
        None
    }

    /// Decides about a failed attempt: returns the operation's result, or `None` if it goes on.
    ///
    /// # Safety
    /// - `op` is in flight;
    /// - the kernel has ended its attempt, so that nothing uses the operation's memory.
    #[cold]
    pub(super) unsafe fn failure(&mut self, op: Token, result: i32) -> Option<i32> {
        match -result {
            // SAFETY: the same two items.
            libc::EAGAIN => unsafe { self.would_block(op) },
            // SAFETY: the same two items.
            libc::EACCES => unsafe { self.denied(op) },
            // SAFETY: the same two items.
            error if is_interruption(error) => unsafe { self.interrupted(op, result) },
            _ => Some(result),
        }
    }

    /// Decides about an attempt that the kernel has interrupted: a cancel does that to what runs on
    /// one of its worker threads, and so does whatever stops the process for a while, after which
    /// the operation is made again.
    ///
    /// # Safety
    /// As for [`failure`](Self::failure).
    unsafe fn interrupted(&mut self, op: Token, result: i32) -> Option<i32> {
        // SAFETY: both items are those of `describe`.
        let (record, request) = unsafe { (record(op), describe(op)) };
        if record.notes.get().cancels > 0 {
            return Some(-libc::ECANCELED);
        }
        match request {
            // It goes on by itself, and must not be made twice.
            // SAFETY: the same two items.
            Request::Connect { .. } => unsafe { self.would_block(op) },
            // The fd is gone.
            Request::Close { .. } => Some(result),
            _ => {
                // In the list this completion stays counted.
                self.retries.push(op);
                None
            }
        }
    }

    /// Has an operation on an fd in non-blocking mode wait for readiness (`None`), as it would
    /// have waited in the kernel had the fd been in blocking mode; unless it was cancelled.
    ///
    /// # Safety
    /// As for [`failure`](Self::failure).
    pub(super) unsafe fn would_block(&mut self, op: Token) -> Option<i32> {
        // SAFETY: both items are those of `describe`.
        let (record, request) = unsafe { (record(op), describe(op)) };
        let Some((target, events)) = submit::readiness(&request) else {
            return Some(-libc::EAGAIN);
        };
        if record.notes.get().cancels > 0 {
            return Some(-libc::ECANCELED);
        }
        record.set_tag(Tag::Ready as u8);
        // SAFETY: in flight (item 1), so what the request names is in place (clause 1).
        let wait = match unsafe { submit::has_no_readiness(request) } {
            true => opcode::Timeout::new(&TIMEOUT).build(),
            false => submit::poll(target, events),
        };
        // SAFETY: a poll names no memory, and a timeout the static `TIMEOUT`.
        unsafe { self.push(wait.user_data(tagged(op, Tag::Ready))) };
        None
    }

    /// Handles a completion that is not an operation's own.
    ///
    /// # Safety
    /// - `entry` was posted by this driver's ring, and has not been handled before;
    /// - its tag is neither `Operation` nor `RecvQueue`.
    #[cold]
    unsafe fn complete_tagged(&mut self, entry: &cqueue::Entry) -> Option<Token> {
        let data = entry.user_data();
        if let Some(opcode) = probed_opcode(data) {
            self.probed(opcode, entry.result());
            return None;
        }
        match data {
            // The fd is gone, whatever the result: had closes been refused, none would be queued.
            CLOSE => {
                self.closing -= 1;
                return None;
            }
            WAKE => {
                if !cqueue::more(entry.flags()) {
                    self.arm_wake();
                }
                return None;
            }
            MESSAGE | IGNORED => return None,
            MESSAGE_FAILED => {
                // A sandbox may refuse messages; then no more are sent.
                self.features.messages &= entry.result() != -libc::EACCES;
                self.notify_by_counter();
                return None;
            }
            _ => {}
        }
        if data & TAG_BITS == Tag::RecvQueueCancel as u64 {
            // SAFETY: item 1, and the tag was just checked.
            unsafe { self.complete_recv_cancel(entry) };
            return None;
        }
        if data & TAG_BITS == Tag::Open as u64 {
            // SAFETY: item 1, and the tag was just checked.
            return unsafe { self.complete_open(entry) };
        }
        // SAFETY: what is left are entries with the tags `Cancel` and `Ready`, made by `tagged`.
        // The operation is in flight: its record counts this completion in `awaited`.
        let (token, op) = unsafe {
            let token = token(data);
            (token, record(token))
        };
        let is_ready = data & TAG_BITS == Tag::Ready as u64;
        if is_ready && op.notes.get().tag == Tag::Open as u8 {
            // SAFETY: in flight, as above, and the tag was just checked.
            return unsafe { self.complete_fifo_poll(token) };
        }
        if is_ready {
            let result = entry.result();
            if result == -libc::EACCES {
                // The ring refuses the timeout of a pause: turns are short from now on instead.
                self.leave_out(opcode::Timeout::CODE);
            }
            if result >= 0 || result == -libc::ETIME || result == -libc::EACCES {
                // In the list this completion stays counted: a cancel that completes meanwhile must
                // not end the operation.
                self.retries.push(token);
                return None;
            }
            op.result.set(refused::moved(op).unwrap_or(result));
        }
        let mut notes = op.notes.get();
        notes.awaited -= 1;
        op.notes.set(notes);
        if is_ready {
            return (notes.awaited == 0).then_some(token);
        }
        if notes.awaited > 0 {
            // ENOENT while the operation has not ended: it was between two lists. EALREADY: it is
            // running on a kernel worker and will end by itself. EINVAL cannot be helped.
            if entry.result() == -libc::ENOENT && notes.cancels < CANCEL_TRIES {
                // SAFETY: in flight, and its own completion is among those still awaited.
                unsafe { self.cancel_again(token) };
            }
            return None;
        }
        Some(token)
    }

    /// Delivers completions that were taken off a full completion queue before this turn.
    #[cold]
    pub(super) fn deliver_early(&mut self, sink: &mut impl Sink) {
        for entry in std::mem::take(&mut self.early) {
            // SAFETY: `take_early` took it off this ring's queue, and it leaves the list here.
            if let Some(op) = unsafe { self.complete(&entry) } {
                // SAFETY: `complete` has stored the result of the last completion.
                unsafe { sink.deliver(op) };
            }
        }
    }

    /// Tries operations again whose file has become ready, in the order in which that happened;
    /// delivers those that end at once.
    #[cold]
    pub(super) fn retry(&mut self, sink: &mut impl Sink) {
        let mut retries = std::mem::take(&mut self.retries);
        for op in retries.drain(..) {
            // SAFETY: operations get into the list instead of handling their last completion, which
            // stays counted: in flight.
            let record = unsafe { record(op) };
            let notes = record.notes.get();
            if notes.cancels > 0 {
                // The file is ready, but the operation was cancelled while it waited.
                let result = refused::moved(record).unwrap_or(-libc::ECANCELED);
                // SAFETY: in flight, and it has just left the only list that it was in.
                unsafe { end(op, result, sink) };
                continue;
            }
            debug_assert_eq!(notes.awaited, 1, "a second entry for an operation in a list");
            record.set_tag(Tag::Operation as u8);
            if notes.more {
                // A part has been moved the other way, and so must be the rest.
                self.refused.waiting.push(op);
                continue;
            }
            // SAFETY: in flight, and neither the kernel nor a thread uses its memory.
            let mut request = unsafe { describe(op) };
            if let Request::Sendfile { full, .. } = &mut request {
                // The socket has room now.
                *full = false;
            }
            // SAFETY: in flight, and the request is the one just described.
            if let Some(result) = unsafe { self.start(op, request) } {
                // SAFETY: `start` has kept nothing.
                unsafe { end(op, result, sink) };
            }
        }
        debug_assert!(self.retries.is_empty(), "starting an operation made it wait here");
        self.retries = retries;
    }

    /// Delivers operations that threads have finished, and those taken back from the pool.
    #[cold]
    pub(super) fn take_done(&mut self, sink: &mut impl Sink) {
        for op in self.reclaimed.drain(..) {
            // SAFETY: `cancel` put it here with its result, once, when the pool gave it up.
            unsafe { sink.deliver(op) };
        }
        let Some(pool) = self.pool.as_mut().filter(|pool| pool.has_done()) else { return };
        let closing = &mut self.closing;
        pool.take(|op, result| {
            let Some(op) = op else {
                *closing -= 1;
                return;
            };
            // SAFETY: the pool returns each operation once, after its thread's last access; it has
            // been in flight since `pool.submit`.
            unsafe {
                record(op).result.set(result);
                sink.deliver(op);
            }
        });
    }
}

/// Ends an operation that a list of the driver had, which stood for its last completion: delivers
/// it, unless the completion of a cancel is still to come, which then does.
///
/// # Safety
/// - `op` is in flight, and has left the list;
/// - no entry but that of a cancel bears its address, and neither the kernel nor a thread uses its
///   memory.
pub(super) unsafe fn end(op: Token, result: i32, sink: &mut impl Sink) {
    // SAFETY: item 1.
    let record = unsafe { record(op) };
    record.result.set(result);
    let notes = record.notes.get();
    record.notes.set(Notes { awaited: notes.awaited - 1, more: false, ..notes });
    if notes.awaited == 1 {
        // SAFETY: it has ended (both items), and its result is stored.
        unsafe { sink.deliver(op) };
    }
}
