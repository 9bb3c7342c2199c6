//! Multishot receives (`IORING_RECV_MULTISHOT`) into [provided buffers](super::provided).
//!
//! A receive belongs to no operation but to the socket's [`RecvQueue`]: an operation takes bytes
//! that were received, or waits for them. If the operation is cancelled, the receive continues, and
//! its bytes are kept for the next operation. While all buffers are in use, operations receive by
//! system calls instead, so that one socket cannot starve others. Where the kernel lacks such
//! receives, all operations receive by system calls.

// # Why this file has `unsafe`
// The kernel writes into the buffers, and `user_data` holds strong counts of queues.

use std::io;
use std::ptr;
use std::rc::Rc;
use std::time::Duration;

use io_uring::types::CancelBuilder;
use io_uring::{Submitter, cqueue, opcode};

use super::cancel::CANCEL_TRIES;
use super::provided::{GROUP, Provided};
use super::user_data::{IGNORED, TAG_BITS, Tag};
use super::{Uring, probe, submit};
use crate::buf::RecvPool;
use crate::driver::record::{describe, record};
use crate::driver::recv_queue::{Abandoned, Armed, Filler, RecvQueue};
use crate::driver::{Request, Sink, Target, Token, sys};

/// The most bytes that are received from one socket before an operation asks for them. Beyond that
/// its receive is cancelled, so that a socket that no task reads from cannot take all buffers.
const MAX_UNREAD: usize = 4 * RecvPool::SIZE;

const AGAIN: i32 = -libc::EAGAIN;

/// How a driver receives into its own memory; decided by the first such receive.
pub(super) enum Receiving {
    Untried,
    ByKernel(Multishot),
    ByCalls(Filler),
}

/// The multishot receives of one ring.
pub(super) struct Multishot {
    provided: Provided,
    /// For receives while all buffers are in use.
    filler: Filler,
    /// The number of receives that may write into the buffers.
    armed: usize,
    /// The number of those that are being cancelled because their stream was dropped.
    leaving: usize,
    abandoned: Rc<Abandoned>,
}

impl Uring {
    /// Takes bytes that were received, or has `op` wait for some.
    ///
    /// # Safety
    /// - `op` is in flight or being submitted, as a `RecvProvided` on `queue`;
    /// - `queue` came from `Rc::as_ptr`, and the operation has a strong count of it.
    #[inline(always)]
    pub(super) unsafe fn recv_provided(
        &mut self,
        op: Token,
        fd: Target,
        queue: *const RecvQueue,
    ) -> Option<i32> {
        // SAFETY: item 2: the count keeps the queue alive while the operation is in flight.
        let this = unsafe { &*queue };
        if let Some(len) = this.finish_from_queue() {
            return Some(len);
        }
        match &mut self.receiving {
            Receiving::ByKernel(_) if this.armed.active.get() => {
                // SAFETY: item 1.
                unsafe { wait(op, this) };
                None
            }
            // SAFETY: both items.
            _ => unsafe { self.begin_recv(op, fd, queue) },
        }
    }
}

/// Has `op` wait for bytes in `queue`.
///
/// # Safety
/// `op` is in flight or being submitted.
#[inline(always)]
unsafe fn wait(op: Token, queue: &RecvQueue) {
    debug_assert_eq!(queue.armed.waiter.get(), None, "one operation at a time may wait");
    queue.armed.waiter.set(Some(op));
    // SAFETY: this function's only item.
    unsafe { record(op) }.set_tag(Tag::RecvQueue as u8);
}

/// Keeps the result that has ended a receive while no operation waited.
fn note_end(armed: &Armed, result: i32) {
    // These only mean that the next operation has to arm the receive again.
    let restart = [-libc::ENOBUFS, -libc::ECANCELED, -libc::EACCES].contains(&result);
    armed.end.set((!restart && result <= 0).then_some(result));
}

impl Uring {
    /// # Safety
    /// As for [`recv_provided`](Self::recv_provided).
    unsafe fn begin_recv(&mut self, op: Token, fd: Target, queue: *const RecvQueue) -> Option<i32> {
        if matches!(self.receiving, Receiving::Untried) {
            self.syscalls += 1;
            match Receiving::choose(self.ring.submitter(), self.receive_memory) {
                Ok(receiving) => self.receiving = receiving,
                Err(error) => return Some(-error.raw_os_error().unwrap_or(libc::ENOMEM)),
            }
        }
        // SAFETY: item 2.
        let this = unsafe { &*queue };
        match &mut self.receiving {
            // SAFETY: item 1.
            Receiving::ByCalls(_) => unsafe { self.recv_by_call(op, fd, this) },
            Receiving::ByKernel(_)
                if this.armed.starved.take() || !self.features.opcodes.has(opcode::Recv::CODE) =>
            {
                // SAFETY: item 1.
                unsafe { self.recv_by_call(op, fd, this) }
            }
            Receiving::ByKernel(_) => {
                if let Some(end) = this.armed.end.take() {
                    return Some(end);
                }
                // SAFETY: item 1 for the first, item 2 for the second.
                unsafe {
                    wait(op, this);
                    self.arm(fd, queue);
                }
                None
            }
            Receiving::Untried => unreachable!("decided above"),
        }
    }

    /// Receives by a system call, once the socket is readable.
    ///
    /// # Safety
    /// `op` is in flight or being submitted.
    unsafe fn recv_by_call(&mut self, op: Token, fd: Target, queue: &RecvQueue) -> Option<i32> {
        let (Receiving::ByCalls(filler) | Receiving::ByKernel(Multishot { filler, .. })) =
            &mut self.receiving
        else {
            unreachable!("`begin_recv` has decided")
        };
        self.syscalls += 1;
        // SAFETY: `recv(2)` returns at most the size it got, after it has written that many bytes;
        // the filler passes memory of that size.
        let received =
            unsafe { filler.receive(queue, |ptr, len| sys::recv_at_once(fd.fd, ptr, len, 0)) };
        match received {
            // SAFETY: this function's only item.
            AGAIN => unsafe { self.await_readiness(op, fd, libc::POLLIN) },
            received => Some(received),
        }
    }

    /// Starts a multishot receive.
    ///
    /// # Safety
    /// `queue` came from `Rc::as_ptr`, and there is a strong count of it.
    unsafe fn arm(&mut self, fd: Target, queue: *const RecvQueue) {
        let Receiving::ByKernel(multishot) = &mut self.receiving else { return };
        multishot.armed += 1;
        // SAFETY: this function's only item. The new count is the kernel's, until `complete_last`.
        unsafe { Rc::increment_strong_count(queue) };
        // SAFETY: that count keeps it alive.
        let armed = unsafe { &(*queue).armed };
        armed.active.set(true);
        armed.began_with.set(multishot.provided.version());
        armed.home.set(Some(multishot.abandoned.clone()));
        let entry = submit::on(fd, |fd| opcode::RecvMulti::new(fd, GROUP).build());
        let data = queue.expose_provenance() as u64 | Tag::RecvQueue as u64;
        // SAFETY: the entry names no memory but the provided buffers, which are dropped after the
        // ring is closed (`end_receives`).
        unsafe { self.push(entry.user_data(data)) };
    }

    /// Handles a completion of a multishot receive; returns the operation that it ends.
    ///
    /// # Safety
    /// - `entry` was posted by this driver's ring, and has not been handled before;
    /// - its tag is `RecvQueue`.
    #[inline(always)]
    pub(super) unsafe fn complete_recv(&mut self, entry: &cqueue::Entry) -> Option<Token> {
        let data = (entry.user_data() & !TAG_BITS) as usize;
        let queue: *const RecvQueue = ptr::with_exposed_provenance(data);
        // SAFETY: by item 2 `arm` made the entry. The kernel's count is given up only with the last
        // completion, which by item 1 is this one at the earliest.
        let this = unsafe { &*queue };
        let Receiving::ByKernel(multishot) = &mut self.receiving else {
            unreachable!("a multishot receive without provided buffers")
        };
        let (result, flags) = (entry.result(), entry.flags());
        let mut op = None;
        if result > 0 {
            let Some(id) = cqueue::buffer_select(flags) else {
                unreachable!("bytes were received, but the completion names no buffer")
            };
            // SAFETY: the kernel fills one buffer after the other, in the order of its completions:
            // so it has written that many bytes where the room of buffer `id` begins.
            let buffer = unsafe { multishot.provided.pool.fill(id, result as u32) };
            op = this.armed.waiter.take();
            if let Some(op) = op {
                // SAFETY: a waiter is in flight: it leaves its place when it is delivered.
                unsafe { record(op) }.result.set(this.finish(buffer));
            } else if this.keep(buffer) > MAX_UNREAD && cqueue::more(flags) {
                // SAFETY: the flag says that the kernel's count is not given up yet.
                unsafe { self.cancel_recv(queue) };
            }
        }
        if cqueue::more(flags) {
            return op;
        }
        // SAFETY: without the flag it is the last completion, so the kernel's count is free.
        let last = unsafe { self.complete_last(queue, result) };
        op.or(last)
    }

    /// Handles the end of a multishot receive; `result` is its cause, if that is not a number of
    /// bytes. Returns the operation that ends with it.
    ///
    /// # Safety
    /// `queue` came from `Rc::as_ptr`, and one strong count of it belongs to this call, which gives
    /// it up.
    #[cold]
    unsafe fn complete_last(&mut self, queue: *const RecvQueue, result: i32) -> Option<Token> {
        // SAFETY: this function's only item.
        let this = unsafe { Rc::from_raw(queue) };
        let armed = &this.armed;
        armed.active.set(false);
        // The list may hold abandoned queues, which must not keep it alive in turn.
        drop(armed.home.take());
        let Receiving::ByKernel(multishot) = &mut self.receiving else { return None };
        multishot.armed -= 1;
        if armed.abandoned.get() {
            multishot.leaving -= usize::from(armed.leaving.replace(false));
            // Only an operation that was leaked can still wait.
            let leaked = armed.waiter.take();
            if leaked.is_none() {
                note_end(armed, result);
            }
            // SAFETY: a waiter is in flight: it leaves its place when it is delivered.
            return leaked.inspect(|op| unsafe { record(*op) }.result.set(result));
        }
        if result > 0 {
            return None;
        }
        let is_refused = result == -libc::EACCES;
        if is_refused {
            // No receive answers so: the ring refuses the operation.
            self.leave_out(opcode::Recv::CODE);
        }
        let Some(op) = armed.waiter.take() else {
            note_end(armed, result);
            return None;
        };
        if is_refused {
            self.retries.push(op);
            return None;
        }
        let Receiving::ByKernel(multishot) = &mut self.receiving else { return None };
        // SAFETY: a waiter is in flight, and neither the kernel nor a thread has it.
        let (record, request) = unsafe { (record(op), describe(op)) };
        // Other receives that ended like this may have been given buffers meanwhile.
        let has_new = armed.began_with.get() != multishot.provided.version();
        match -result {
            libc::ENOBUFS if !has_new && !multishot.provided.provide_more() => {
                armed.starved.set(true);
                self.retries.push(op);
                return None;
            }
            // It was cancelled at the limit of unread bytes, which have been taken since.
            libc::ENOBUFS | libc::ECANCELED => {
                if let Request::RecvProvided { fd, .. } = request {
                    armed.waiter.set(Some(op));
                    // SAFETY: `this` is a strong count of it.
                    unsafe { self.arm(fd, queue) };
                }
                return None;
            }
            _ => {}
        }
        record.result.set(result);
        Some(op)
    }

    /// Ends the wait of a cancelled operation for its queue.
    ///
    /// # Safety
    /// `op` is in flight, with the tag `RecvQueue`.
    pub(super) unsafe fn withdraw(&mut self, op: Token) {
        // SAFETY: in flight; as its tag says, neither the kernel nor a thread has it.
        let request = unsafe { describe(op) };
        let Request::RecvProvided { queue, .. } = request else { return };
        // SAFETY: an operation in flight has a strong count of its queue.
        let waiter = unsafe { &(*queue).armed.waiter };
        if waiter.get() == Some(op) {
            waiter.set(None);
            // SAFETY: in flight.
            unsafe { record(op) }.result.set(-libc::ECANCELED);
            self.withdrawn.push(op);
            self.undelivered = true;
        }
    }

    /// Asks the kernel to end a receive.
    ///
    /// # Safety
    /// `queue` came from `Rc::as_ptr`, and there is a strong count of it.
    #[cold]
    unsafe fn cancel_recv(&mut self, queue: *const RecvQueue) {
        // SAFETY: this function's only item.
        let armed = unsafe { &(*queue).armed };
        if armed.cancelling.replace(true) {
            return;
        }
        armed.cancels.set(armed.cancels.get().saturating_add(1));
        // SAFETY: the same. The new count is the cancel's, until `complete_recv_cancel`.
        unsafe { Rc::increment_strong_count(queue) };
        let data = queue.expose_provenance() as u64;
        let cancel = opcode::AsyncCancel::new(data | Tag::RecvQueue as u64).build();
        // SAFETY: a cancel names no memory, only numbers.
        unsafe { self.push(cancel.user_data(data | Tag::RecvQueueCancel as u64)) };
    }

    /// Handles the completion of such a cancel.
    ///
    /// # Safety
    /// - `entry` was posted by this driver's ring, and has not been handled before;
    /// - its tag is `RecvQueueCancel`.
    pub(super) unsafe fn complete_recv_cancel(&mut self, entry: &cqueue::Entry) {
        let data = (entry.user_data() & !TAG_BITS) as usize;
        // SAFETY: by item 2 `cancel_recv` made the entry, with a count, which by item 1 is there.
        let queue = unsafe { Rc::from_raw(ptr::with_exposed_provenance::<RecvQueue>(data)) };
        let armed = &queue.armed;
        armed.cancelling.set(false);
        let missed = entry.result() == -libc::ENOENT && armed.active.get();
        if missed && armed.abandoned.get() && armed.cancels.get() < CANCEL_TRIES {
            // SAFETY: `queue` is a strong count of it.
            unsafe { self.cancel_recv(Rc::as_ptr(&queue)) };
        }
    }

    /// Before a turn: provides buffers that have become free, and cancels the receives of streams
    /// that were dropped.
    #[inline(always)]
    pub(super) fn update_receives(&mut self) {
        if let Receiving::ByKernel(multishot) = &mut self.receiving {
            multishot.provided.provide_freed();
            if !multishot.abandoned.borrow().is_empty() {
                self.cancel_abandoned();
            }
        }
    }

    #[cold]
    fn cancel_abandoned(&mut self) {
        let Receiving::ByKernel(multishot) = &mut self.receiving else { return };
        let abandoned = multishot.abandoned.take();
        let active = abandoned.iter().filter(|queue| queue.armed.active.get());
        for queue in active.clone() {
            queue.armed.leaving.set(true);
            queue.armed.cancels.set(0);
        }
        multishot.leaving += active.clone().count();
        for queue in active {
            // SAFETY: `abandoned` has a strong count of it.
            unsafe { self.cancel_recv(Rc::as_ptr(queue)) };
        }
    }

    /// Delivers withdrawn operations once all entries are submitted: an earlier one may name the
    /// operation's file by its number.
    #[cold]
    pub(super) fn deliver_withdrawn(&mut self, sink: &mut impl Sink) {
        if self.backlog.is_empty() && self.ring.sq().is_empty() {
            for op in self.withdrawn.drain(..) {
                // SAFETY: `withdraw` took it from its queue's only place for a waiter, or no place
                // had it (`deliver_later`); both stored its result. It leaves this list by its
                // delivery.
                unsafe { sink.deliver(op) };
            }
        }
    }

    /// Ends the receive of one queue, at which no operation waits.
    #[cold]
    pub(super) fn stop_recv(&mut self, queue: &Rc<RecvQueue>) {
        /// Each waits for a tenth of a second at most; usually the first is enough.
        const TRIES: usize = 50;
        debug_assert!(!self.reaping, "a second handle to the completion queue");
        queue.armed.cancels.set(0);
        for _ in 0..TRIES {
            if !queue.armed.active.get() {
                return;
            }
            // SAFETY: `queue` is a strong count of it.
            unsafe { self.cancel_recv(Rc::as_ptr(queue)) };
            self.refill();
            if self.enter(1, Some(Duration::from_millis(100))).is_err() {
                return;
            }
            self.take_early();
            self.complete_early_receives();
        }
    }

    /// Handles the receives' completions that were taken early, in order, as the kernel has filled
    /// the buffers in this order. What they end is delivered by the next turn.
    fn complete_early_receives(&mut self) {
        let early = std::mem::take(&mut self.early);
        let mut others = Vec::with_capacity(early.len());
        for entry in early {
            // SAFETY: taken off this ring's queue, handled once, and each tag is checked.
            unsafe {
                match entry.user_data() & TAG_BITS {
                    tag if tag == Tag::RecvQueue as u64 => {
                        let ended = self.complete_recv(&entry);
                        self.withdrawn.extend(ended);
                    }
                    tag if tag == Tag::RecvQueueCancel as u64 => self.complete_recv_cancel(&entry),
                    _ => others.push(entry),
                }
            }
        }
        // Nothing was taken meanwhile: completions of receives only queue entries.
        others.append(&mut self.early);
        self.early = others;
    }

    /// Ends all receives, at the driver's own end.
    pub(super) fn end_receives(&mut self) {
        /// Each waits for a tenth of a second at most.
        const TRIES: usize = 50;
        for attempt in 0..=TRIES {
            let Receiving::ByKernel(multishot) = &mut self.receiving else { return };
            if multishot.armed == 0 {
                return;
            }
            if attempt == TRIES || !self.end_some_receives() {
                break;
            }
        }
        // The kernel may still write to the buffers: they are leaked.
        if let Receiving::ByKernel(multishot) =
            std::mem::replace(&mut self.receiving, Receiving::Untried)
        {
            std::mem::forget(multishot);
        }
    }

    fn end_some_receives(&mut self) -> bool {
        let all = opcode::AsyncCancel2::new(CancelBuilder::any().all()).build();
        // SAFETY: a cancel names no memory, only numbers.
        unsafe { self.push(all.user_data(IGNORED)) };
        self.refill();
        let entered = self.enter(1, Some(Duration::from_millis(100)));
        self.take_early();
        // What these end is not delivered any more, which leaks it: clause 3 allows that of a
        // driver that is dropped. None waits but an operation whose future was leaked.
        self.complete_early_receives();
        entered.is_ok()
    }
}

impl Receiving {
    fn choose(submitter: &Submitter<'_>, memory: usize) -> io::Result<Self> {
        let filler = Filler::default();
        if !probe::succeeds() {
            return Ok(Receiving::ByCalls(filler));
        }
        // SAFETY: it becomes part of `Uring::receiving`, which is dropped after `Uring::ring`, or
        // is leaked by `end_receives`.
        match unsafe { Provided::new(submitter, memory) } {
            Ok(provided) => {
                let abandoned = Rc::default();
                let multishot = Multishot { provided, filler, armed: 0, leaving: 0, abandoned };
                Ok(Receiving::ByKernel(multishot))
            }
            Err(error) if error.kind() == io::ErrorKind::OutOfMemory => Err(error),
            Err(_) => Ok(Receiving::ByCalls(filler)),
        }
    }

    pub(super) fn is_by_kernel(&self) -> bool {
        matches!(self, Receiving::ByKernel(_))
    }

    /// Returns the number of receives that are being cancelled because their stream was dropped.
    pub(super) fn leaving(&self) -> usize {
        match self {
            Receiving::ByKernel(multishot) => {
                multishot.leaving + multishot.abandoned.borrow().len()
            }
            _ => 0,
        }
    }
}
