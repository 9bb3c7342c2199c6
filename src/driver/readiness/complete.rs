//! The life of an operation that does not end inside `submit`: it is tried, waits until its file
//! may be ready, and is tried again.

// # Why this file has `unsafe`
// It accesses the records of operations in flight, by their tokens, and has their requests carried
// out.

use std::time::{Duration, Instant};

use super::Readiness;
use super::selector::{Event, Interest, Selector};
use super::submit::{Way, never_waits, way};
use super::table::Side;
use crate::driver::record::{describe, record};
use crate::driver::sys::{self, Kind};
use crate::driver::{RecvQueue, Request, Sink, Target, Token, whole};
use crate::os::{self, RawFd};

/// Tags of operations in flight that wait for no file; see [`Side`] for the others.
const THREAD: u8 = 4;
const PAUSED: u8 = 5;
const ENDED: u8 = 6;

/// How long an operation waits before it is tried again, where no event says when to: 1 ms.
const PAUSE: Duration = Duration::from_millis(1);

pub(super) const AGAIN: i32 = -os::EAGAIN;

fn is_connect(request: &Request) -> bool {
    matches!(request, Request::Connect { .. })
}

impl Readiness {
    /// Tries an operation, and has it wait (`None`) if it cannot end at once.
    ///
    /// # Safety
    /// - `op` is in flight, or is being submitted: clauses 1 and 2 of the contract hold for it and
    ///   for everything that `request` points to;
    /// - `request` is what its record describes;
    /// - it is in no queue, and no thread has it.
    #[inline(always)]
    pub(super) unsafe fn start(&mut self, op: Token, request: Request) -> Option<i32> {
        // SAFETY: item 1.
        unsafe { record(op) }.result.set(0);
        if let Request::RecvProvided { queue, .. } = request {
            // SAFETY: item 1: the operation has a strong count of its queue.
            if let Some(len) = unsafe { &*queue }.finish_from_queue() {
                return Some(len);
            }
        }
        match way(&request) {
            // SAFETY: all three items.
            Way::Wait(target, side) => unsafe { self.start_waiting(op, request, target, side) },
            // SAFETY: all three items.
            way => unsafe { self.start_other(op, request, way) },
        }
    }

    /// # Safety
    /// As for [`start`](Self::start).
    unsafe fn start_other(&mut self, op: Token, request: Request, way: Way) -> Option<i32> {
        // SAFETY: in every arm, all three items; those called ask for no more.
        unsafe {
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
                    if let Request::Close { fd, ending } = request {
                        return self.start_close(op, fd, ending);
                    }
                    #[cfg(target_os = "linux")]
                    if let Some(result) = self.try_inline(&request) {
                        return Some(result);
                    }
                    self.hand_over(op, request)
                }
            }
        }
    }

    /// Hands an operation to a thread.
    ///
    /// # Safety
    /// As for [`start`](Self::start), but `request` may be what is left of the one described.
    pub(super) unsafe fn hand_over(&mut self, op: Token, request: Request) -> Option<i32> {
        // SAFETY: item 1 is that of `record`, and items 1 and 3 are those of `Pool::submit`.
        unsafe {
            record(op).set_tag(THREAD);
            self.pool.submit(op, request);
        }
        self.away += 1;
        None
    }

    /// # Safety
    /// As for [`start`](Self::start).
    #[inline(always)]
    unsafe fn start_waiting(
        &mut self,
        op: Token,
        request: Request,
        target: Target,
        side: Side,
    ) -> Option<i32> {
        if target.fd < 0 {
            return Some(-os::EBADF);
        }
        // A try is made at once where it takes nothing from operations that wait already, or where
        // the readiness of the file says nothing.
        // SAFETY: item 1: what the request points to is in place.
        let to_unix = unsafe { sys::is_to_unix_address(&request) };
        let always = is_connect(&request) || to_unix;
        if always || !self.table.entry(target).must_wait(side) || never_waits(&request) {
            // SAFETY: all three items.
            let result = unsafe { self.attempt(op, request) };
            if !self.would_wait(&request, result) {
                self.learn(target, &request, result);
                return Some(result);
            }
            if result == AGAIN && always {
                // The queue of a Unix socket is full, and no event will say that it no longer is.
                // SAFETY: items 1 and 3.
                unsafe { self.pause(op) };
                return None;
            }
            self.table.entry(target).set_ready(side, false);
        }
        // SAFETY: items 1 and 3.
        unsafe { self.wait_for(op, &request, target, side) }
    }

    #[inline(always)]
    fn would_wait(&self, request: &Request, result: i32) -> bool {
        match result {
            0.. => false,
            AGAIN => !never_waits(request),
            _ => result == -os::EINPROGRESS && is_connect(request),
        }
    }

    /// Makes the call. A transfer with `MSG_WAITALL` is continued until it would block, with its
    /// progress in the record's result.
    ///
    /// # Safety
    /// - `op` is in flight or being submitted, and `request` is what its record describes;
    /// - no thread has it.
    #[inline(always)]
    unsafe fn attempt(&mut self, op: Token, request: Request) -> i32 {
        if whole::wants_all(&request) {
            // SAFETY: both items.
            return unsafe { self.attempt_all(op, request) };
        }
        if let Request::RecvProvided { fd, queue } = request {
            // SAFETY: item 1: the operation has a strong count of its queue.
            return self.recv_provided(fd, unsafe { &*queue });
        }
        // SAFETY: by item 1, clauses 1 and 2 hold for what the request points to.
        let tried = unsafe { sys::attempt(request, self.sigpipe.get()) };
        self.syscalls += tried.syscalls;
        tried.result
    }

    #[inline(always)]
    fn recv_provided(&mut self, fd: Target, queue: &RecvQueue) -> i32 {
        self.syscalls += 1;
        // SAFETY: a receive returns at most the size it got, after it has written that many bytes;
        // the filler passes memory of that size, which nothing else accesses.
        unsafe {
            self.filler.receive(queue, |ptr, len| {
                sys::attempt(Request::Recv { fd, ptr, len, flags: 0 }, self.sigpipe.get()).result
            })
        }
    }

    /// # Safety
    /// As for [`attempt`](Self::attempt), for a request that [`wants_all`].
    #[cold]
    unsafe fn attempt_all(&mut self, op: Token, request: Request) -> i32 {
        // SAFETY: in flight (1), so its record is in place; both items for its memory.
        let tried = unsafe { whole::attempt(record(op), request, self.sigpipe.get()) };
        self.syscalls += tried.syscalls;
        tried.result
    }

    /// Notes what the outcome of a try says about the next one.
    #[inline(always)]
    fn learn(&mut self, target: Target, request: &Request, result: i32) {
        if !Selector::PERSISTENT {
            return;
        }
        if let Request::Recv { flags, .. } = *request {
            if flags & os::MSG_OOB != 0 && result > 0 {
                // The event of urgent data that was received may still come, as one of plain data.
                self.table.entry(target).over = true;
            }
        }
        let room = match *request {
            Request::Recv { len, flags: 0, .. } => (result as u32) < len,
            Request::RecvProvided { .. } => self.filler.has_room(),
            _ => return,
        };
        let entry = self.table.entry(target);
        let short = result > 0 && room;
        if short && entry.registered && !entry.over && entry.kind == Some(Kind::Tcp) {
            entry.readable = false;
        }
    }

    /// Has an operation wait for its file; returns an error if the file cannot be waited for.
    ///
    /// # Safety
    /// - `op` is in flight or being submitted;
    /// - it is in no queue, and no thread has it.
    unsafe fn wait_for(
        &mut self,
        op: Token,
        request: &Request,
        target: Target,
        side: Side,
    ) -> Option<i32> {
        // SAFETY: item 1.
        unsafe { record(op) }.set_tag(side as u8);
        let entry = self.table.entry(target);
        // SAFETY: both items are those of `Queue::push`; it leaves the queue before its delivery.
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
            // SAFETY: pushed above, and nothing has been removed since.
            unsafe { entry.queue(side).remove(op) };
        }
        self.waiting -= 1;
        // SAFETY: item 1.
        let done = unsafe { record(op) }.result.get();
        Some(match error {
            // Bytes that have been moved must be reported.
            _ if done > 0 => done,
            // A file that is always ready, such as a regular one, has no such events.
            error if error == -os::EPERM && matches!(request, Request::Poll { .. }) => -os::EINVAL,
            error => error,
        })
    }

    /// Has the selector report the events that the operations on `fd` wait for; returns its error.
    fn watch(&mut self, fd: RawFd) -> Option<i32> {
        let entry = self.table.get(fd)?;
        match self.selector.watch(fd, fd as usize, entry.interest(), entry.registered) {
            Ok(calls) => {
                self.syscalls += calls;
                entry.registered = true;
                None
            }
            // A file that cannot be waited for (EPERM) never answers `EAGAIN` either.
            Err(error) => Some(-error.raw_os_error().unwrap_or(os::EIO)),
        }
    }

    /// Queues an operation that has ended, for the next turn to deliver.
    ///
    /// # Safety
    /// - `op` is in flight or being submitted;
    /// - it is in no queue, and no thread has it.
    pub(super) unsafe fn end(&mut self, op: Token, result: i32) {
        // SAFETY: item 1 for the record, both for the queue, which it leaves by its delivery.
        unsafe {
            record(op).set_tag(ENDED);
            record(op).result.set(result);
            self.ended.push(op);
        }
    }

    /// Queues an operation to be tried again after a pause.
    ///
    /// # Safety
    /// As for [`end`](Self::end).
    unsafe fn pause(&mut self, op: Token) {
        // SAFETY: item 1.
        unsafe { record(op) }.set_tag(PAUSED);
        if self.paused.is_empty() {
            self.paused_until = Some(Instant::now() + PAUSE);
        }
        // SAFETY: both items; it leaves the queue before its delivery.
        unsafe { self.paused.push(op) };
    }

    /// Tries paused operations again, once the pause is over.
    pub(super) fn resume(&mut self) {
        if self.paused_until.is_none_or(|until| Instant::now() < until) {
            return;
        }
        self.paused_until = None;
        let mut paused = std::mem::take(&mut self.paused);
        while let Some(op) = paused.pop() {
            // SAFETY: operations in a queue are in flight; it has just left its only queue, and its
            // tag was `PAUSED`, so that no thread has it.
            unsafe {
                if let Some(result) = self.start(op, describe(op)) {
                    self.end(op, result);
                }
            }
        }
    }

    /// Stops an operation if that is possible.
    ///
    /// # Safety
    /// `op` is in flight in this driver.
    pub(super) unsafe fn stop(&mut self, op: Token) {
        // SAFETY: in flight.
        let record = unsafe { record(op) };
        match record.notes.get().tag {
            THREAD => {
                if !self.pool.cancel(op) {
                    return;
                }
                self.away -= 1;
            }
            PAUSED => {
                // SAFETY: the tag says that it is in this queue.
                unsafe { self.paused.remove(op) };
                if self.paused.is_empty() {
                    self.paused_until = None;
                }
            }
            ENDED => return,
            _ => {
                // SAFETY: in flight, and its tag is a `Side`: no thread has it.
                let request = unsafe { describe(op) };
                let (Way::Wait(target, side) | Way::File(target, side)) = way(&request) else {
                    unreachable!("no other operation waits for a file")
                };
                // SAFETY: its tag is a `Side`, so it is in the queue of its file for that side.
                unsafe { self.table.entry(target).queue(side).remove(op) };
                self.waiting -= 1;
            }
        }
        // Bytes that have been moved must be reported.
        let done = record.result.get();
        // SAFETY: in flight, and each arm that gets here has taken it from where it was.
        unsafe { self.end(op, if done > 0 { done } else { -os::ECANCELED }) };
    }

    /// Handles one event of the selector.
    #[inline(always)]
    pub(super) fn complete(&mut self, event: Event, sink: &mut impl Sink) {
        let fd = event.key as RawFd;
        let Some(entry) = self.table.get(fd) else { return };
        if Selector::PERSISTENT {
            let unwanted = entry.interest() == Interest::NONE;
            let changes =
                (event.readable && !entry.readable) || (event.writable && !entry.writable);
            if unwanted && !changes && entry.registered {
                // No operation has tried this file since its last event: further events must not
                // wake this thread.
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

    /// Arms a selector again that reports each event once.
    fn watch_again(&mut self, fd: RawFd) {
        let Some(entry) = self.table.get(fd) else { return };
        (entry.readable, entry.writable) = (true, true);
        if entry.interest() == Interest::NONE {
            return;
        }
        let Some(error) = self.watch(fd) else { return };
        for side in [Side::Read, Side::Write, Side::Other] {
            while let Some(op) = self.table.get(fd).and_then(|entry| entry.queue(side).pop()) {
                self.waiting -= 1;
                // SAFETY: operations in a queue are in flight; it has just left its only queue, one
                // for a file, so that no thread has it.
                unsafe {
                    // Bytes that have been moved must be reported.
                    let done = record(op).result.get();
                    self.end(op, if done > 0 { done } else { error });
                }
            }
        }
    }

    /// Tries the operations that wait for one side of a file, oldest first, up to the first that
    /// would still block.
    #[inline(always)]
    fn retry(&mut self, fd: RawFd, side: Side, sink: &mut impl Sink) {
        let mut next = self.table.get(fd).and_then(|entry| entry.queue(side).first());
        while let Some(op) = next {
            let Some(entry) = self.table.get(fd) else { return };
            // SAFETY: it is in this queue: the first, or the one behind an operation that was in it
            // when this was read. The tries below remove no other.
            next = unsafe { entry.queue(side).after(op) };
            // SAFETY: operations in a queue are in flight, and no thread has one in such a queue.
            let request = unsafe { describe(op) };
            let result = match request {
                Request::Connect { fd, .. } => {
                    self.syscalls += 2;
                    sys::connected(fd.fd)
                }
                // SAFETY: the same, and the request has just been described.
                request => unsafe { self.attempt(op, request) },
            };
            if result == AGAIN {
                if side == Side::Other {
                    if !Selector::PERSISTENT {
                        // SAFETY: it is in that queue, as above.
                        unsafe { self.pause_other(fd, op) };
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
                // SAFETY: it is in this queue, as above.
                unsafe { entry.queue(side).remove(op) };
            }
            self.waiting -= 1;
            // SAFETY: in flight until here, and now in no queue; the call has ended with the
            // result.
            unsafe {
                record(op).result.set(result);
                sink.deliver(op);
            }
        }
    }

    /// Pauses an operation that waits for what a one-shot selector cannot distinguish, such as
    /// urgent data: armed again at once, it would report the same event again.
    ///
    /// # Safety
    /// `op` is in the queue of `fd` for [`Side::Other`].
    unsafe fn pause_other(&mut self, fd: RawFd, op: Token) {
        if let Some(entry) = self.table.get(fd) {
            // SAFETY: this function's only item.
            unsafe { entry.queue(Side::Other).remove(op) };
        }
        self.waiting -= 1;
        // SAFETY: it was in a queue, so it is in flight; it has left that queue, its only one.
        unsafe { self.pause(op) };
    }

    /// Delivers what threads have finished.
    #[cold]
    pub(super) fn take_done(&mut self, sink: &mut impl Sink) {
        let (away, closing) = (&mut self.away, &mut self.closing);
        self.pool.take(|op, result| {
            let Some(op) = op else {
                *closing -= 1;
                return;
            };
            *away -= 1;
            // SAFETY: the pool returns each operation once, after its thread's last access; it has
            // been in flight since `hand_over`, and in no queue.
            unsafe {
                let record = record(op);
                // A read may have begun on this thread.
                let done = record.result.get();
                record.result.set(match result {
                    0.. => done + result,
                    error if done == 0 => error,
                    _ => done,
                });
                sink.deliver(op);
            }
        });
    }

    /// Delivers operations that have ended outside of a turn.
    pub(super) fn deliver_ended(&mut self, sink: &mut impl Sink) {
        while let Some(op) = self.ended.pop() {
            // SAFETY: `end` has put it here with its result, and it has just left the queue.
            unsafe { sink.deliver(op) };
        }
    }
}
