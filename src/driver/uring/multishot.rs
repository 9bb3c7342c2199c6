//! Receives that go on by themselves (multishot), into [buffers that the kernel
//! takes](super::provided) bit by bit.
//!
//! What is under way belongs to no operation but to the socket's [`RecvQueue`]: an operation takes what
//! has come, or waits for it. If it is cancelled, the receive goes on, and what comes is kept for
//! the next. While all buffers are in use, what is asked for is received by calls, so that one
//! socket can't starve others; so it is always where the kernel has no such receives.
//!
//! # Why this file has `unsafe`
//! The kernel writes into the buffers, and holds counts of feeds.

use std::cell::{Cell, RefCell};
use std::io;
use std::ptr;
use std::rc::Rc;
use std::time::Duration;

use io_uring::types::CancelBuilder;
use io_uring::{Submitter, cqueue, opcode};

use super::provided::{GROUP, Provided};
use super::user_data::{IGNORED, MARKS, Mark};
use super::{Uring, probe, submit};
use crate::buf::RecvPool;
use crate::driver::recv_queue::{Filler, RecvQueue};
use crate::driver::sys;
use crate::driver::{Notes, Request, Target, Token};

/// So many bytes may come from one socket before they are asked for. Then it has to wait, so that
/// one that nobody reads from can't take all buffers.
const AHEAD: usize = 4 * RecvPool::SIZE;

const AGAIN: i32 = -libc::EAGAIN;

/// A cancel can miss a receive that is just moving between two of the kernel's lists.
const CANCEL_TRIES: u8 = 16;

/// How chunks are received: found out by the first.
pub(super) enum Receiving {
    Untried,
    ByKernel(Multishot),
    ByCalls(Filler),
}

/// The receives of one ring.
pub(super) struct Multishot {
    provided: Provided,
    /// For when all buffers are in use.
    filler: Filler,
    /// How many may write into the buffers.
    armed: usize,
    /// Of these, how many are being cancelled for good.
    leaving: usize,
    abandoned: Rc<Abandoned>,
}

/// Feeds that nobody will ask any more, to be cancelled by the next turn.
type Abandoned = RefCell<Vec<Rc<RecvQueue>>>;

/// The receive of a [`RecvQueue`] that goes on by itself.
#[derive(Debug, Default)]
pub(in crate::driver) struct Armed {
    /// The operation that waits for it.
    waiter: Cell<Option<Token>>,
    /// It is under way; the kernel has a count of the feed.
    is: Cell<bool>,
    /// A cancel of it is under way, which has a count, too.
    cancelling: Cell<bool>,
    cancels: Cell<u8>,
    abandoned: Cell<bool>,
    /// The kernel had no buffer left.
    starved: Cell<bool>,
    /// It counts among those that are [leaving](Multishot::leaving).
    leaving: Cell<bool>,
    /// The [version](Provided::version) of the buffers when it began.
    began_with: Cell<u16>,
    /// How it ended while nobody waited: an error is told only once.
    end: Cell<Option<i32>>,
    /// Where its driver looks for it when it is abandoned.
    home: RefCell<Option<Rc<Abandoned>>>,
}

impl Armed {
    /// Nobody will ask `feed` any more.
    pub(in crate::driver) fn abandon(feed: &Rc<RecvQueue>) {
        feed.armed.abandoned.set(true);
        if !feed.armed.is.get() {
            return;
        }
        let home = feed.armed.home.borrow().clone();
        if let Some(home) = home {
            home.borrow_mut().push(feed.clone());
        }
    }
}

impl Uring {
    /// Takes what has come, or waits for it.
    ///
    /// # Safety
    /// As for [`Driver::submit`](crate::driver::Driver::submit); `feed` is in an `Rc`.
    #[inline(always)]
    pub(super) unsafe fn recv_provided(
        &mut self,
        op: Token,
        fd: Target,
        feed: *const RecvQueue,
    ) -> Option<i32> {
        // SAFETY: what the caller promises.
        let this = unsafe { &*feed };
        if let Some(len) = this.hand_on() {
            return Some(len);
        }
        match &mut self.receiving {
            Receiving::ByKernel(_) if this.armed.is.get() => {
                wait(op, this);
                None
            }
            // SAFETY: what the caller promises.
            _ => unsafe { self.begin_chunks(op, fd, feed) },
        }
    }
}

/// Has `op` wait for what comes.
#[inline(always)]
fn wait(op: Token, feed: &RecvQueue) {
    debug_assert_eq!(feed.armed.waiter.get(), None, "there is one operation at a time");
    feed.armed.waiter.set(Some(op));
    // SAFETY: the caller of `submit` keeps the record in place.
    let notes = unsafe { &op.as_ref().notes };
    notes.set(Notes { mark: Mark::RecvQueue as u8, ..notes.get() });
}

impl Uring {
    /// # Safety
    /// As for [`recv_provided`](Self::recv_provided).
    unsafe fn begin_chunks(
        &mut self,
        op: Token,
        fd: Target,
        feed: *const RecvQueue,
    ) -> Option<i32> {
        if matches!(self.receiving, Receiving::Untried) {
            self.syscalls += 1;
            match Receiving::choose(&self.submitter, self.receive_memory) {
                Ok(receiving) => self.receiving = receiving,
                Err(error) => return Some(-error.raw_os_error().unwrap_or(libc::ENOMEM)),
            }
        }
        // SAFETY: what the caller promises.
        let this = unsafe { &*feed };
        match &mut self.receiving {
            Receiving::ByCalls(_) => self.recv_by_call(op, fd, this),
            Receiving::ByKernel(_)
                if this.armed.starved.take() || !self.features.opcodes.has(opcode::Recv::CODE) =>
            {
                self.recv_by_call(op, fd, this)
            }
            Receiving::ByKernel(_) => {
                if let Some(end) = this.armed.end.take() {
                    return Some(end);
                }
                wait(op, this);
                // SAFETY: what the caller promises.
                unsafe { self.arm(fd, feed) };
                None
            }
            Receiving::Untried => unreachable!("chosen above"),
        }
    }

    /// Receives by a call, once there is something.
    fn recv_by_call(&mut self, op: Token, fd: Target, feed: &RecvQueue) -> Option<i32> {
        let (Receiving::ByCalls(filler) | Receiving::ByKernel(Multishot { filler, .. })) =
            &mut self.receiving
        else {
            unreachable!("chosen by then")
        };
        self.syscalls += 1;
        // SAFETY: what was received has been written.
        let received =
            unsafe { filler.receive(feed, |ptr, len| sys::recv_at_once(fd.fd, ptr, len, 0)) };
        match received {
            AGAIN => self.await_readiness(op, fd, libc::POLLIN),
            received => Some(received),
        }
    }

    /// Has the kernel receive until there is a reason to stop.
    ///
    /// # Safety
    /// `feed` is in an `Rc`.
    unsafe fn arm(&mut self, fd: Target, feed: *const RecvQueue) {
        let Receiving::ByKernel(multishot) = &mut self.receiving else { return };
        multishot.armed += 1;
        // SAFETY: what the caller promises. This count is the kernel's, until `settle_last`.
        unsafe { Rc::increment_strong_count(feed) };
        // SAFETY: there is at least that count.
        let armed = unsafe { &(*feed).armed };
        armed.is.set(true);
        armed.began_with.set(multishot.provided.version());
        *armed.home.borrow_mut() = Some(multishot.abandoned.clone());
        let entry = submit::on(fd, |fd| opcode::RecvMulti::new(fd, GROUP).build());
        self.push(entry.user_data(feed.expose_provenance() as u64 | Mark::RecvQueue as u64));
    }

    /// One completion of a receive that goes on by itself.
    #[inline(always)]
    pub(super) fn settle_feed(&mut self, entry: &cqueue::Entry) -> Option<Token> {
        let data = (entry.user_data() & !MARKS) as usize;
        let feed: *const RecvQueue = ptr::with_exposed_provenance(data);
        // SAFETY: the kernel's count is given up by the last completion, in `settle_last`.
        let this = unsafe { &*feed };
        let Receiving::ByKernel(multishot) = &mut self.receiving else {
            unreachable!("only such receives are armed")
        };
        let (result, flags) = (entry.result(), entry.flags());
        let mut op = None;
        if result > 0 {
            let Some(id) = cqueue::buffer_select(flags) else {
                unreachable!("bytes were received, but the kernel does not tell where to")
            };
            // SAFETY: the kernel fills one buffer after the other, in the order of its completions,
            // and has written that many bytes.
            let chunk = unsafe { multishot.provided.pool.fill(id, result as u32) };
            op = this.armed.waiter.take();
            if let Some(op) = op {
                // SAFETY: in flight until it is delivered.
                unsafe { op.as_ref() }.result.set(this.hand(chunk));
            } else if this.armed.abandoned.get() {
                drop(chunk);
            } else if this.keep(chunk) > AHEAD && cqueue::more(flags) {
                // SAFETY: the kernel's count, as above.
                unsafe { self.cancel_feed(feed) };
            }
        }
        if cqueue::more(flags) {
            return op;
        }
        // SAFETY: the last completion.
        let last = unsafe { self.settle_last(feed, result) };
        op.or(last)
    }

    /// The kernel receives no more; `result` says why, if it is not a number of bytes.
    ///
    /// # Safety
    /// The kernel's count of `feed` is there, and is given up hereby.
    #[cold]
    unsafe fn settle_last(&mut self, feed: *const RecvQueue, result: i32) -> Option<Token> {
        // SAFETY: the kernel's count.
        let this = unsafe { Rc::from_raw(feed) };
        let armed = &this.armed;
        armed.is.set(false);
        // A home may have feeds that were abandoned, which must not keep it.
        drop(armed.home.take());
        let Receiving::ByKernel(multishot) = &mut self.receiving else { return None };
        multishot.armed -= 1;
        if armed.abandoned.get() {
            multishot.leaving -= usize::from(armed.leaving.replace(false));
            // Only if it was leaked can an operation still wait.
            let leaked = armed.waiter.take();
            // SAFETY: in flight until it is delivered.
            return leaked.inspect(|op| unsafe { op.as_ref() }.result.set(result));
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
            // These only mean that the next operation has to begin again.
            let end = Some(result)
                .filter(|&end| end != -libc::ENOBUFS && end != -libc::ECANCELED && !is_refused);
            armed.end.set(end);
            return None;
        };
        if is_refused {
            self.again.push(op);
            return None;
        }
        let Receiving::ByKernel(multishot) = &mut self.receiving else { return None };
        // SAFETY: in flight until it is delivered, and nothing else uses it: it only waited.
        let (record, request) = unsafe { (op.as_ref(), (op.as_ref().request)(op)) };
        // Others that ended like this may have been given buffers, which it has not tried yet.
        let are_new = armed.began_with.get() != multishot.provided.version();
        match -result {
            libc::ENOBUFS if !are_new && !multishot.provided.provide_more() => {
                armed.starved.set(true);
                self.again.push(op);
                return None;
            }
            // It had come too far ahead, but all that has been taken meanwhile.
            libc::ENOBUFS | libc::ECANCELED => {
                if let Request::RecvProvided { fd, .. } = request {
                    armed.waiter.set(Some(op));
                    // SAFETY: from an `Rc`.
                    unsafe { self.arm(fd, feed) };
                }
                return None;
            }
            _ => {}
        }
        record.result.set(result);
        Some(op)
    }

    /// The operation no longer waits for its feed.
    pub(super) fn withdraw(&mut self, op: Token) {
        // SAFETY: in flight, and nothing else uses it: it only waits.
        let request = unsafe { (op.as_ref().request)(op) };
        let Request::RecvProvided { feed, .. } = request else { return };
        // SAFETY: the operation has a count.
        let waiter = unsafe { &(*feed).armed.waiter };
        if waiter.get() == Some(op) {
            waiter.set(None);
            // SAFETY: in flight until it is delivered.
            unsafe { op.as_ref() }.result.set(-libc::ECANCELED);
            self.withdrawn.push(op);
            self.unsettled = true;
        }
    }

    /// # Safety
    /// `feed` is in an `Rc`.
    #[cold]
    unsafe fn cancel_feed(&mut self, feed: *const RecvQueue) {
        // SAFETY: what the caller promises.
        let armed = unsafe { &(*feed).armed };
        if armed.cancelling.replace(true) {
            return;
        }
        armed.cancels.set(armed.cancels.get().saturating_add(1));
        // SAFETY: what the caller promises. This count is the cancel's, until `settle_cancel`.
        unsafe { Rc::increment_strong_count(feed) };
        let data = feed.expose_provenance() as u64;
        let cancel = opcode::AsyncCancel::new(data | Mark::RecvQueue as u64).build();
        self.push(cancel.user_data(data | Mark::FeedCancel as u64));
    }

    /// The completion of a cancel.
    pub(super) fn settle_cancel(&mut self, entry: &cqueue::Entry) {
        let data = (entry.user_data() & !MARKS) as usize;
        // SAFETY: the count that the cancel had.
        let feed = unsafe { Rc::from_raw(ptr::with_exposed_provenance::<RecvQueue>(data)) };
        let armed = &feed.armed;
        armed.cancelling.set(false);
        let missed = entry.result() == -libc::ENOENT && armed.is.get();
        if missed && armed.abandoned.get() && armed.cancels.get() < CANCEL_TRIES {
            // SAFETY: from an `Rc`.
            unsafe { self.cancel_feed(Rc::as_ptr(&feed)) };
        }
    }

    /// Before a turn: the kernel gets what buffers have become free, and is told of feeds that were
    /// abandoned.
    #[inline(always)]
    pub(super) fn tend_streams(&mut self) {
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
        let armed = abandoned.iter().filter(|feed| feed.armed.is.get());
        for feed in armed.clone() {
            feed.armed.leaving.set(true);
            feed.armed.cancels.set(0);
        }
        multishot.leaving += armed.clone().count();
        for feed in armed {
            // SAFETY: from an `Rc`.
            unsafe { self.cancel_feed(Rc::as_ptr(feed)) };
        }
    }

    /// Delivers cancelled operations, as soon as no entry of theirs, with the number of a file, is
    /// queued.
    #[cold]
    pub(super) fn deliver_withdrawn(&mut self, sink: &mut impl crate::driver::Sink) {
        if self.backlog.is_empty() && self.sq().is_empty() {
            for op in self.withdrawn.drain(..) {
                sink.deliver(op);
            }
        }
    }

    /// Ends all receives, at the driver's own end.
    pub(super) fn end_chunks(&mut self) {
        /// Of a tenth of a second.
        const TRIES: usize = 50;
        for attempt in 0..=TRIES {
            let Receiving::ByKernel(multishot) = &mut self.receiving else { return };
            if multishot.armed == 0 {
                return;
            }
            if attempt == TRIES || !self.end_some_chunks() {
                break;
            }
        }
        // The kernel may write there for ever.
        if let Receiving::ByKernel(multishot) =
            std::mem::replace(&mut self.receiving, Receiving::Untried)
        {
            std::mem::forget(multishot);
        }
    }

    fn end_some_chunks(&mut self) -> bool {
        let all = opcode::AsyncCancel2::new(CancelBuilder::any().all()).build();
        self.push(all.user_data(IGNORED));
        self.refill();
        let entered = self.enter(1, Some(Duration::from_millis(100)));
        self.take_early();
        for entry in std::mem::take(&mut self.early) {
            match entry.user_data() & MARKS {
                // No operation waits any more.
                data if data == Mark::RecvQueue as u64 => drop(self.settle_feed(&entry)),
                data if data == Mark::FeedCancel as u64 => self.settle_cancel(&entry),
                _ => {}
            }
        }
        entered.is_ok()
    }
}

impl Receiving {
    fn choose(submitter: &Submitter<'_>, memory: usize) -> io::Result<Self> {
        let filler = Filler::default();
        if !probe::succeeds() {
            return Ok(Receiving::ByCalls(filler));
        }
        // SAFETY: it goes after the ring, or never (`end_chunks`).
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

    /// How many receives are being cancelled because nobody will ask any more.
    pub(super) fn leaving(&self) -> usize {
        match self {
            Receiving::ByKernel(multishot) => {
                multishot.leaving + multishot.abandoned.borrow().len()
            }
            _ => 0,
        }
    }
}
