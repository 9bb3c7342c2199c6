//! The completion side: what each completion means for its operation.
//!
//! # Why this file has `unsafe`
//! It looks at the records that completions name.

use io_uring::types::Timespec;
use io_uring::{cqueue, opcode};

use super::opcodes::Opcodes;
use super::user_data::{
    IGNORED, MARKS, Mark, NEWS, NEWS_LOST, WAKE, closed_fd, mark, record, tried_opcode,
};
use super::{Uring, refused, submit};
use crate::driver::{Driver, Notes, Record, Request, Sink, Token};
use std::os::fd::{FromRawFd, OwnedFd};

/// A cancel can miss an operation that is just moving between two of the kernel's lists; it is
/// then sent again, but not for ever.
const CANCEL_TRIES: u8 = 16;

/// How long an operation that nothing tells when to go on waits before it tries again.
static PAUSE: Timespec = Timespec::new().nsec(1_000_000);

impl Uring {
    /// Sorts out one completion. `true`: its operation has ended and is to be delivered.
    #[inline(always)]
    pub(super) fn complete(&mut self, entry: &cqueue::Entry) -> Option<Token> {
        let data = entry.user_data();
        if data & MARKS == Mark::RecvQueue as u64 {
            return self.settle_feed(entry);
        }
        if data & MARKS != Mark::Whole as u64 {
            return self.settle_marked(entry);
        }
        // SAFETY: the address came from `submit`, and by the contract the record stays in place
        // until its token is delivered, which has not happened: `awaited` was not zero.
        let (token, op) = unsafe { record(data) };
        debug_assert!(op.notes.get().awaited > 0, "a completion for an operation that has ended");
        let mut result = entry.result();
        if result < 0 {
            result = self.failure(token, op, result)?;
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

    /// What an attempt's failure means: `None` if the operation goes on.
    #[cold]
    pub(super) fn failure(&mut self, token: Token, op: &Record, result: i32) -> Option<i32> {
        match -result {
            libc::EAGAIN => self.would_block(token, op),
            libc::EACCES => {
                self.refused.waiting.push(token);
                None
            }
            // A cancel interrupts what is running on a kernel worker.
            libc::EINTR if op.notes.get().cancels > 0 => Some(-libc::ECANCELED),
            _ => Some(result),
        }
    }

    /// An operation on an fd in non-blocking mode waits for readiness here (`None`), as it would
    /// have in the kernel had the fd been in blocking mode; unless it was cancelled.
    pub(super) fn would_block(&mut self, token: Token, op: &Record) -> Option<i32> {
        // SAFETY: the kernel has ended its attempt, so nothing uses the operation's memory.
        let request = unsafe { (op.request)(token) };
        let Some((target, events)) = submit::readiness(&request) else {
            return Some(-libc::EAGAIN);
        };
        let notes = op.notes.get();
        if notes.cancels > 0 {
            return Some(-libc::ECANCELED);
        }
        op.notes.set(Notes { mark: Mark::Ready as u8, ..notes });
        // SAFETY: as above.
        let wait = match unsafe { submit::has_no_readiness(request) } {
            true => opcode::Timeout::new(&PAUSE).build(),
            false => submit::poll(target, events),
        };
        self.push(wait.user_data(mark(token, Mark::Ready)));
        None
    }

    #[cold]
    pub(super) fn settle_marked(&mut self, entry: &cqueue::Entry) -> Option<Token> {
        let data = entry.user_data();
        if let Some(fd) = closed_fd(data) {
            self.closing -= 1;
            if entry.result() == -libc::EACCES {
                self.leave_out(opcode::Close::CODE);
                // SAFETY: the close was given this fd, and refused: it is still open, and nothing else
                // knows it.
                self.close(unsafe { OwnedFd::from_raw_fd(fd) }, false);
            }
            return None;
        }
        if tried_opcode(data).is_some() {
            return None;
        }
        match data {
            WAKE => {
                if !cqueue::more(entry.flags()) {
                    self.arm_wake();
                }
                return None;
            }
            NEWS | IGNORED => return None,
            NEWS_LOST => {
                // A sandbox may refuse messages; then none is tried again.
                self.features.messages &= entry.result() != -libc::EACCES;
                self.notify_by_counter();
                return None;
            }
            _ => {}
        }
        if data & MARKS == Mark::FeedCancel as u64 {
            self.settle_cancel(entry);
            return None;
        }
        // SAFETY: as in `complete`: an operation with a cancel under way is not delivered before
        // the cancel has ended too.
        let (token, op) = unsafe { record(data) };
        let mut notes = op.notes.get();
        notes.awaited -= 1;
        op.notes.set(notes);
        if data & MARKS == Mark::Ready as u64 {
            if entry.result() == -libc::EACCES {
                // The pause is refused: no pause, then.
                self.leave_out(opcode::Timeout::CODE);
                self.again.push(token);
                return None;
            } else if entry.result() < 0 && entry.result() != -libc::ETIME {
                op.result.set(refused::moved(op).unwrap_or(entry.result()));
            } else if notes.cancels > 0 {
                // Ready, but a cancel was requested: that is the answer.
                op.result.set(refused::moved(op).unwrap_or(-libc::ECANCELED));
            } else {
                self.again.push(token);
                return None;
            }
            return (notes.awaited == 0).then_some(token);
        }
        if notes.awaited > 0 {
            // ENOENT while the operation has not ended: it was between two lists. EALREADY: it is
            // running on a kernel worker and will end by itself. EINVAL can't be mended.
            if entry.result() == -libc::ENOENT && notes.cancels < CANCEL_TRIES {
                self.cancel_again(token, op);
            }
            return None;
        }
        Some(token)
    }

    /// Delivers what was taken off a full completion queue before this turn.
    #[cold]
    pub(super) fn deliver_early(&mut self, sink: &mut impl Sink) {
        for entry in std::mem::take(&mut self.early) {
            if let Some(token) = self.complete(&entry) {
                sink.deliver(token);
            }
        }
    }

    /// Tries operations again whose target has become ready; delivers those that end at once.
    #[cold]
    pub(super) fn try_again(&mut self, sink: &mut impl Sink) {
        while let Some(token) = self.again.pop() {
            // SAFETY: the operation is not delivered yet, and nothing uses its memory: its last
            // completion has just been settled.
            let op = unsafe { token.as_ref() };
            let Notes { cancels, more, .. } = op.notes.get();
            op.notes.set(Notes { cancels, more, ..Notes::NEW });
            // SAFETY: as above.
            let mut request = unsafe { (op.request)(token) };
            if let Request::Sendfile { full, .. } = &mut request {
                // There is room now.
                *full = false;
            }
            if let Some(result) = self.start(token, request) {
                op.result.set(result);
                op.notes.set(Notes { awaited: 0, more: false, ..op.notes.get() });
                sink.deliver(token);
            }
        }
    }

    /// Delivers what threads have done, and what was taken back from them.
    #[cold]
    pub(super) fn take_done(&mut self, sink: &mut impl Sink) {
        for op in self.ended.drain(..) {
            sink.deliver(op);
        }
        let Some(pool) = self.pool.as_mut().filter(|pool| pool.has_news()) else { return };
        let (refused, mut left_out) = (&mut self.refused, Opcodes::default());
        pool.take(|op, result| {
            let Some(op) = op else { return };
            if let Some(opcode) = refused.learn(op, result) {
                left_out.insert(opcode);
            }
            // SAFETY: in flight until the next line.
            unsafe { op.as_ref() }.result.set(result);
            sink.deliver(op);
        });
        self.leave_out_all(left_out);
    }
}
