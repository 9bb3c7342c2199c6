//! Free lists of task memory, by size: the memory of tasks that have ended is used for new ones.
//!
//! Tasks start and end in bursts. A general allocator merges freed blocks with their neighbours and
//! splits them again, which makes a burst take three times as long (glibc 2.36, 10,000 tasks at
//! once).

// # Why this file has `unsafe`
// It hands out raw memory, and links free cells through that memory itself.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::ptr::{self, NonNull};

/// The distance between two size classes, in bytes. Rounding up to it costs little memory, as
/// malloc rounds up too.
const STEP: usize = 32;
const CLASSES: usize = 32;
/// The strictest alignment of a cell that is kept, in bytes.
const ALIGN: usize = 16;

/// How many bytes one context keeps at most.
const MOST: usize = 4 << 20;

/// The link at the start of a free cell.
struct Free {
    next: *mut Free,
}

/// A context's free cells, by size class.
pub(crate) struct TaskMemory {
    free: [Cell<*mut Free>; CLASSES],
    bytes: Cell<usize>,
}

/// The memory layout and size class of a cell.
pub(crate) struct CellLayout {
    /// The layout that is allocated: the same for all cells of a class, so that they are
    /// interchangeable.
    layout: Layout,
    /// The index of the free list. [`CLASSES`]: none, as the cell is too large or too strictly
    /// aligned.
    class: usize,
}

impl CellLayout {
    /// Returns the layout of a cell for a value of type `T`.
    pub(crate) const fn of<T>() -> Self {
        assert!(size_of::<T>() > 0);
        let layout = Layout::new::<T>();
        let steps = layout.size().div_ceil(STEP);
        if steps > CLASSES || layout.align() > ALIGN || cfg!(corio_plain_cells) {
            return CellLayout { layout, class: CLASSES };
        }
        match Layout::from_size_align(steps * STEP, ALIGN) {
            Ok(layout) => CellLayout { layout, class: steps - 1 },
            Err(_) => unreachable!(),
        }
    }

    #[cold]
    fn allocate(&self) -> NonNull<u8> {
        // SAFETY: its size is not zero.
        let cell = unsafe { alloc(self.layout) };
        NonNull::new(cell).unwrap_or_else(|| handle_alloc_error(self.layout))
    }

    /// Returns a cell to the allocator. Any thread.
    ///
    /// # Safety
    /// As for [`TaskMemory::recycle`].
    #[cold]
    pub(crate) unsafe fn free(&self, cell: NonNull<u8>) {
        // SAFETY: allocated with this layout, and not used any more, by this function's contract.
        unsafe { dealloc(cell.as_ptr(), self.layout) };
    }
}

impl TaskMemory {
    pub(super) const fn new() -> Self {
        TaskMemory { free: [const { Cell::new(ptr::null_mut()) }; CLASSES], bytes: Cell::new(0) }
    }

    /// Returns an uninitialised cell: a free one of its size class, or else a new one.
    #[inline(always)]
    pub(crate) fn allocate(&self, layout: &CellLayout) -> NonNull<u8> {
        let Some(list) = self.free.get(layout.class) else { return layout.allocate() };
        let Some(cell) = NonNull::new(list.get()) else { return layout.allocate() };
        // SAFETY: a cell in the list is free memory that starts with a link.
        list.set(unsafe { cell.as_ref() }.next);
        self.bytes.set(self.bytes.get() - layout.layout.size());
        cell.cast()
    }

    /// Keeps a cell for another task. Returns `false` if it does not keep it, as it has no such
    /// list or is full.
    ///
    /// # Safety
    /// - The cell is from [`allocate`](Self::allocate) for the same layout, of any context.
    /// - The cell is not used any more.
    #[inline(always)]
    pub(crate) unsafe fn recycle(&self, layout: &CellLayout, cell: NonNull<u8>) -> bool {
        let Some(list) = self.free.get(layout.class) else { return false };
        let bytes = self.bytes.get() + layout.layout.size();
        if bytes > MOST {
            return false;
        }
        self.bytes.set(bytes);
        let next = list.replace(cell.as_ptr().cast());
        // SAFETY: the cell is not used any more, is at least `STEP` bytes long, so that a link
        // fits, and is aligned for it.
        unsafe { cell.cast().write(Free { next }) };
        true
    }
}

impl Drop for TaskMemory {
    fn drop(&mut self) {
        for (class, first) in self.free.iter().enumerate() {
            let mut next = first.get();
            while let Some(cell) = NonNull::new(next) {
                // SAFETY: as in `allocate`; allocated with the layout of its class.
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
    fn a_cell_is_reused_for_any_type_of_its_size_class() {
        let task_memory = TaskMemory::new();
        let (one, like) = (CellLayout::of::<[u64; 9]>(), CellLayout::of::<[u64; 12]>());
        let first = task_memory.allocate(&one);
        // SAFETY: just allocated, unused.
        let kept = unsafe { task_memory.recycle(&one, first) };
        assert!(kept || cfg!(corio_plain_cells));
        if !kept {
            // SAFETY: likewise.
            return unsafe { one.free(first) };
        }
        assert_eq!(task_memory.bytes.get(), 96);
        let second = task_memory.allocate(&like);
        assert_eq!((second, task_memory.bytes.get()), (first, 0));
        // SAFETY: just allocated, unused.
        unsafe { like.free(second) };
    }

    #[test]
    fn large_or_strictly_aligned_cells_are_not_kept() {
        #[repr(align(64))]
        struct Strict(#[allow(dead_code)] u8);
        let task_memory = TaskMemory::new();
        for layout in [CellLayout::of::<[u8; 4096]>(), CellLayout::of::<Strict>()] {
            let cell = task_memory.allocate(&layout);
            assert_eq!(cell.addr().get() & (layout.layout.align() - 1), 0);
            // SAFETY: just allocated, unused.
            unsafe {
                assert!(!task_memory.recycle(&layout, cell));
                layout.free(cell);
            }
        }
    }

    #[test]
    fn at_most_the_limit_is_kept() {
        let (task_memory, layout) = (TaskMemory::new(), CellLayout::of::<[u8; 1024]>());
        let taken: Vec<_> = (0..MOST / 1024 + 2).map(|_| task_memory.allocate(&layout)).collect();
        for cell in taken {
            // SAFETY: just allocated, unused.
            unsafe {
                if !task_memory.recycle(&layout, cell) {
                    layout.free(cell);
                }
            }
        }
        assert!(task_memory.bytes.get() <= MOST);
    }
}
