//! Memory of tasks that have ended, kept for tasks to come.
//!
//! Tasks come and go in bursts: a general allocator, which merges what is freed with its neighbours and
//! takes it apart again, makes that three times as slow (glibc 2.36, 10,000 tasks at once).
//!
//! # Why this file has `unsafe`
//! It hands out raw memory, and links what is free through that memory itself.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::ptr::{self, NonNull};

/// Sizes are rounded up to a multiple of this, which malloc's own rounding makes about free.
const STEP: usize = 32;
const CLASSES: usize = 32;
const ALIGN: usize = 16;

/// The most bytes that one context keeps.
const MOST: usize = 4 << 20;

/// A cell that is free.
struct Free {
    next: *mut Free,
}

/// A context's free task_memory, by size.
pub(crate) struct TaskMemory {
    free: [Cell<*mut Free>; CLASSES],
    bytes: Cell<usize>,
}

/// What a cell takes.
pub(crate) struct Room {
    /// What is really allocated: the same for all of a class, so that any of them can have the
    /// memory next.
    layout: Layout,
    /// Which list a free one goes into. [`CLASSES`]: none, it is too large, or too strictly
    /// aligned.
    class: usize,
}

impl Room {
    /// For a value of type `T`.
    pub(crate) const fn of<T>() -> Self {
        assert!(size_of::<T>() > 0);
        let layout = Layout::new::<T>();
        let steps = layout.size().div_ceil(STEP);
        if steps > CLASSES || layout.align() > ALIGN || cfg!(corio_plain_cells) {
            return Room { layout, class: CLASSES };
        }
        match Layout::from_size_align(steps * STEP, ALIGN) {
            Ok(layout) => Room { layout, class: steps - 1 },
            Err(_) => unreachable!(),
        }
    }

    #[cold]
    fn allocate(&self) -> NonNull<u8> {
        // SAFETY: its size is not zero.
        let cell = unsafe { alloc(self.layout) };
        NonNull::new(cell).unwrap_or_else(|| handle_alloc_error(self.layout))
    }

    /// Frees a cell for good. Any thread.
    ///
    /// # Safety
    /// As for [`TaskMemory::give`].
    #[cold]
    pub(crate) unsafe fn free(&self, cell: NonNull<u8>) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(cell.as_ptr(), self.layout) };
    }
}

impl TaskMemory {
    pub(super) const fn new() -> Self {
        TaskMemory { free: [const { Cell::new(ptr::null_mut()) }; CLASSES], bytes: Cell::new(0) }
    }

    /// Memory for what takes so much.
    #[inline(always)]
    pub(crate) fn take(&self, room: &Room) -> NonNull<u8> {
        let Some(list) = self.free.get(room.class) else { return room.allocate() };
        let Some(cell) = NonNull::new(list.get()) else { return room.allocate() };
        // SAFETY: what is in the list is free memory that begins with a link.
        list.set(unsafe { cell.as_ref() }.next);
        self.bytes.set(self.bytes.get() - room.layout.size());
        cell.cast()
    }

    /// Takes a cell back; `false`: there is enough.
    ///
    /// # Safety
    /// From [`take`](Self::take) for the same room, of any context; nobody uses it any more.
    #[inline(always)]
    pub(crate) unsafe fn give(&self, room: &Room, cell: NonNull<u8>) -> bool {
        let Some(list) = self.free.get(room.class) else { return false };
        let bytes = self.bytes.get() + room.layout.size();
        if bytes > MOST {
            return false;
        }
        self.bytes.set(bytes);
        let next = list.replace(cell.as_ptr().cast());
        // SAFETY: the caller's memory has room for a link, and is aligned for it.
        unsafe { cell.cast().write(Free { next }) };
        true
    }
}

impl Drop for TaskMemory {
    fn drop(&mut self) {
        for (class, first) in self.free.iter().enumerate() {
            let mut next = first.get();
            while let Some(cell) = NonNull::new(next) {
                // SAFETY: as in `take`; allocated with the layout of its class.
                unsafe {
                    next = cell.as_ref().next;
                    let layout = Layout::from_size_align_unchecked((class + 1) * STEP, ALIGN);
                    dealloc(cell.as_ptr().cast(), layout);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_for_any_type_of_its_size() {
        let task_memory = TaskMemory::new();
        let (one, like) = (Room::of::<[u64; 9]>(), Room::of::<[u64; 12]>());
        let first = task_memory.take(&one);
        // SAFETY: just taken, unused.
        let kept = unsafe { task_memory.give(&one, first) };
        assert!(kept || cfg!(corio_plain_cells));
        if !kept {
            // SAFETY: likewise.
            return unsafe { one.free(first) };
        }
        assert_eq!(task_memory.bytes.get(), 96);
        let second = task_memory.take(&like);
        assert_eq!((second, task_memory.bytes.get()), (first, 0));
        // SAFETY: just taken, unused.
        unsafe { like.free(second) };
    }

    #[test]
    fn what_is_large_or_strictly_aligned_goes_back_to_the_allocator() {
        #[repr(align(64))]
        struct Strict(#[allow(dead_code)] u8);
        let task_memory = TaskMemory::new();
        for room in [Room::of::<[u8; 4096]>(), Room::of::<Strict>()] {
            let cell = task_memory.take(&room);
            assert!(cell.addr().get().is_multiple_of(room.layout.align()));
            // SAFETY: just taken, unused.
            unsafe {
                assert!(!task_memory.give(&room, cell));
                room.free(cell);
            }
        }
    }

    #[test]
    fn no_more_is_kept_than_the_limit() {
        let (task_memory, room) = (TaskMemory::new(), Room::of::<[u8; 1024]>());
        let taken: Vec<_> = (0..MOST / 1024 + 2).map(|_| task_memory.take(&room)).collect();
        for cell in taken {
            // SAFETY: just taken, unused.
            unsafe {
                if !task_memory.give(&room, cell) {
                    room.free(cell);
                }
            }
        }
        assert!(task_memory.bytes.get() <= MOST);
    }
}
