//! Operations that the ring refuses although the kernel has them.
//!
//! A sandbox may grant a ring and forbid single opcodes (restrictions, Linux 5.10; filters, Linux
//! 7.0). A forbidden entry ends with `EACCES` before anything has happened. But `EACCES` may also
//! be the operation's own answer, such as that of an open. So an operation that ends with it is
//! tried once more, the other way: by the system call that the readiness driver makes. If that
//! answers otherwise, the opcode is left out from then on, and its entries are intercepted before
//! they reach the queue.
//!
//! Polls and cancels have no substitute; a ring that refuses them is not used.

// # Why this file has `unsafe`
// It makes system calls for operations in flight, with the memory that their requests name.

use std::ptr;

use io_uring::squeue::Entry;
use io_uring::{opcode, types};

use super::complete::end;
use super::opcodes::Opcodes;
use super::submit;
use super::user_data::{TAG_BITS, Tag, WAKE, probe_data, probed_opcode, token};
use super::{Uring, sys};
use crate::driver::call::Fallback;
use crate::driver::record::{describe, record};
use crate::driver::sys::Kind;
use crate::driver::{Notes, Record, Request, SetupError, Sink, Token, whole};

/// What is known of refusals.
#[derive(Debug, Default)]
pub(super) struct Refused {
    /// Some opcode is left out.
    pub(super) any: bool,
    /// Operations that are to take the other way.
    pub(super) waiting: Vec<Token>,
    /// Operations that a thread makes to find out whether their opcode is refused.
    suspects: Vec<(Token, u8)>,
}

impl Refused {
    /// Forgets an operation that has ended without an answer.
    pub(super) fn forget(&mut self, op: Token) {
        self.suspects.retain(|&(suspect, _)| suspect != op);
    }

    /// The opcode that is refused, if this answer of a thread shows that.
    pub(super) fn learn(&mut self, op: Token, result: i32) -> Option<u8> {
        let index = self.suspects.iter().position(|&(suspect, _)| suspect == op)?;
        let (_, opcode) = self.suspects.swap_remove(index);
        (result != -libc::EACCES).then_some(opcode)
    }
}

/// The number of bytes that an operation has moved on the other way, if any.
pub(super) fn moved(record: &Record) -> Option<i32> {
    let result = record.result.get();
    (record.notes.get().more && result > 0).then_some(result)
}

/// Entries that probe opcodes when the ring is made, on no file: those without a substitute, and
/// those that later operations must not overtake while a refusal is found out.
fn probes() -> [Entry; 5] {
    let (nowhere, nothing) = (types::Fd(-1), ptr::null_mut());
    [
        opcode::AsyncCancel::new(probe_data(opcode::AsyncCancel::CODE)).build(),
        opcode::Send::new(nowhere, ptr::null(), 0).build(),
        opcode::SendMsg::new(nowhere, ptr::null()).build(),
        opcode::Recv::new(nowhere, ptr::null_mut(), 0).build(),
        opcode::RecvMsg::new(nowhere, nothing).build(),
    ]
}

impl Uring {
    /// Queues the entries that probe opcodes.
    pub(super) fn push_probes(&mut self) {
        for entry in probes() {
            let opcode = entry.get_opcode() as u8;
            // SAFETY: the entries name no memory, or null, which the kernel reports as an error.
            unsafe { self.push(entry.user_data(probe_data(opcode))) };
        }
    }

    /// Takes the ring's first completions: the probes, and a poll that was refused.
    pub(super) fn check_probes(&mut self) -> Result<(), SetupError> {
        // SAFETY: there is no turn yet, which alone keeps a handle.
        let first: Vec<_> = unsafe { self.ring.cq() }.collect();
        for entry in first.iter().filter(|entry| entry.result() == -libc::EACCES) {
            match (entry.user_data(), probed_opcode(entry.user_data())) {
                (WAKE, _) => return Err(SetupError::ForbiddenOperation("IORING_OP_POLL_ADD")),
                (_, Some(opcode::AsyncCancel::CODE)) => {
                    return Err(SetupError::ForbiddenOperation("IORING_OP_ASYNC_CANCEL"));
                }
                (_, Some(opcode)) => self.leave_out(opcode),
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes an entry whose opcode is left out; `false`: it is to be queued.
    #[cold]
    pub(super) fn intercept(&mut self, entry: &Entry) -> bool {
        if !self.refused.any || self.features.opcodes.has(entry.get_opcode() as u8) {
            return false;
        }
        let data = entry.get_user_data();
        let operations = match data & TAG_BITS {
            tag if tag == Tag::Operation as u64 => &mut self.refused.waiting,
            // A pause before the operation is tried again: without it.
            tag if tag == Tag::Ready as u64 => &mut self.retries,
            _ => return false,
        };
        // SAFETY: entries with these tags are made by `address` and `tagged`.
        operations.push(unsafe { token(data) });
        self.undelivered = true;
        true
    }

    /// Leaves an opcode out from now on, and that which must not overtake it: what one task sends,
    /// or receives, by the two ways of a socket is in the order in which it was started.
    pub(super) fn leave_out(&mut self, opcode: u8) {
        const PAIRS: [[u8; 2]; 2] = [
            [opcode::Send::CODE, opcode::SendMsg::CODE],
            [opcode::Recv::CODE, opcode::RecvMsg::CODE],
        ];
        self.features.opcodes.remove(opcode);
        for pair in PAIRS.iter().filter(|pair| pair.contains(&opcode)) {
            pair.iter().for_each(|&opcode| self.features.opcodes.remove(opcode));
        }
        self.refused.any = true;
        self.direct = false;
    }

    /// Leaves out what the answers of threads have shown to be refused.
    pub(super) fn leave_out_all(&mut self, opcodes: Opcodes) {
        opcodes.iter().for_each(|opcode| self.leave_out(opcode));
    }

    /// Lets operations that were refused take the other way; delivers those that end at once.
    #[cold]
    pub(super) fn detour(&mut self, sink: &mut impl Sink) {
        let mut waiting = std::mem::take(&mut self.refused.waiting);
        for op in waiting.drain(..) {
            // SAFETY: operations get into the list by `intercept`, or by their own completion
            // without being delivered: in flight, and neither the kernel nor a thread has them.
            let record = unsafe { record(op) };
            let result = if record.notes.get().cancels > 0 {
                Some(moved(record).unwrap_or(-libc::ECANCELED))
            } else {
                // SAFETY: as above.
                unsafe { self.take_other_way(op, describe(op)) }
            };
            if let Some(result) = result {
                // SAFETY: in flight, and it has just left the only list that it was in.
                unsafe { end(op, result, sink) };
            }
        }
        debug_assert!(self.refused.waiting.is_empty(), "the other way made an operation wait here");
        // Nothing was added meanwhile: only starting an operation makes one wait here.
        self.refused.waiting = waiting;
    }

    /// Carries a request out without the ring's operation for it: `None` if it waits.
    ///
    /// # Safety
    /// 1. `request` is that of `op`, which is in flight.
    /// 2. Neither the kernel nor a thread has the operation.
    unsafe fn take_other_way(&mut self, op: Token, request: Request) -> Option<i32> {
        let Some(opcode) = submit::opcode(&request) else { return Some(-libc::EACCES) };
        let known = !self.features.opcodes.has(opcode);
        let by_thread = match request {
            Request::Call { call, .. } => call.fallback == Fallback::Pool,
            Request::Open { .. } | Request::Close { .. } | Request::Statx { .. } => true,
            Request::Read { fd, .. }
            | Request::Write { fd, .. }
            | Request::Readv { fd, .. }
            | Request::Writev { fd, .. } => sys::kind(fd.fd) == Kind::Disk,
            Request::Accept { .. }
            | Request::Connect { .. }
            | Request::Recv { .. }
            | Request::Send { .. }
            | Request::Recvmsg { .. }
            | Request::Sendmsg { .. } => false,
            Request::Nop => {
                self.leave_out(opcode);
                return Some(0);
            }
            // Rings that refuse polls are not used; the others have no entry of their own.
            Request::Poll { .. }
            | Request::Sendfile { .. }
            | Request::Splice { .. }
            | Request::RecvProvided { .. } => return Some(-libc::EACCES),
        };
        if by_thread {
            if !known {
                self.refused.suspects.push((op, opcode));
            }
            // SAFETY: the operation is in flight (1), and with nothing else (2).
            unsafe { self.hand_over(op, request) };
            return None;
        }
        // SAFETY: the operation's memory is in place (1), and used by nothing else (2).
        let result = unsafe { self.attempt(op, request) };
        if result != -libc::EACCES && !known {
            self.leave_out(opcode);
        }
        match -result {
            // SAFETY: in flight (1), and with nothing else (2).
            libc::EAGAIN | libc::EINPROGRESS => unsafe { self.would_block(op) },
            _ => Some(result),
        }
    }

    /// Makes the system call of a request, without waiting: its result, or `-EAGAIN`.
    ///
    /// # Safety
    /// As for [`take_other_way`](Self::take_other_way).
    unsafe fn attempt(&mut self, op: Token, request: Request) -> i32 {
        let tried = if whole::wants_all(&request) {
            // SAFETY: in flight (1).
            let record = unsafe { record(op) };
            let notes = record.notes.get();
            if !notes.more {
                // From here on it is the number of bytes moved.
                record.result.set(0);
                record.notes.set(Notes { more: true, ..notes });
            }
            // SAFETY: the operation's memory is in place (1), and used by nothing else (2).
            unsafe { whole::attempt(record, request, self.sigpipe) }
        } else {
            // SAFETY: the same.
            unsafe { sys::attempt(request, self.sigpipe) }
        };
        self.syscalls += tried.syscalls;
        tried.result
    }
}
