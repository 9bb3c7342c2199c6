//! Opens, which wait for the other end of a FIFO.
//!
//! The kernel tries an open with `O_NONBLOCK` first, and then takes that flag off the file. A FIFO
//! is open to be read at once then, though no program has it open to be written, and to be written
//! it is an error (`ENXIO`). So an open that may have found a FIFO is made once more, on one of the
//! kernel's worker threads (`IOSQE_ASYNC`), where it waits as `open(2)` does.
//!
//! To be read, the file of the first open stays open meanwhile: a writer may have seen it. That
//! writer may also close the FIFO before the second open has begun to wait, which would then wait
//! for the next one. So the first file is polled, and is the result once there is something to read
//! or the writer has gone.

// # Why this file has `unsafe`
// It accesses the records of operations in flight, by their tokens.

use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};

use io_uring::{cqueue, opcode, squeue};

use super::complete::is_interruption;
use super::user_data::{IGNORED, Tag, tagged, token};
use super::{Uring, submit};
use crate::driver::record::{describe, record};
use crate::driver::{Notes, Request, Target, Token, sys};

/// An open that is made for the second time.
pub(super) struct SecondOpen {
    op: Token,
    /// The FIFO that the first open has found, to be read.
    first: Option<OwnedFd>,
    /// A writer of `first` has come.
    has_come: bool,
}

/// Returns `true` if `open(2)` with these flags waits for the other end of a FIFO, and the kernel's
/// ring may not. With the flags that create or truncate a file it has a worker thread from the
/// start.
pub(super) fn may_wait(flags: i32) -> bool {
    const OTHER: i32 =
        libc::O_NONBLOCK | libc::O_PATH | libc::O_DIRECTORY | libc::O_CREAT | libc::O_TRUNC;
    flags & OTHER == 0 && flags & libc::O_ACCMODE != libc::O_RDWR
}

impl Uring {
    /// Queues an open whose completion [`complete_open`](Self::complete_open) handles.
    ///
    /// # Safety
    /// - `op` is in flight, or is being submitted: clauses 1 and 2 of the contract hold for it and
    ///   for everything that `request` points to;
    /// - `request` is what its record describes, an open, and nothing carries it out at present.
    #[inline(never)]
    pub(super) unsafe fn push_open(&mut self, op: Token, request: Request, again: bool) {
        // SAFETY: item 1.
        unsafe { record(op) }.set_tag(Tag::Open as u8);
        let mut entry = submit::entry(request);
        if again {
            entry = entry.flags(squeue::Flags::ASYNC);
        }
        // SAFETY: the entry names a path that by clause 1 stays in place until delivery; and that
        // follows the entry's completion.
        unsafe { self.push(entry.user_data(tagged(op, Tag::Open))) };
    }

    /// Handles the completion of an open. Returns its operation if that has ended.
    ///
    /// # Safety
    /// - `entry` was posted by this driver's ring, and has not been handled before;
    /// - its tag is `Open`.
    #[cold]
    pub(super) unsafe fn complete_open(&mut self, entry: &cqueue::Entry) -> Option<Token> {
        // SAFETY: entries with this tag are made by `push_open`. The operation is in flight: its
        // record counts this completion in `awaited`.
        let (token, op) = unsafe {
            let token = token(entry.user_data());
            (token, record(token))
        };
        let place = self.second_opens.iter().position(|second| second.op == token);
        let is_cancelled = op.notes.get().cancels > 0;
        let result = match place.map(|place| self.second_opens.swap_remove(place)) {
            Some(second) if second.waits_again(entry.result(), is_cancelled) => {
                self.second_opens.push(second);
                // SAFETY: in flight, as above, and this completion ends the kernel's attempt.
                unsafe { self.push_open(token, describe(token), true) };
                return None;
            }
            Some(second) => {
                if second.first.is_some() && !second.has_come {
                    self.cancel_entry(tagged(token, Tag::Ready));
                }
                Some(second.end(entry.result(), is_cancelled))
            }
            // SAFETY: in flight, as above, and this completion ends the kernel's attempt.
            None => unsafe { self.first_result(token, entry.result()) },
        };
        op.result.set(result?);
        let mut notes = op.notes.get();
        notes.awaited -= 1;
        op.notes.set(notes);
        (notes.awaited == 0).then_some(token)
    }

    /// Decides about the first attempt of an open: returns the operation's result, or `None` if it
    /// goes on.
    ///
    /// # Safety
    /// - `op` is in flight, and an open;
    /// - the kernel has ended its attempt, so that nothing uses the operation's memory.
    unsafe fn first_result(&mut self, op: Token, result: i32) -> Option<i32> {
        // SAFETY: both items are those of `describe`.
        let (record, request) = unsafe { (record(op), describe(op)) };
        let Request::Open { flags, .. } = request else { unreachable!("only opens have this tag") };
        let to_write = flags & libc::O_ACCMODE == libc::O_WRONLY;
        let first = match result {
            0.. => {
                self.syscalls += 1;
                if to_write || !sys::is_pipe(result) {
                    return Some(result);
                }
                // SAFETY: the kernel has just opened it for this operation, which has no result.
                Some(unsafe { OwnedFd::from_raw_fd(result) })
            }
            error if error == -libc::ENXIO && to_write => None,
            // SAFETY: both items.
            error => return unsafe { self.failure(op, error) },
        };
        if record.notes.get().cancels > 0 {
            return Some(-libc::ECANCELED);
        }
        if !self.features.opcodes.has(opcode::OpenAt::CODE) {
            // Refused from now on: a thread of the pool waits.
            self.refused.waiting.push(op);
            return None;
        }
        if let Some(first) = &first {
            let target = Target { fd: first.as_raw_fd(), ..Target::NONE };
            let poll = submit::poll(target, libc::POLLIN as u32).user_data(tagged(op, Tag::Ready));
            let notes = record.notes.get();
            record.notes.set(Notes { awaited: notes.awaited + 1, ..notes });
            // SAFETY: a poll names no memory; the file is open until it is closed by `end`, which
            // follows the submission.
            unsafe { self.push(poll) };
        }
        self.second_opens.push(SecondOpen { op, first, has_come: false });
        // SAFETY: in flight (item 1), and nothing carries it out (item 2).
        unsafe { self.push_open(op, request, true) };
        None
    }

    /// Handles the completion of the poll of a FIFO. Returns its operation if that has ended.
    ///
    /// # Safety
    /// - `op` is in flight, and counts this completion in `awaited`;
    /// - its tag in [`Notes`] is `Open`.
    #[cold]
    pub(super) unsafe fn complete_fifo_poll(&mut self, op: Token) -> Option<Token> {
        if let Some(second) = self.second_opens.iter_mut().find(|second| second.op == op) {
            second.has_come = true;
            self.cancel_entry(tagged(op, Tag::Open));
        }
        // SAFETY: item 1.
        let record = unsafe { record(op) };
        let mut notes = record.notes.get();
        notes.awaited -= 1;
        record.notes.set(notes);
        (notes.awaited == 0).then_some(op)
    }

    /// Cancels an entry of an operation that is not itself cancelled.
    fn cancel_entry(&mut self, user_data: u64) {
        let cancel = opcode::AsyncCancel::new(user_data).build().user_data(IGNORED);
        // SAFETY: a cancel names no memory, only numbers.
        unsafe { self.push(cancel) };
    }
}

impl SecondOpen {
    /// Returns `true` if something else than the operation's end has interrupted the wait.
    fn waits_again(&self, result: i32, is_cancelled: bool) -> bool {
        is_interruption(-result) && !is_cancelled && !self.has_come
    }

    /// Returns the operation's result, by that of the second open.
    fn end(self, result: i32, is_cancelled: bool) -> i32 {
        match (result, self.first) {
            (0.., _) => result,
            (_, Some(first)) if self.has_come => first.into_raw_fd(),
            (error, _) if is_cancelled && is_interruption(-error) => -libc::ECANCELED,
            (error, _) => error,
        }
    }
}
