//! Receives into the driver's own memory: the queue of received buffers of one socket, and, for
//! drivers that make the calls themselves, the choice of where to receive.

// # Why this file has `unsafe`
// The number of bytes that a receive call has written cannot be checked here.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

#[cfg(corio_uring)]
use super::Token;
use crate::buf::{RecvBuf, RecvPool};
use crate::os;

/// The received bytes of one socket that no operation has taken yet. Eight-byte aligned, like an
/// operation's record, so that the low bits of its address are free for a tag.
#[derive(Default)]
#[repr(align(8))]
pub struct RecvQueue {
    /// Buffers that were received before an operation asked for them, oldest first.
    buffers: RefCell<VecDeque<RecvBuf>>,
    /// The number of bytes in `buffers`.
    len: Cell<usize>,
    /// Whether an operation holds the [`Reservation`], or has left an error.
    usage: Cell<Usage>,
    /// The error of an operation that was dropped without being polled again, behind `buffers`;
    /// valid while it is `Failed`.
    error: Cell<i32>,
    /// The id of the context that it belongs to; 0: none yet.
    context: Cell<u64>,
    /// The result of the operation that has just ended, until its future takes it.
    result: Cell<Option<RecvBuf>>,
    /// The multishot receive of a driver that has such receives.
    #[cfg(corio_uring)]
    pub(super) armed: Armed,
}

/// What the next operation finds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Usage {
    #[default]
    Free,
    /// Another operation has the [`Reservation`].
    Reserved,
    /// The stream has failed, and the error has not been taken.
    Failed,
}

/// The state of the multishot receive that fills a [`RecvQueue`].
#[cfg(corio_uring)]
#[derive(Default)]
pub(super) struct Armed {
    /// The operation in flight that waits for bytes.
    pub(super) waiter: Cell<Option<Token>>,
    /// The receive is under way; the kernel has a strong count of the queue.
    pub(super) active: Cell<bool>,
    /// A cancel of the receive is under way, which has a strong count of its own.
    pub(super) cancelling: Cell<bool>,
    /// How many cancels have been sent.
    pub(super) cancels: Cell<u8>,
    /// The receive stream was dropped: no operation will come.
    pub(super) abandoned: Cell<bool>,
    /// The receive ended because the kernel had no free buffer left.
    pub(super) starved: Cell<bool>,
    /// The receive counts among those that the driver cancels for good.
    pub(super) leaving: Cell<bool>,
    /// The version of the provided buffers when the receive was armed.
    pub(super) began_with: Cell<u16>,
    /// The result that ended the receive while no operation waited: an error is reported once.
    pub(super) end: Cell<Option<i32>>,
    /// The driver's list for this queue to be put on when it is abandoned.
    pub(super) home: Cell<Option<Rc<Abandoned>>>,
}

/// Queues whose stream was dropped, for the next turn to cancel their receives.
#[cfg(corio_uring)]
pub(super) type Abandoned = RefCell<Vec<Rc<RecvQueue>>>;

impl RecvQueue {
    /// Makes the oldest buffer the result of the operation that ends now; returns its length.
    #[inline(always)]
    pub(super) fn finish_from_queue(&self) -> Option<i32> {
        let buffer = self.buffers.borrow_mut().pop_front()?;
        self.len.set(self.len.get() - buffer.len());
        Some(self.finish(buffer))
    }

    /// Makes `buffer` the result of the operation that ends now; returns its length.
    #[inline(always)]
    pub(super) fn finish(&self, buffer: RecvBuf) -> i32 {
        let len = buffer.len() as i32;
        debug_assert!(len > 0, "an empty buffer would read as the end of the stream");
        self.result.set(Some(buffer));
        len
    }

    /// Takes the result of the operation that has ended, if it received bytes.
    #[inline(always)]
    pub(crate) fn take(&self) -> Option<RecvBuf> {
        self.result.take()
    }

    /// Puts an untaken result back in front of the queue, for the next operation.
    pub(crate) fn take_back(&self) {
        if let Some(buffer) = self.result.take() {
            self.len.set(self.len.get() + buffer.len());
            self.buffers.borrow_mut().push_front(buffer);
        }
    }

    /// Shows the oldest bytes to `take`, which returns how many of them it has taken; these leave
    /// the queue, unless it only peeks. Returns the result of the receive: their number, or the
    /// negated number of the error that follows the last byte; `None`: the queue holds nothing.
    pub(crate) fn receive(&self, peek: bool, take: impl FnOnce(&[u8]) -> usize) -> Option<i32> {
        let mut buffers = self.buffers.borrow_mut();
        let Some(first) = buffers.front_mut() else {
            return self.error(peek).map(|errno| -errno);
        };
        let (held, taken) = (first.len(), take(first));
        if peek {
            return Some(taken as i32);
        }
        if taken == held {
            buffers.pop_front();
        } else {
            first.advance(taken);
        }
        self.len.set(self.len.get() - taken);
        Some(taken as i32)
    }

    /// Takes the error that follows the last byte, unless it is only looked at.
    fn error(&self, peek: bool) -> Option<i32> {
        if self.usage.get() == Usage::Failed {
            self.usage.set(if peek { Usage::Failed } else { Usage::Free });
            return Some(self.error.get());
        }
        #[cfg(corio_uring)]
        if let Some(end) = self.armed.end.get().filter(|end| *end < 0) {
            self.armed.end.set(peek.then_some(end));
            return Some(-end);
        }
        None
    }

    /// Takes everything that was received: the bytes, and the error behind them.
    pub(crate) fn take_all(&self) -> (VecDeque<RecvBuf>, Option<i32>) {
        self.take_back();
        self.len.set(0);
        (self.buffers.take(), self.error(false))
    }

    /// Queues what was received earlier in another way. No operation has the reservation.
    pub(crate) fn put(&self, buffers: impl IntoIterator<Item = RecvBuf>, error: Option<i32>) {
        for buffer in buffers {
            self.len.set(self.len.get() + buffer.len());
            self.buffers.borrow_mut().push_back(buffer);
        }
        if let Some(errno) = error {
            self.error.set(errno);
            self.usage.set(Usage::Failed);
        }
    }

    /// Does the same, in front of what is queued.
    pub(crate) fn put_first(&self, buffers: impl IntoIterator<Item = RecvBuf>, error: Option<i32>) {
        let (behind, own_error) = self.take_all();
        self.put(buffers.into_iter().chain(behind), own_error.or(error));
    }

    /// Queues bytes that no operation has asked for yet; returns the number of bytes in the queue.
    #[cfg(corio_uring)]
    pub(super) fn keep(&self, buffer: RecvBuf) -> usize {
        self.len.set(self.len.get() + buffer.len());
        let mut buffers = self.buffers.borrow_mut();
        let separate = match buffers.back_mut() {
            Some(last) => last.append(buffer).err(),
            None => Some(buffer),
        };
        buffers.extend(separate);
        self.len.get()
    }

    /// Returns the id of the context that the queue belongs to; 0: none yet.
    #[inline(always)]
    pub(crate) fn context(&self) -> u64 {
        self.context.get()
    }

    pub(crate) fn set_context(&self, id: u64) {
        self.context.set(id);
    }

    /// Returns `true` if an operation has the [`Reservation`].
    pub(crate) fn is_reserved(&self) -> bool {
        self.usage.get() == Usage::Reserved
    }

    /// Returns `true` if the driver receives into the queue by itself.
    pub(crate) fn is_active(&self) -> bool {
        #[cfg(corio_uring)]
        return self.armed.active.get();
        #[cfg(not(corio_uring))]
        false
    }

    /// Declares that no operation will come: the stream was dropped.
    pub(crate) fn abandon(&self) {
        #[cfg(corio_uring)]
        self.armed.abandoned.set(true);
    }

    /// Has the driver end the receive at its next turn.
    #[cfg(corio_uring)]
    pub(crate) fn end_later(self: &Rc<Self>) {
        if let Some(home) = self.armed.home.take() {
            home.borrow_mut().push(self.clone());
        }
    }
}

/// The right to receive from a [`RecvQueue`], which one operation at a time has. If that operation
/// is leaked, the right is never given back.
pub(crate) struct Reservation {
    queue: Rc<RecvQueue>,
    /// What the queue will be once the right, which was taken, is given back.
    then: Option<Usage>,
}

impl Reservation {
    pub(crate) fn new(queue: Rc<RecvQueue>) -> Self {
        Reservation { queue, then: None }
    }

    pub(crate) fn queue(&self) -> &Rc<RecvQueue> {
        &self.queue
    }

    /// Takes the right; fails with `EBUSY` if another operation has it, or with the error that an
    /// earlier operation has left.
    #[inline(always)]
    pub(crate) fn take(&mut self) -> Result<(), i32> {
        if self.then.is_none() {
            match self.queue.usage.replace(Usage::Reserved) {
                Usage::Free => self.then = Some(Usage::Free),
                usage => return self.take_slow(usage),
            }
        }
        Ok(())
    }

    #[cold]
    fn take_slow(&mut self, usage: Usage) -> Result<(), i32> {
        if usage == Usage::Reserved {
            return Err(os::EBUSY);
        }
        if self.queue.buffers.borrow().is_empty() {
            self.queue.usage.set(Usage::Free);
            return Err(self.queue.error.get());
        }
        self.then = Some(Usage::Failed);
        Ok(())
    }

    /// Leaves an error of the stream for the next operation.
    pub(crate) fn leave_error(&mut self, errno: i32) {
        self.queue.error.set(errno);
        self.then = Some(Usage::Failed);
    }
}

impl Drop for Reservation {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(usage) = self.then {
            self.queue.usage.set(usage);
        }
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").field("taken", &self.then.is_some()).finish_non_exhaustive()
    }
}

impl fmt::Debug for RecvQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvQueue").field("buffers", &self.buffers).finish_non_exhaustive()
    }
}

/// Receives by system calls into buffers of a pool. The pool has no limit but its number of
/// buffers, as bytes are received only when an operation asks for them.
#[derive(Debug, Default)]
pub(super) struct Filler {
    pool: Rc<RecvPool>,
    /// The buffer that is being filled.
    current: Option<u16>,
}

impl Filler {
    /// Receives by `call`, which gets the address and the size of free memory, and returns the
    /// number of bytes that it has written, or a negated error number.
    ///
    /// # Safety
    /// A number above zero that `call` returns is at most the size that it got, and that many bytes
    /// at the address are initialised by then.
    #[inline(always)]
    pub(super) unsafe fn receive(
        &mut self,
        queue: &RecvQueue,
        call: impl FnOnce(*mut u8, u32) -> i32,
    ) -> i32 {
        let Some(id) = self.current.or_else(|| self.pool.take()) else { return -os::ENOBUFS };
        let (start, room) = self.pool.room(id);
        let received = call(start.as_ptr(), room);
        self.current = (received != room as i32).then_some(id);
        if received <= 0 {
            return received;
        }
        // SAFETY: this function's only item: `call` got the room of `id`, has written that many
        // bytes there, and has ended.
        queue.finish(unsafe { self.pool.fill(id, received as u32) })
    }

    /// Returns `true` if the last receive left room in its buffer.
    pub(super) fn has_room(&self) -> bool {
        self.current.is_some()
    }
}
