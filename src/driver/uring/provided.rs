//! Buffers that the kernel takes bit by bit.
//!
//! There is one queue of them per ring. What the kernel receives, for whichever socket, goes behind
//! what it received before (`IOU_PBUF_RING_INC`,
//! [`io_uring_register_buf_ring(3)`](https://man7.org/linux/man-pages/man3/io_uring_register_buf_ring.3.html),
//! kernel 6.12).
//!
//! # Why this file has `unsafe`
//! It shares the queue with the kernel.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::{BufRingEntry, IOU_PBUF_RING_INC};

use crate::buf::RecvPool;

/// The one queue of buffers.
pub(super) const GROUP: u16 = 0;

/// The kernel takes a buffer bit by bit.
pub(super) const BIT_BY_BIT: u16 = IOU_PBUF_RING_INC as u16;

/// A pool whose free buffers the kernel has.
pub(super) struct Provided {
    pub(super) pool: Rc<RecvPool>,
    queue: Queue,
}

impl Provided {
    /// With at most so many bytes.
    ///
    /// # Safety
    /// The value stays until the ring is gone.
    pub(super) unsafe fn new(submitter: &Submitter<'_>, memory: usize) -> io::Result<Self> {
        let pool = Rc::new(RecvPool::new(memory));
        let count = pool.limit().next_power_of_two() as u16;
        let mut provided = Provided { pool, queue: Queue::new(count) };
        if !provided.provide_more() {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let address = provided.queue.address();
        // SAFETY: that many entries are there, for as long as the caller promises.
        unsafe { submitter.register_buf_ring_with_flags(address, count, GROUP, BIT_BY_BIT)? };
        Ok(provided)
    }

    /// Gives the kernel what buffers have become free.
    #[inline(always)]
    pub(super) fn provide_freed(&mut self) {
        if let Some(first) = self.pool.take_freed() {
            self.provide(first);
        }
    }

    /// The kernel has no buffer left. `false`: there is none to give.
    pub(super) fn provide_more(&mut self) -> bool {
        let more = self.pool.take();
        more.is_some_and(|first| {
            self.provide(first);
            true
        })
    }

    /// Changes whenever buffers are provided.
    pub(super) fn version(&self) -> u16 {
        self.queue.tail
    }

    #[cold]
    fn provide(&mut self, first: u16) {
        let others = std::iter::from_fn(|| self.pool.take_freed());
        for id in std::iter::once(first).chain(others) {
            let (start, room) = self.pool.room(id);
            self.queue.put(start, room, id);
        }
        self.queue.publish();
    }
}

/// The queue of free buffers, which the kernel reads, and in whose entries it counts how far it has
/// come.
pub(super) struct Queue {
    entries: NonNull<BufRingEntry>,
    /// A power of two, and as many as there can be buffers: so there is always room.
    count: u16,
    /// Where the next buffer goes, counted from the start on; the kernel sees it by `publish`.
    tail: u16,
}

impl Queue {
    fn layout(count: u16) -> Layout {
        const PAGE: usize = 4096;
        let size = usize::from(count) * size_of::<BufRingEntry>();
        Layout::from_size_align(size, PAGE).expect("at most 512 KiB")
    }

    pub(super) fn new(count: u16) -> Self {
        debug_assert!(count.is_power_of_two());
        let layout = Self::layout(count);
        // SAFETY: not of size zero.
        let entries = unsafe { alloc_zeroed(layout) };
        let Some(entries) = NonNull::new(entries.cast()) else { handle_alloc_error(layout) };
        Queue { entries, count, tail: 0 }
    }

    pub(super) fn address(&self) -> u64 {
        self.entries.as_ptr().expose_provenance() as u64
    }

    pub(super) fn put(&mut self, start: NonNull<u8>, len: u32, id: u16) {
        let index = usize::from(self.tail & (self.count - 1));
        // SAFETY: within the queue, all of which is initialised. The kernel looks only at entries
        // before the tail that it was told of; and as there are no more buffers than entries, it is
        // done with this one.
        let entry = unsafe { self.entries.add(index).as_mut() };
        entry.set_addr(start.as_ptr().expose_provenance() as u64);
        entry.set_len(len);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    pub(super) fn publish(&mut self) {
        // SAFETY: the address is that of the first entry, in an unused part of which the tail is;
        // the kernel only reads it, and atomically.
        let tail =
            unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries.as_ptr()).cast_mut()) };
        // Whoever sees the new tail must also see the entries.
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout; the ring that read it is gone.
        unsafe { dealloc(self.entries.as_ptr().cast(), Self::layout(self.count)) };
    }
}
