//! Operations that the ring refuses although the kernel has them.
//!
//! A sandbox may grant a ring and forbid single opcodes (restrictions, Linux 5.10; filters, Linux
//! 7.0). A forbidden entry ends with `EACCES` before anything has happened. But `EACCES` may also
//! be the operation's own answer: that of an open, but also that of a close, whose fd is gone then,
//! or an error that is reported only once, as by fsync. So no operation is repeated to find out.
//! Its opcode is probed instead, on no file: if that is refused too, the opcode is left out from
//! then on, its entries are intercepted before they reach the queue, and operations take the other
//! way, by the system call that the readiness driver makes.
//!
//! Polls and cancels have no substitute; a ring that refuses them is not used.

// # Why this file has `unsafe`
// It makes system calls for operations in flight, with the memory that their requests name.

use std::ptr;

use io_uring::opcode;
use io_uring::squeue::Entry;

use super::complete::end;
use super::opcodes::Opcodes;
use super::submit;
use super::user_data::{TAG_BITS, Tag, WAKE, probe_data, probed_opcode, token};
use super::{Uring, sys};
use crate::driver::call::{Args, Fallback};
use crate::driver::record::{describe, record};
use crate::driver::sys::Kind;
use crate::driver::{Ending, Notes, Record, Request, SetupError, Sink, Target, Token, whole};
use crate::os;

/// What is known of refusals.
#[derive(Debug, Default)]
pub(super) struct Refused {
    /// Some opcode is left out.
    pub(super) any: bool,
    /// Operations that are to take the other way.
    pub(super) waiting: Vec<Token>,
    /// Operations that pause before they are tried again.
    pub(super) paused: Vec<Token>,
    /// Operations that have ended with `EACCES`, until their opcode is probed.
    suspects: Vec<(Token, u8)>,
    /// Opcodes that were probed and are not refused.
    granted: Opcodes,
}

/// The number of bytes that an operation has moved on the other way, if any.
pub(super) fn moved(record: &Record) -> Option<i32> {
    let result = record.result.get();
    (record.notes.get().more && result > 0).then_some(result)
}

/// Requests that are probed when the ring is made: what must not be overtaken by what was started
/// after it while its refusal is found out, and closes, of which some are no operations.
fn first_probes() -> [Request; 5] {
    let (fd, ptr) = (Target::NONE, ptr::null_mut());
    [
        Request::Send { fd, ptr, len: 0, flags: 0 },
        Request::Sendmsg { fd, msg: ptr::null(), flags: 0 },
        Request::Recv { fd, ptr, len: 0, flags: 0 },
        Request::Recvmsg { fd, msg: ptr::null_mut(), flags: 0 },
        Request::Close { fd: -1, ending: Ending::AtOnce },
    ]
}

/// An entry with the opcode of `request` that does nothing: there is no file that it could act on.
/// All else is valid, as filters see only entries that the kernel could parse.
fn probe_entry(request: &Request) -> Entry {
    const NAME: *const libc::c_char = c"relative".as_ptr();
    const MESSAGE: &libc::msghdr = &os::EMPTY_HEADER;
    let (fd, ptr, dir) = (Target::NONE, ptr::null_mut(), -1);
    submit::entry(match *request {
        Request::Call { call, .. } => {
            let ptrs = [NAME.cast_mut().cast(); 3];
            let args = Args { files: [fd; 2], dirs: [dir; 2], ptrs, words: [0; 4] };
            let Some(ring) = &call.ring else { return opcode::Nop::new().build() };
            return (ring.entry)(&args);
        }
        Request::Read { .. } => Request::Read { fd, ptr, len: 0, offset: 0 },
        Request::Write { .. } => Request::Write { fd, ptr, len: 0, offset: 0 },
        Request::Readv { .. } => Request::Readv { fd, iov: ptr::null(), count: 0, offset: 0 },
        Request::Writev { .. } => Request::Writev { fd, iov: ptr::null(), count: 0, offset: 0 },
        Request::Open { .. } => Request::Open { dir, path: NAME, flags: 0, mode: 0 },
        Request::Close { .. } => Request::Close { fd: -1, ending: Ending::AtOnce },
        Request::Statx { .. } => Request::Statx { dir, path: NAME, flags: 0, out: ptr::null_mut() },
        Request::Accept { .. } => {
            Request::Accept { fd, addr: ptr::null_mut(), addr_len: ptr::null_mut() }
        }
        Request::Connect { .. } => Request::Connect { fd, addr: ptr::null(), addr_len: 0 },
        Request::Recv { .. } | Request::RecvProvided { .. } => {
            Request::Recv { fd, ptr, len: 0, flags: 0 }
        }
        Request::Send { .. } => Request::Send { fd, ptr, len: 0, flags: 0 },
        Request::Recvmsg { .. } => {
            Request::Recvmsg { fd, msg: ptr::from_ref(MESSAGE).cast_mut(), flags: 0 }
        }
        Request::Sendmsg { .. } => Request::Sendmsg { fd, msg: MESSAGE, flags: 0 },
        Request::Poll { events, .. } => Request::Poll { fd, events },
        Request::Nop | Request::Sendfile { .. } | Request::Splice { .. } => Request::Nop,
    })
}

impl Uring {
    /// Queues the first probes.
    pub(super) fn push_probes(&mut self) {
        let cancel = opcode::AsyncCancel::new(probe_data(opcode::AsyncCancel::CODE)).build();
        let others = first_probes().map(|request| probe_entry(&request));
        for entry in std::iter::once(cancel).chain(others) {
            self.push_probe(entry);
        }
    }

    fn push_probe(&mut self, entry: Entry) {
        let opcode = entry.get_opcode() as u8;
        // SAFETY: the entry names static memory, which the kernel only reads as there is no file.
        unsafe { self.push(entry.user_data(probe_data(opcode))) };
    }

    /// Takes the ring's first completions: the probes, and a poll that was refused.
    pub(super) fn check_probes(&mut self) -> Result<(), SetupError> {
        let mut first = Vec::new();
        loop {
            self.take_early();
            first.append(&mut self.early);
            if !self.ring.sq().cq_overflow() {
                break;
            }
            self.enter(0, None).map_err(SetupError::Other)?;
        }
        self.refused.granted.insert(opcode::PollAdd::CODE);
        for entry in first {
            let is_refused = entry.result() == -libc::EACCES;
            match (entry.user_data(), probed_opcode(entry.user_data())) {
                (WAKE, _) if is_refused => {
                    return Err(SetupError::ForbiddenOperation("IORING_OP_POLL_ADD"));
                }
                (_, Some(opcode::AsyncCancel::CODE)) if is_refused => {
                    return Err(SetupError::ForbiddenOperation("IORING_OP_ASYNC_CANCEL"));
                }
                (_, Some(opcode)) => self.probed(opcode, entry.result()),
                _ => {}
            }
        }
        self.leave_out_what_signals();
        Ok(())
    }

    /// Handles the result of a probe; the operations that it was made for go on in this turn.
    pub(super) fn probed(&mut self, opcode: u8, result: i32) {
        if result == -libc::EACCES {
            self.leave_out(opcode);
        } else {
            self.refused.granted.insert(opcode);
        }
        let Refused { suspects, waiting, .. } = &mut self.refused;
        suspects.retain(|&(op, suspect)| {
            waiting.extend((suspect == opcode).then_some(op));
            suspect != opcode
        });
    }

    /// Decides about an operation that has ended with `EACCES`: returns that if it is known to be
    /// the operation's own answer, else `None`: it waits for the probe of its opcode.
    ///
    /// # Safety
    /// - `op` is in flight;
    /// - the kernel has ended its attempt, so that nothing uses the operation's memory.
    #[cold]
    pub(super) unsafe fn denied(&mut self, op: Token) -> Option<i32> {
        // SAFETY: the same two items.
        let request = unsafe { describe(op) };
        let opcode = submit::opcode(&request);
        let Some(opcode) = opcode.filter(|&opcode| !self.refused.granted.has(opcode)) else {
            return Some(-libc::EACCES);
        };
        if !self.features.opcodes.has(opcode) {
            // Found out since it was started.
            self.refused.waiting.push(op);
            return None;
        }
        if !self.refused.suspects.iter().any(|&(_, suspect)| suspect == opcode) {
            self.push_probe(probe_entry(&request));
        }
        self.refused.suspects.push((op, opcode));
        None
    }

    /// Takes an entry whose opcode is left out; `false`: it is to be queued.
    #[cold]
    pub(super) fn intercept(&mut self, entry: &Entry) -> bool {
        if !self.refused.any || self.features.opcodes.has(entry.get_opcode() as u8) {
            return false;
        }
        let data = entry.get_user_data();
        let operations = match data & TAG_BITS {
            tag if tag == Tag::Operation as u64 || tag == Tag::Open as u64 => {
                &mut self.refused.waiting
            }
            // A pause before the operation is tried again: the next turn is as short.
            tag if tag == Tag::Ready as u64 => &mut self.refused.paused,
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

    /// Leaves writes to calls for which `SIGPIPE` is blocked, where it has to be blocked for each:
    /// the kernel would raise it on this thread when it carries an entry out.
    fn leave_out_what_signals(&mut self) {
        if self.sigpipe.get().is_for_each_call() {
            self.leave_out(opcode::Write::CODE);
            self.leave_out(opcode::Writev::CODE);
        }
    }

    /// Lets operations that were refused take the other way; delivers those that end at once.
    #[cold]
    pub(super) fn detour(&mut self, sink: &mut impl Sink) {
        let mut waiting = std::mem::take(&mut self.refused.waiting);
        for op in waiting.drain(..) {
            // SAFETY: operations get into the list by `intercept`, or instead of handling their
            // last completion: in flight, and neither the kernel nor a thread has them.
            let (record, request) = unsafe { (record(op), describe(op)) };
            let opcode = submit::opcode(&request);
            let result = if opcode.is_some_and(|opcode| self.features.opcodes.has(opcode)) {
                // Only its own answer was in doubt.
                Some(-libc::EACCES)
            } else if record.notes.get().cancels > 0 && moved(record).is_some() {
                moved(record)
            } else {
                // SAFETY: as above.
                unsafe { self.take_other_way(op, request) }
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
    /// One that was cancelled meanwhile is tried once, if it needs no thread: as in the kernel,
    /// what is ready beats any limit.
    ///
    /// # Safety
    /// 1. `request` is that of `op`, which is in flight.
    /// 2. Neither the kernel nor a thread has the operation.
    unsafe fn take_other_way(&mut self, op: Token, request: Request) -> Option<i32> {
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
            Request::Nop => return Some(0),
            // Rings that refuse polls are not used; the others have no entry of their own.
            Request::Poll { .. }
            | Request::Sendfile { .. }
            | Request::Splice { .. }
            | Request::RecvProvided { .. } => return Some(-libc::EACCES),
        };
        // SAFETY: in flight (1).
        let record = unsafe { record(op) };
        let is_cancelled = record.notes.get().cancels > 0;
        if by_thread {
            if is_cancelled {
                return Some(-libc::ECANCELED);
            }
            // SAFETY: the operation is in flight (1), and with nothing else (2).
            unsafe { self.hand_over(op, request) };
            return None;
        }
        // SAFETY: the operation's memory is in place (1), and used by nothing else (2).
        let result = unsafe { self.attempt(op, request) };
        match -result {
            libc::EAGAIN | libc::EINPROGRESS if is_cancelled => {
                Some(moved(record).unwrap_or(-libc::ECANCELED))
            }
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
            unsafe { whole::attempt(record, request, self.sigpipe.get()) }
        } else {
            // SAFETY: the same.
            unsafe { sys::attempt(request, self.sigpipe.get()) }
        };
        self.syscalls += tried.syscalls;
        tried.result
    }
}
