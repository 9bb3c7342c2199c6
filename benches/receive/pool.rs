//! Buffers that the kernel chooses from as it receives: `io_uring_register_buf_ring(3)`.

// # Why this file has `unsafe`
// The queue of free buffers is memory shared with the kernel.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::{BufRingEntry, IOU_PBUF_RING_INC};

use crate::pages::Pages;

/// The flag `IOU_PBUF_RING_INC`: a buffer takes several receives, one after the other.
const BY_PARTS: u16 = IOU_PBUF_RING_INC as u16;

/// The number of the only group of buffers.
pub(crate) const GROUP: u16 = 0;

/// A pool of buffers and their queue, which has as many places as there are buffers. So a place is
/// not written to again before the buffer that was taken from it is returned.
pub(crate) struct Pool {
    queue: Pages,
    buffers: Pages,
    size: usize,
    count: u16,
    /// The place of the next free buffer, counted from the start on; the kernel sees it by
    /// `publish`.
    tail: u16,
    /// The place at which each buffer was put last.
    places: Box<[u16]>,
    free: usize,
    /// How far each buffer is filled, and how much of that is in use; for buffers that take several
    /// receives (`IOU_PBUF_RING_INC`, 6.12).
    filled: Option<Box<[Filled]>>,
}

#[derive(Clone, Copy, Default)]
struct Filled {
    len: usize,
    parts: usize,
    /// The kernel has filled the whole buffer.
    whole: bool,
}

impl Pool {
    /// `count` must be a power of two, of at most 32,768.
    ///
    /// # Safety
    /// The pool must outlive the ring.
    pub(crate) unsafe fn new(
        ring: &IoUring,
        count: u16,
        size: usize,
        huge_pages: bool,
        by_parts: bool,
    ) -> io::Result<Self> {
        assert!(count.is_power_of_two());
        let mut pool = Pool {
            queue: Pages::new(usize::from(count) * size_of::<BufRingEntry>(), false),
            buffers: Pages::new(usize::from(count) * size, huge_pages),
            size,
            count,
            tail: 0,
            places: vec![0; usize::from(count)].into(),
            free: 0,
            filled: by_parts.then(|| vec![Filled::default(); usize::from(count)].into()),
        };
        let flags = if by_parts { BY_PARTS } else { 0 };
        let address = pool.place(0).as_ptr() as u64;
        // SAFETY: that many entries are at that address, which lie at the start of a page and stay
        // until the ring is dropped, by this function's list.
        unsafe { ring.submitter().register_buf_ring_with_flags(address, count, GROUP, flags)? };
        for id in 0..count {
            pool.put(id);
        }
        pool.publish();
        Ok(pool)
    }

    fn place(&self, position: u16) -> NonNull<BufRingEntry> {
        let index = usize::from(position & (self.count - 1));
        self.queue.part(index * size_of::<BufRingEntry>(), size_of::<BufRingEntry>()).cast()
    }

    /// Returns how many buffers the kernel has, those included that `publish` will give to it.
    pub(crate) fn free(&self) -> usize {
        self.free
    }

    pub(crate) fn bytes(&self, id: u16, start: usize, len: usize) -> NonNull<u8> {
        self.buffers.part(usize::from(id) * self.size + start, len)
    }

    /// Returns a part that was taken of a buffer.
    pub(crate) fn give_back(&mut self, id: u16) {
        if let Some(filled) = &mut self.filled {
            let filled = &mut filled[usize::from(id)];
            filled.parts -= 1;
            if filled.parts > 0 || !filled.whole {
                return;
            }
            *filled = Filled::default();
        }
        self.put(id);
    }

    fn put(&mut self, id: u16) {
        let address = self.bytes(id, 0, self.size).as_ptr() as u64;
        let mut place = self.place(self.tail);
        // SAFETY: an entry of the queue. The kernel reads only entries before the tail that was
        // published, and this one is not among them. All bit patterns are valid.
        let entry = unsafe { place.as_mut() };
        entry.set_addr(address);
        entry.set_len(self.size as u32);
        entry.set_bid(id);
        self.places[usize::from(id)] = self.tail & (self.count - 1);
        self.tail = self.tail.wrapping_add(1);
        self.free += 1;
    }

    /// Publishes the tail: gives the returned buffers to the kernel.
    pub(crate) fn publish(&mut self) {
        // SAFETY: the address is that of the first entry, which is initialised: it is zeroes at
        // least.
        let tail = unsafe { BufRingEntry::tail(self.place(0).as_ptr()) };
        // SAFETY: valid and aligned as a part of that entry; this thread makes no other access to
        // it meanwhile, and the kernel reads it atomically.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        // The kernel that sees the new tail must also see the entries.
        tail.store(self.tail, Ordering::Release);
    }

    /// Takes the buffers that a receive of `count` bytes has filled, from `first` on: each with the
    /// number of its bytes.
    ///
    /// A bundle fills them in the order in which they were given back. Where the kernel expected
    /// less than a buffer's length it shortens the buffer's entry, so what counts is the length
    /// there.
    pub(crate) fn take(
        &mut self,
        first: u16,
        count: usize,
        goes_on: bool,
        mut each: impl FnMut(u16, usize, usize),
    ) {
        if let Some(filled) = &mut self.filled {
            let filled = &mut filled[usize::from(first)];
            each(first, filled.len, count);
            filled.len += count;
            filled.parts += 1;
            filled.whole = !goes_on;
            self.free -= usize::from(!goes_on);
            return;
        }
        let mut left = count;
        let mut position = self.places[usize::from(first)];
        while left > 0 {
            // SAFETY: an entry of the queue, which the kernel is done with, as it has completed the
            // receive; and it is not overwritten yet, as its buffer is not returned yet.
            let entry = unsafe { self.place(position).as_ref() };
            let len = left.min(entry.len() as usize);
            assert!(len > 0, "a buffer of no length");
            each(entry.bid(), 0, len);
            left -= len;
            self.free -= 1;
            position = position.wrapping_add(1);
        }
    }
}
