//! Receives into the driver's own memory: what has come, and, for drivers that make the calls
//! themselves, where it goes.
//!
//! # Why this file has `unsafe`
//! What a call has written is vouched for by whoever makes it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

#[cfg(target_os = "linux")]
use super::uring::Armed;
use crate::buf::{RecvBuf, RecvPool};
use crate::os;

/// What one socket has received into the driver's memory. Eight-byte aligned, like an operation's
/// record.
#[derive(Default)]
#[repr(align(8))]
pub struct RecvQueue {
    /// What has come before it was asked for.
    queue: RefCell<VecDeque<RecvBuf>>,
    /// How many bytes that are.
    kept: Cell<usize>,
    /// An operation is there that takes what comes.
    in_use: Cell<bool>,
    /// The result of the operation that has just ended, until its future takes it.
    handed: Cell<Option<RecvBuf>>,
    /// The receive that goes on by itself.
    #[cfg(target_os = "linux")]
    pub(super) armed: Armed,
}

impl RecvQueue {
    /// Hands on what came before it was asked for; its length.
    #[inline(always)]
    pub(super) fn hand_on(&self) -> Option<i32> {
        let chunk = self.queue.borrow_mut().pop_front()?;
        self.kept.set(self.kept.get() - chunk.len());
        Some(self.hand(chunk))
    }

    /// Has this be the result of the operation that ends now; its length.
    #[inline(always)]
    pub(super) fn hand(&self, chunk: RecvBuf) -> i32 {
        let len = chunk.len() as i32;
        debug_assert!(len > 0, "an empty chunk would say that the stream has ended");
        self.handed.set(Some(chunk));
        len
    }

    /// Takes the result of the operation that has ended, if that is a chunk.
    #[inline(always)]
    pub(crate) fn take(&self) -> Option<RecvBuf> {
        self.handed.take()
    }

    /// Nobody takes that result: it is what the next operation gets.
    pub(crate) fn take_back(&self) {
        if let Some(chunk) = self.handed.take() {
            self.kept.set(self.kept.get() + chunk.len());
            self.queue.borrow_mut().push_front(chunk);
        }
    }

    /// Keeps what nobody has asked for yet; how many bytes that is by now.
    #[cfg(target_os = "linux")]
    pub(super) fn keep(&self, chunk: RecvBuf) -> usize {
        self.kept.set(self.kept.get() + chunk.len());
        let mut queue = self.queue.borrow_mut();
        let separate = match queue.back_mut() {
            Some(last) => last.append(chunk).err(),
            None => Some(chunk),
        };
        queue.extend(separate);
        self.kept.get()
    }

    /// Nobody will ask any more: what has come is given up.
    pub(crate) fn abandon(self: &Rc<Self>) {
        drop((self.queue.take(), self.handed.take()));
        #[cfg(target_os = "linux")]
        Armed::abandon(self);
    }
}

/// The one operation at a time that takes what comes. If it is leaked, there is no other any more.
pub(crate) struct Reservation {
    feed: Rc<RecvQueue>,
    taken: bool,
}

impl Reservation {
    pub(crate) fn new(feed: Rc<RecvQueue>) -> Self {
        Reservation { feed, taken: false }
    }

    pub(crate) fn feed(&self) -> &Rc<RecvQueue> {
        &self.feed
    }

    /// An error number: another operation has it.
    #[inline(always)]
    pub(crate) fn take(&mut self) -> Result<(), i32> {
        if !self.taken {
            if self.feed.in_use.replace(true) {
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
            self.feed.in_use.set(false);
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
        f.debug_struct("RecvQueue").field("queue", &self.queue).finish_non_exhaustive()
    }
}

/// Receives what is asked for by calls. So there is no limit to its memory but what chunks are
/// kept.
#[derive(Debug, Default)]
pub(super) struct Filler {
    pool: Rc<RecvPool>,
    /// The buffer that is being filled.
    current: Option<u16>,
}

impl Filler {
    /// Receives by `call`, which is told where to and how many bytes at most, and gives how many,
    /// or a negated error number.
    ///
    /// # Safety
    /// `call` has written as many bytes as it says.
    #[inline(always)]
    pub(super) unsafe fn receive(
        &mut self,
        feed: &RecvQueue,
        call: impl FnOnce(*mut u8, u32) -> i32,
    ) -> i32 {
        let Some(id) = self.current.or_else(|| self.pool.take()) else { return -os::ENOBUFS };
        let (start, room) = self.pool.room(id);
        let received = call(start.as_ptr(), room);
        self.current = (received != room as i32).then_some(id);
        if received <= 0 {
            return received;
        }
        // SAFETY: what the caller promises.
        feed.hand(unsafe { self.pool.fill(id, received as u32) })
    }

    /// Whether the last receive had more room than it needed.
    pub(super) fn has_room(&self) -> bool {
        self.current.is_some()
    }
}
