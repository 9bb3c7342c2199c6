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
    /// An operation holds the [`Reservation`].
    in_use: Cell<bool>,
    /// The result of the operation that has just ended, until its future takes it.
    result: Cell<Option<RecvBuf>>,
    /// The multishot receive of a driver that has such receives.
    #[cfg(corio_uring)]
    pub(super) armed: Armed,
}

/// The state of the multishot receive that fills a [`RecvQueue`].
#[cfg(corio_uring)]
#[derive(Debug, Default)]
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
    pub(super) home: RefCell<Option<Rc<Abandoned>>>,
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

    /// Drops the received bytes, and has the driver end the receive: the stream was dropped.
    pub(crate) fn abandon(self: &Rc<Self>) {
        drop((self.buffers.take(), self.result.take()));
        #[cfg(corio_uring)]
        self.abandon_armed();
    }

    #[cfg(corio_uring)]
    fn abandon_armed(self: &Rc<Self>) {
        self.armed.abandoned.set(true);
        if !self.armed.active.get() {
            return;
        }
        let home = self.armed.home.borrow().clone();
        if let Some(home) = home {
            home.borrow_mut().push(self.clone());
        }
    }
}

/// The right to receive from a [`RecvQueue`], which one operation at a time has. If that operation
/// is leaked, the right is never given back.
pub(crate) struct Reservation {
    queue: Rc<RecvQueue>,
    taken: bool,
}

impl Reservation {
    pub(crate) fn new(queue: Rc<RecvQueue>) -> Self {
        Reservation { queue, taken: false }
    }

    pub(crate) fn queue(&self) -> &Rc<RecvQueue> {
        &self.queue
    }

    /// Takes the right; fails with `EBUSY` if another operation has it.
    #[inline(always)]
    pub(crate) fn take(&mut self) -> Result<(), i32> {
        if !self.taken {
            if self.queue.in_use.replace(true) {
                return Err(os::EBUSY);
            }
            self.taken = true;
        }
        Ok(())
    }
}

impl Drop for Reservation {
    #[inline(always)]
    fn drop(&mut self) {
        if self.taken {
            self.queue.in_use.set(false);
        }
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").field("taken", &self.taken).finish_non_exhaustive()
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
