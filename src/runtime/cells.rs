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

/// A context's free cells, by size.
pub(crate) struct Cells {
    free: [Cell<*mut Free>; CLASSES],
    bytes: Cell<usize>,
}

/// The class of a layout; `None`: too large, or too strictly aligned.
const fn class(layout: Layout) -> Option<usize> {
    let class = layout.size().div_ceil(STEP);
    if layout.size() == 0 || class > CLASSES || layout.align() > ALIGN || cfg!(corio_plain_cells) {
        return None;
    }
    Some(class - 1)
}

/// What is really allocated for a layout: the same for all of its class, so that any of them can
/// have the memory next.
const fn rounded(layout: Layout) -> Layout {
    match class(layout) {
        None => layout,
        Some(class) => match Layout::from_size_align((class + 1) * STEP, ALIGN) {
            Ok(layout) => layout,
            Err(_) => unreachable!(),
        },
    }
}

impl Cells {
    pub(super) const fn new() -> Self {
        Cells { free: [const { Cell::new(ptr::null_mut()) }; CLASSES], bytes: Cell::new(0) }
    }

    /// Memory for a value of type `T`.
    #[inline(always)]
    pub(crate) fn take<T>(&self) -> NonNull<T> {
        const { assert!(size_of::<T>() > 0) };
        let layout = const { Layout::new::<T>() };
        if let Some(class) = const { class(Layout::new::<T>()) }
            && let Some(cell) = NonNull::new(self.free[class].get())
        {
            // SAFETY: what is in the list is free memory that begins with a link.
            self.free[class].set(unsafe { cell.as_ref() }.next);
            self.bytes.set(self.bytes.get() - rounded(layout).size());
            return cell.cast();
        }
        allocate(layout).cast()
    }

    /// Takes back memory of a type `T`; `false`: there is enough.
    ///
    /// # Safety
    /// From [`take`](Self::take) for the same type, of any context; nobody uses it any more.
    #[inline(always)]
    pub(crate) unsafe fn give<T>(&self, cell: NonNull<T>) -> bool {
        let Some(class) = (const { class(Layout::new::<T>()) }) else { return false };
        let bytes = self.bytes.get() + const { rounded(Layout::new::<T>()) }.size();
        if bytes > MOST {
            return false;
        }
        self.bytes.set(bytes);
        let next = self.free[class].replace(cell.as_ptr().cast());
        // SAFETY: the caller's memory has room for a link, and is aligned for it.
        unsafe { cell.cast().write(Free { next }) };
        true
    }
}

#[cold]
fn allocate(layout: Layout) -> NonNull<u8> {
    let layout = rounded(layout);
    // SAFETY: its size is not zero.
    NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}

/// Frees the memory for good. Any thread.
///
/// # Safety
/// As for [`Cells::give`].
pub(crate) unsafe fn free<T>(cell: NonNull<T>) {
    // SAFETY: allocated with this layout.
    unsafe { dealloc(cell.as_ptr().cast(), const { rounded(Layout::new::<T>()) }) };
}

impl Drop for Cells {
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
        let cells = Cells::new();
        let first = cells.take::<[u64; 9]>();
        // SAFETY: just taken, unused.
        assert!(unsafe { cells.give(first) } || cfg!(corio_plain_cells));
        if cfg!(corio_plain_cells) {
            return;
        }
        assert_eq!(cells.bytes.get(), 96);
        let second = cells.take::<[u64; 12]>();
        assert_eq!((second.cast(), cells.bytes.get()), (first.cast::<u8>(), 0));
        // SAFETY: just taken, unused.
        unsafe { free(second) };
    }

    #[test]
    fn what_is_large_or_strictly_aligned_goes_back_to_the_allocator() {
        #[repr(align(64))]
        struct Strict(#[allow(dead_code)] u8);
        let cells = Cells::new();
        let (large, strict) = (cells.take::<[u8; 4096]>(), cells.take::<Strict>());
        assert!(strict.addr().get().is_multiple_of(64));
        // SAFETY: just taken, unused.
        unsafe {
            assert!(!cells.give(large) && !cells.give(strict));
            free(large);
            free(strict);
        }
    }

    #[test]
    fn no_more_is_kept_than_the_limit() {
        let cells = Cells::new();
        let taken: Vec<_> = (0..MOST / 1024 + 2).map(|_| cells.take::<[u8; 1024]>()).collect();
        for cell in taken {
            // SAFETY: just taken, unused.
            unsafe {
                if !cells.give(cell) {
                    free(cell);
                }
            }
        }
        assert!(cells.bytes.get() <= MOST);
    }
}
