//! An operation's way: it is tried, waits until its file may be ready, and is tried again.
//!
//! # Why this file has `unsafe`
//! It looks at the records of operations in flight, and has their requests carried out.

use crate::os;
use crate::os::RawFd;
use std::time::{Duration, Instant};

use super::Readiness;
use super::selector::{Event, Selector};
use super::submit::{Way, never_waits, way};
use super::table::Side;
use crate::driver::sys::{self, Kind};
use crate::driver::{Notes, Record, RecvQueue, Request, Sink, Target, Token, whole};

/// Marks of operations in flight that wait for no file; see [`Side`] for the others.
const THREAD: u8 = 4;
const PAUSED: u8 = 5;
const ENDED: u8 = 6;

/// How long an operation that nothing tells when to go on waits before it tries again.
const PAUSE: Duration = Duration::from_millis(1);

pub(super) const AGAIN: i32 = -os::EAGAIN;

/// The record of an operation.
///
/// # Safety
/// The operation is in flight, or just being submitted.
#[inline(always)]
pub(super) unsafe fn record<'a>(op: Token) -> &'a Record {
    // SAFETY: records stay in place until they are delivered.
    unsafe { op.as_ref() }
}

fn set_mark(op: Token, mark: u8) {
    // SAFETY: callers have the token of an operation in flight.
    let record = unsafe { record(op) };
    record.notes.set(Notes { mark, ..record.notes.get() });
}

/// Describes an operation that nothing works on at the moment.
fn describe(op: Token) -> Request {
    // SAFETY: in flight, and with nobody else.
    unsafe { (record(op).request)(op) }
}

fn is_connect(request: &Request) -> bool {
    matches!(request, Request::Connect { .. })
}

impl Readiness {
    /// Carries out what can be done at once: `None` if the operation waits.
    #[inline(always)]
    pub(super) fn start(&mut self, op: Token, request: Request) -> Option<i32> {
        // SAFETY: being submitted.
        unsafe { record(op) }.result.set(0);
        if let Request::RecvProvided { feed, .. } = request {
            // SAFETY: the operation has a count of it.
            if let Some(len) = unsafe { &*feed }.hand_on() {
                return Some(len);
            }
        }
        match way(&request) {
            Way::Wait(target, side) => self.start_waiting(op, request, target, side),
            way => self.start_other(op, request, way),
        }
    }

    fn start_other(&mut self, op: Token, request: Request, way: Way) -> Option<i32> {
        match way {
            Way::Nothing => {
                self.end(op, 0);
                None
            }
            Way::Now => Some(self.attempt(op, request)),
            Way::Wait(target, side) => self.start_waiting(op, request, target, side),
            Way::File(target, side) => {
                let entry = self.table.entry(target);
                match *entry.kind.get_or_insert_with(|| sys::kind(target.fd)) {
                    Kind::Disk => self.start_on_disk(op, request),
                    _ => self.start_waiting(op, request, target, side),
                }
            }
            Way::Thread => {
                #[cfg(target_os = "linux")]
                if let Some(result) = self.at_once(&request) {
                    return Some(result);
                }
                self.hand_over(op, request)
            }
        }
    }

    pub(super) fn hand_over(&mut self, op: Token, request: Request) -> Option<i32> {
        set_mark(op, THREAD);
        // SAFETY: the caller of `submit` keeps everything in place until delivery.
        unsafe { self.pool.submit(op, request) };
        self.away += 1;
        None
    }

    #[inline(always)]
    fn start_waiting(
        &mut self,
        op: Token,
        request: Request,
        target: Target,
        side: Side,
    ) -> Option<i32> {
        if target.fd < 0 {
            return Some(-os::EBADF);
        }
        // Where a try costs nothing that others wait for, or the readiness of the file tells nothing.
        // SAFETY: the caller of `submit` keeps what the request names in place.
        let to_unix = unsafe { sys::is_to_unix_address(&request) };
        let always = is_connect(&request) || to_unix;
        if always || !self.table.entry(target).must_wait(side) || never_waits(&request) {
            let result = self.attempt(op, request);
            if !self.would_wait(&request, result) {
                self.learn(target, &request, result);
                return Some(result);
            }
            if result == AGAIN && always {
                // The queue of a Unix socket is full, and nobody tells when it no longer is.
                self.pause(op);
                return None;
            }
            self.table.entry(target).set_ready(side, false);
        }
        self.wait_for(op, &request, target, side)
    }

    #[inline(always)]
    fn would_wait(&self, request: &Request, result: i32) -> bool {
        match result {
            0.. => false,
            AGAIN => !never_waits(request),
            _ => result == -os::EINPROGRESS && is_connect(request),
        }
    }

    /// Makes the call; goes on with a transfer that wants to be whole, whose progress is in the
    /// record's result meanwhile.
    #[inline(always)]
    fn attempt(&mut self, op: Token, request: Request) -> i32 {
        if whole::wants_all(&request) {
            return self.attempt_all(op, request);
        }
        if let Request::RecvProvided { fd, feed } = request {
            return self.recv_provided(fd, feed);
        }
        // SAFETY: the operation's memory is the driver's until delivery.
        let (result, calls) = unsafe { sys::attempt(request, self.sigpipe) };
        self.syscalls += calls;
        result
    }

    #[inline(always)]
    fn recv_provided(&mut self, fd: Target, feed: *const RecvQueue) -> i32 {
        self.syscalls += 1;
        // SAFETY: the operation has a count of the feed; the memory is the filler's, and what was received
        // has been written there.
        unsafe {
            self.chunks.receive(&*feed, |ptr, len| {
                sys::attempt(Request::Recv { fd, ptr, len, flags: 0 }, self.sigpipe).0
            })
        }
    }

    #[cold]
    fn attempt_all(&mut self, op: Token, request: Request) -> i32 {
        // SAFETY: in flight; the operation's memory is the driver's until delivery.
        let (result, calls) = unsafe { whole::attempt(record(op), request, self.sigpipe) };
        self.syscalls += calls;
        result
    }

    /// What the outcome of a try tells about the next.
    #[inline(always)]
    fn learn(&mut self, target: Target, request: &Request, result: i32) {
        if !Selector::PERSISTENT {
            return;
        }
        if matches!(*request, Request::Recv { flags, .. } if flags & os::MSG_OOB != 0) && result > 0
        {
            // Its event may come as one of plain data, now that it is taken.
            self.table.entry(target).over = true;
        }
        let room = match *request {
            Request::Recv { len, flags: 0, .. } => (result as u32) < len,
            Request::RecvProvided { .. } => self.chunks.has_room(),
            _ => return,
        };
        {
            let entry = self.table.entry(target);
            let short = result > 0 && room;
            if short && entry.registered && !entry.over && entry.kind == Some(Kind::Tcp) {
                entry.readable = false;
            }
        }
    }

    /// Has the operation wait for its file; an error if that can't be.
    fn wait_for(
        &mut self,
        op: Token,
        request: &Request,
        target: Target,
        side: Side,
    ) -> Option<i32> {
        set_mark(op, side as u8);
        let entry = self.table.entry(target);
        // SAFETY: the operation is in flight from here on, and in no queue.
        unsafe { entry.queue(side).push(op) };
        let receives = matches!(request, Request::Recv { .. } | Request::RecvProvided { .. });
        if entry.kind.is_none() && receives {
            entry.kind = Some(sys::socket_kind(target.fd));
            self.syscalls += 1;
        }
        self.waiting += 1;
        if Selector::PERSISTENT && entry.registered {
            return None;
        }
        let error = self.watch(target.fd)?;
        if let Some(entry) = self.table.get(target.fd) {
            // SAFETY: it was pushed above.
            unsafe { entry.queue(side).remove(op) };
        }
        self.waiting -= 1;
        // Bytes that have been moved are not to be lost.
        // SAFETY: being submitted.
        let done = unsafe { record(op) }.result.get();
        Some(match error {
            _ if done > 0 => done,
            // What is always ready, like a file on a disk, has no such events.
            error if error == -os::EPERM && matches!(request, Request::Poll { .. }) => -os::EINVAL,
            error => error,
        })
    }

    /// Has the selector tell what the operations on `fd` wait for.
    fn watch(&mut self, fd: RawFd) -> Option<i32> {
        let entry = self.table.get(fd)?;
        match self.selector.watch(fd, fd as usize, entry.interest(), entry.registered) {
            Ok(calls) => {
                self.syscalls += calls;
                entry.registered = true;
                None
            }
            // Nothing that can be waited for (EPERM) is never "not ready" either.
            Err(error) => Some(-error.raw_os_error().unwrap_or(os::EIO)),
        }
    }

    /// The operation has ended; the next turn delivers it.
    pub(super) fn end(&mut self, op: Token, result: i32) {
        set_mark(op, ENDED);
        // SAFETY: in flight, and the caller has taken it out of any other queue.
        unsafe {
            record(op).result.set(result);
            self.ended.push(op);
        }
    }

    fn pause(&mut self, op: Token) {
        set_mark(op, PAUSED);
        if self.paused.is_empty() {
            self.paused_until = Some(Instant::now() + PAUSE);
        }
        // SAFETY: in flight, and in no other queue.
        unsafe { self.paused.push(op) };
    }

    /// Tries everything again that has paused for long enough.
    pub(super) fn resume(&mut self) {
        if self.paused_until.is_none_or(|until| Instant::now() < until) {
            return;
        }
        self.paused_until = None;
        let mut paused = std::mem::take(&mut self.paused);
        while let Some(op) = paused.pop() {
            if let Some(result) = self.start(op, describe(op)) {
                self.end(op, result);
            }
        }
    }

    /// Stops an operation if that can be done.
    pub(super) fn stop(&mut self, op: Token) {
        // SAFETY: in flight.
        let record = unsafe { record(op) };
        let mark = record.notes.get().mark;
        match mark {
            THREAD => {
                if !self.pool.cancel(op) {
                    return;
                }
                self.away -= 1;
            }
            PAUSED => {
                // SAFETY: its mark says where it is.
                unsafe { self.paused.remove(op) };
                if self.paused.is_empty() {
                    self.paused_until = None;
                }
            }
            ENDED => return,
            _ => {
                let request = describe(op);
                let (Way::Wait(target, side) | Way::File(target, side)) = way(&request) else {
                    unreachable!("only such an operation waits for a file")
                };
                // SAFETY: its mark says where it is.
                unsafe { self.table.entry(target).queue(side).remove(op) };
                self.waiting -= 1;
            }
        }
        // Bytes that have been moved are not to be lost.
        let done = record.result.get();
        self.end(op, if done > 0 { done } else { -os::ECANCELED });
    }

    /// Takes in one event.
    #[inline(always)]
    pub(super) fn complete(&mut self, event: Event, sink: &mut impl Sink) {
        let fd = event.key as RawFd;
        let Some(entry) = self.table.get(fd) else { return };
        if Selector::PERSISTENT {
            let nobody = entry.interest() == super::selector::Interest::NONE;
            let news = (event.readable && !entry.readable) || (event.writable && !entry.writable);
            if nobody && !news && entry.registered {
                // Nobody here has looked for a while: it need not wake this thread each time.
                entry.registered = false;
                (entry.readable, entry.writable) = (true, true);
                self.selector.forget(fd);
                self.syscalls += 1;
                return;
            }
            entry.over |= event.over;
        }
        entry.readable |= event.readable;
        entry.writable |= event.writable;
        if event.readable {
            self.retry(fd, Side::Read, sink);
        }
        if event.writable {
            self.retry(fd, Side::Write, sink);
        }
        self.retry(fd, Side::Other, sink);
        if !Selector::PERSISTENT {
            self.watch_again(fd);
        }
    }

    /// Arms a selector that tells everything once.
    fn watch_again(&mut self, fd: RawFd) {
        let Some(entry) = self.table.get(fd) else { return };
        (entry.readable, entry.writable) = (true, true);
        if entry.interest() == super::selector::Interest::NONE {
            return;
        }
        let Some(error) = self.watch(fd) else { return };
        for side in [Side::Read, Side::Write, Side::Other] {
            while let Some(op) = self.table.get(fd).and_then(|entry| entry.queue(side).pop()) {
                self.waiting -= 1;
                // SAFETY: in flight. Bytes that have been moved are not to be lost.
                let done = unsafe { record(op) }.result.get();
                self.end(op, if done > 0 { done } else { error });
            }
        }
    }

    /// Tries those who wait for one side of a file, oldest first, as long as that is not in vain.
    #[inline(always)]
    fn retry(&mut self, fd: RawFd, side: Side, sink: &mut impl Sink) {
        let mut next = self.table.get(fd).and_then(|entry| entry.queue(side).first());
        while let Some(op) = next {
            let Some(entry) = self.table.get(fd) else { return };
            // SAFETY: it is in this queue.
            next = unsafe { entry.queue(side).after(op) };
            let request = describe(op);
            let result = match request {
                Request::Connect { fd, .. } => {
                    self.syscalls += 2;
                    sys::connected(fd.fd)
                }
                request => self.attempt(op, request),
            };
            if result == AGAIN {
                if side == Side::Other {
                    if !Selector::PERSISTENT {
                        self.look_again_later(fd, op);
                    }
                    continue;
                }
                if let Some(entry) = self.table.get(fd) {
                    entry.set_ready(side, false);
                }
                return;
            }
            if let Way::Wait(target, _) | Way::File(target, _) = way(&request) {
                self.learn(target, &request, result);
            }
            if let Some(entry) = self.table.get(fd) {
                // SAFETY: as above.
                unsafe { entry.queue(side).remove(op) };
            }
            self.waiting -= 1;
            // SAFETY: in flight until the next line.
            unsafe { record(op) }.result.set(result);
            sink.deliver(op);
        }
    }

    /// What a one-shot selector can't tell apart, such as urgent data from any other that nobody
    /// reads, would have it tell the same at once again.
    fn look_again_later(&mut self, fd: RawFd, op: Token) {
        if let Some(entry) = self.table.get(fd) {
            // SAFETY: the caller has just taken it from there.
            unsafe { entry.queue(Side::Other).remove(op) };
        }
        self.waiting -= 1;
        self.pause(op);
    }

    /// Takes in what the threads have done.
    #[cold]
    pub(super) fn take_done(&mut self, sink: &mut impl Sink) {
        let (away, closing) = (&mut self.away, &mut self.closing);
        self.pool.take(|op, result| {
            let Some(op) = op else {
                *closing -= 1;
                return;
            };
            *away -= 1;
            // SAFETY: in flight.
            let record = unsafe { record(op) };
            // A read may have begun on this thread.
            let done = record.result.get();
            record.result.set(match result {
                0.. => done + result,
                error if done == 0 => error,
                _ => done,
            });
            sink.deliver(op);
        });
    }

    /// Delivers what has ended outside of a turn.
    pub(super) fn deliver_ended(&mut self, sink: &mut impl Sink) {
        while let Some(op) = self.ended.pop() {
            sink.deliver(op);
        }
    }
}
