//! Free lists of task memory, by size: the memory of tasks that have ended is used for new ones.
//!
//! Tasks start and end in bursts. A general allocator merges freed blocks with their neighbours and
//! splits them again, which makes a burst take three times as long (glibc 2.36, 10,000 tasks at
//! once).
//!
//! After a burst most of that memory goes back to the allocator, half of it a second: see
//! [`TaskMemory::trim`].

// # Why this file has `unsafe`
// It hands out raw memory, and links free cells through that memory itself.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::ptr::{self, NonNull};

/// The distance between two size classes, in bytes: that of malloc's own classes.
const STEP: usize = 16;
/// The last one is for cells of 1 KiB.
const CLASSES: usize = 65;
/// What malloc adds to each block (glibc): with it a cell is a multiple of [`STEP`].
const HEAD: usize = 8;
/// The strictest alignment of a cell that is kept, in bytes.
const ALIGN: usize = 16;

/// How many bytes one context keeps at most.
const MOST: usize = 4 << 20;

/// How many of them it keeps for ever.
const FLOOR: usize = 256 << 10;

/// After this many nanoseconds with more than [`FLOOR`], half of the surplus is freed.
pub(super) const TRIM_AFTER: u64 = 1_000_000_000;

const _: () = assert!(size_of::<Free>() <= STEP - HEAD);

/// The link at the start of a free cell.
struct Free {
    next: *mut Free,
}

/// A context's free cells, by size class.
pub(crate) struct TaskMemory {
    free: [Cell<*mut Free>; CLASSES],
    /// How many bytes are kept at most at present: [`FLOOR`], or [`MOST`] until the surplus was
    /// trimmed.
    limit: Cell<usize>,
    /// How many more may be kept.
    room: Cell<usize>,
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
        let steps = (layout.size() + HEAD).div_ceil(STEP);
        if steps > CLASSES || layout.align() > ALIGN || cfg!(corio_plain_cells) {
            return CellLayout { layout, class: CLASSES };
        }
        match Layout::from_size_align(steps * STEP - HEAD, ALIGN) {
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
        TaskMemory {
            free: [const { Cell::new(ptr::null_mut()) }; CLASSES],
            limit: Cell::new(FLOOR),
            room: Cell::new(FLOOR),
        }
    }

    /// Returns an uninitialised cell: a free one of its size class, or else a new one.
    #[inline(always)]
    pub(crate) fn allocate(&self, layout: &CellLayout) -> NonNull<u8> {
        let Some(list) = self.free.get(layout.class) else { return layout.allocate() };
        let Some(cell) = NonNull::new(list.get()) else { return layout.allocate() };
        // SAFETY: a cell in the list is free memory that starts with a link.
        list.set(unsafe { cell.as_ref() }.next);
        self.room.set(self.room.get() + layout.layout.size());
        cell.cast()
    }

    /// Keeps a cell for another task. Returns `false` if it does not keep it, as it has no such
    /// list or has reached its limit.
    ///
    /// # Safety
    /// - The cell is from [`allocate`](Self::allocate) for the same layout, of any context.
    /// - The cell is not used any more.
    #[inline(always)]
    pub(crate) unsafe fn recycle(&self, layout: &CellLayout, cell: NonNull<u8>) -> bool {
        let Some(list) = self.free.get(layout.class) else { return false };
        let Some(room) = self.room.get().checked_sub(layout.layout.size()) else { return false };
        self.room.set(room);
        let next = list.replace(cell.as_ptr().cast());
        // SAFETY: the cell is not used any more, is at least `STEP - HEAD` bytes long, so that a
        // link fits, and is aligned for it.
        unsafe { cell.cast().write(Free { next }) };
        true
    }

    /// Returns how many bytes are kept.
    fn bytes(&self) -> usize {
        self.limit.get() - self.room.get()
    }

    /// Raises the limit from [`FLOOR`] to [`MOST`] for a cell that was not kept. Returns `false` if
    /// that does not help.
    pub(super) fn raise_limit(&self, layout: &CellLayout) -> bool {
        if layout.class == CLASSES || self.limit.get() == MOST {
            return false;
        }
        self.limit.set(MOST);
        self.room.set(self.room.get() + (MOST - FLOOR));
        true
    }

    /// Returns half of what is kept above [`FLOOR`] to the allocator, or all of it if that is
    /// little, and the limit to [`FLOOR`] then. Returns `true` if there is a surplus left.
    ///
    /// By halves, so that bursts that follow one another find most of their memory.
    pub(super) fn trim(&self) -> bool {
        let surplus = self.bytes().saturating_sub(FLOOR);
        let is_last = surplus <= FLOOR / 4;
        let target = self.bytes() - if is_last { surplus } else { surplus / 2 };
        // The largest first: fewer calls.
        for (class, list) in self.free.iter().enumerate().rev() {
            while self.bytes() > target {
                let Some(size) = self.free_first(class, list) else { break };
                self.room.set(self.room.get() + size);
            }
        }
        if is_last && self.limit.get() == MOST {
            self.limit.set(FLOOR);
            // What is kept is at most `FLOOR` now.
            self.room.set(self.room.get() - (MOST - FLOOR));
        }
        !is_last
    }

    /// Frees the first cell of a list; returns its size.
    fn free_first(&self, class: usize, list: &Cell<*mut Free>) -> Option<usize> {
        let cell = NonNull::new(list.get())?;
        let size = (class + 1) * STEP - HEAD;
        // SAFETY: a cell in the list is free memory that starts with a link, and was allocated with
        // the layout of its class.
        unsafe {
            list.set(cell.as_ref().next);
            dealloc(cell.as_ptr().cast(), Layout::from_size_align_unchecked(size, ALIGN));
        }
        Some(size)
    }
}

impl Drop for TaskMemory {
    fn drop(&mut self) {
        for (class, list) in self.free.iter().enumerate() {
            while self.free_first(class, list).is_some() {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_reused_for_any_type_of_its_size_class() {
        let task_memory = TaskMemory::new();
        let (one, like) = (CellLayout::of::<[u64; 8]>(), CellLayout::of::<[u64; 9]>());
        let first = task_memory.allocate(&one);
        // SAFETY: just allocated, unused.
        let kept = unsafe { task_memory.recycle(&one, first) };
        assert!(kept || cfg!(corio_plain_cells));
        if !kept {
            // SAFETY: likewise.
            return unsafe { one.free(first) };
        }
        assert_eq!(task_memory.bytes(), 72);
        let second = task_memory.allocate(&like);
        assert_eq!((second, task_memory.bytes()), (first, 0));
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

    /// The size of a cell, in bytes.
    const CELL: usize = 1016;

    /// Recycles that many bytes of cells at once, as at the end of a burst.
    fn burst(task_memory: &TaskMemory, bytes: usize) {
        let layout = CellLayout::of::<[u8; CELL]>();
        let taken: Vec<_> = (0..bytes / CELL).map(|_| task_memory.allocate(&layout)).collect();
        for cell in taken {
            // SAFETY: just allocated, unused.
            unsafe {
                let kept = task_memory.recycle(&layout, cell)
                    || task_memory.raise_limit(&layout) && task_memory.recycle(&layout, cell);
                if !kept {
                    layout.free(cell);
                }
            }
        }
    }

    /// Asserts that as many bytes are kept, or less than a cell below that.
    #[track_caller]
    fn assert_kept(task_memory: &TaskMemory, most: usize) {
        let (kept, plain) = (task_memory.bytes(), cfg!(corio_plain_cells));
        assert!(plain || kept <= most && kept + CELL > most, "{kept} bytes, not {most}");
    }

    #[test]
    fn at_most_the_limit_is_kept() {
        let task_memory = TaskMemory::new();
        burst(&task_memory, MOST + 2 * CELL);
        assert_kept(&task_memory, MOST);
    }

    #[test]
    fn after_a_burst_memory_goes_back_by_halves_down_to_the_floor() {
        let task_memory = TaskMemory::new();
        burst(&task_memory, FLOOR);
        assert_eq!(task_memory.limit.get(), FLOOR, "there was no burst yet");
        burst(&task_memory, MOST);
        assert_kept(&task_memory, MOST);
        if cfg!(corio_plain_cells) {
            return;
        }
        let mut trims = 1;
        let mut before = task_memory.bytes();
        while task_memory.trim() {
            assert_kept(&task_memory, before - (before - FLOOR) / 2);
            before = task_memory.bytes();
            trims += 1;
        }
        assert_kept(&task_memory, FLOOR);
        assert_eq!(task_memory.limit.get(), FLOOR);
        assert!((4..10).contains(&trims), "{trims}");
        // Nothing is freed that is below the floor, and the next burst is kept again.
        assert!(!task_memory.trim());
        assert_kept(&task_memory, FLOOR);
        burst(&task_memory, MOST);
        assert_kept(&task_memory, MOST);
    }
}
