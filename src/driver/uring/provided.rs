//! Provided buffers that the kernel consumes incrementally.
//!
//! There is one ring of them per driver. The kernel places the bytes that it receives, for any
//! socket, behind those that it received before (`IOU_PBUF_RING_INC`,
//! [`io_uring_register_buf_ring(3)`], kernel 6.12).
//!
//! [`io_uring_register_buf_ring(3)`]:
//! https://man7.org/linux/man-pages/man3/io_uring_register_buf_ring.3.html

// # Why this file has `unsafe`
// It shares the ring of buffers with the kernel.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::mem::offset_of;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::{BufRingEntry, IOU_PBUF_RING_INC};

use crate::buf::RecvPool;

/// The number of the one group of buffers.
pub(super) const GROUP: u16 = 0;

/// The flag for incremental consumption.
pub(super) const INCREMENTAL: u16 = IOU_PBUF_RING_INC as u16;

/// A pool whose free buffers belong to the kernel.
pub(super) struct Provided {
    pub(super) pool: Rc<RecvPool>,
    ring: BufferRing,
}

impl Provided {
    /// Registers buffers of at most `memory` bytes in all.
    ///
    /// # Safety
    /// The value is dropped only when the ring of `submitter` has been closed, or never.
    pub(super) unsafe fn new(submitter: &Submitter<'_>, memory: usize) -> io::Result<Self> {
        let pool = Rc::new(RecvPool::new(memory));
        let count = pool.limit().next_power_of_two() as u16;
        let mut provided = Provided { pool, ring: BufferRing::new(count) };
        if !provided.provide_more() {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let address = provided.ring.address();
        // SAFETY: the address is that of `count` entries, which are freed with this value: by this
        // function's only item after the kernel's last access.
        unsafe { submitter.register_buf_ring_with_flags(address, count, GROUP, INCREMENTAL)? };
        Ok(provided)
    }

    /// Gives buffers to the kernel that have become free.
    #[inline(always)]
    pub(super) fn provide_freed(&mut self) {
        if let Some(first) = self.pool.take_freed() {
            self.provide(first);
        }
    }

    /// Gives buffers to the kernel that has none left; returns `false` if the pool has none either.
    pub(super) fn provide_more(&mut self) -> bool {
        let more = self.pool.take();
        more.is_some_and(|first| {
            self.provide(first);
            true
        })
    }

    /// Returns a number that changes whenever buffers are provided.
    pub(super) fn version(&self) -> u16 {
        self.ring.tail
    }

    #[cold]
    fn provide(&mut self, first: u16) {
        let others = std::iter::from_fn(|| self.pool.take_freed());
        for id in std::iter::once(first).chain(others) {
            let (start, room) = self.pool.room(id);
            self.ring.put(start, room, id);
        }
        self.ring.publish();
    }
}

/// An entry of the ring of buffers, as the kernel lays it out (`struct io_uring_buf`, and
/// `struct io_uring_buf_ring`, whose tail lies in the first entry).
#[repr(C)]
struct Entry {
    addr: u64,
    len: u32,
    id: u16,
    /// In the first entry: how many buffers have been provided, which the kernel reads at any time.
    /// Unused in all others.
    tail: AtomicU16,
}

const _: () = assert!(size_of::<Entry>() == size_of::<BufRingEntry>());
const _: () = assert!(offset_of!(Entry, len) == 8);
const _: () = assert!(offset_of!(Entry, id) == 12);
const _: () = assert!(offset_of!(Entry, tail) == 14);

/// The ring of free buffers. The kernel reads its entries, and counts in them how much of the
/// buffer it has consumed.
///
/// No reference to a whole entry is ever made, and no whole entry is written after the start: the
/// first one contains the tail. Each field is accessed alone, by its own address.
pub(super) struct BufferRing {
    entries: NonNull<Entry>,
    /// A power of two, not below the number of buffers: so there is always room.
    count: u16,
    /// Where the next buffer goes, counted from the start on; the kernel sees it by `publish`.
    tail: u16,
}

impl BufferRing {
    fn layout(count: u16) -> Layout {
        const PAGE: usize = 4096;
        let size = usize::from(count) * size_of::<Entry>();
        Layout::from_size_align(size, PAGE).expect("at most 512 KiB")
    }

    pub(super) fn new(count: u16) -> Self {
        debug_assert!(count.is_power_of_two());
        let layout = Self::layout(count);
        // SAFETY: `count` is at least 1, so the size is not zero.
        let entries = unsafe { alloc_zeroed(layout) };
        let Some(entries) = NonNull::new(entries.cast()) else { handle_alloc_error(layout) };
        BufferRing { entries, count, tail: 0 }
    }

    pub(super) fn address(&self) -> u64 {
        self.entries.as_ptr().expose_provenance() as u64
    }

    pub(super) fn put(&mut self, start: NonNull<u8>, len: u32, id: u16) {
        let index = usize::from(self.tail & (self.count - 1));
        // SAFETY: the index is below `count`, so the entry is within the allocation. The kernel
        // accesses these three fields only of entries between its head and the published tail; as
        // there are no more buffers than entries, it is done with this one. The tail, which it may
        // read meanwhile, is not among the fields that are written.
        unsafe {
            let entry = self.entries.as_ptr().add(index);
            (&raw mut (*entry).addr).write(start.as_ptr().expose_provenance() as u64);
            (&raw mut (*entry).len).write(len);
            (&raw mut (*entry).id).write(id);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Makes the entries written so far visible to the kernel.
    pub(super) fn publish(&mut self) {
        // SAFETY: within the allocation, zeroed at its start. The reference is to the tail alone,
        // an atomic, which this and the kernel access atomically.
        let tail = unsafe { &(*self.entries.as_ptr()).tail };
        // Release: a reader of the new tail also sees the entries.
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout. By the lists of `Provided::new` and
        // `probe::attempt` the io_uring that read it has been closed.
        unsafe { dealloc(self.entries.as_ptr().cast(), Self::layout(self.count)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tail shares the first entry's memory with a buffer's address, length and number.
    #[test]
    fn providing_the_first_entry_again_leaves_the_published_tail_alone() {
        let mut ring = BufferRing::new(2);
        let mut memory = [0u8; 4];
        let start = NonNull::from(&mut memory).cast::<u8>();
        let published = |ring: &BufferRing| {
            // SAFETY: two entries were allocated; the crate's own view of the tail is read.
            unsafe { *BufRingEntry::tail(ring.entries.as_ptr().cast::<BufRingEntry>()) }
        };
        ring.put(start, 4, 0);
        ring.put(start, 4, 1);
        ring.publish();
        assert_eq!(published(&ring), 2);
        ring.put(start, 4, 0);
        assert_eq!(published(&ring), 2, "not before `publish`");
        ring.publish();
        assert_eq!(published(&ring), 3);
    }
}
