//! An atomic reference count that frees without an atomic write when nobody else is left.

use super::sync::{AtomicUsize, Ordering, fence};

pub(crate) struct AtomicCount(AtomicUsize);

impl AtomicCount {
    pub(crate) fn one() -> Self {
        AtomicCount(AtomicUsize::new(1))
    }

    pub(crate) fn increment(&self) {
        // Relaxed, as in `Arc`: a new reference is made from one that is held.
        let old = self.0.fetch_add(1, Ordering::Relaxed);
        if old > isize::MAX as usize {
            // So many leaked wakers would wrap the count.
            std::process::abort();
        }
    }

    /// Whether there are others besides the caller's.
    pub(crate) fn is_shared(&self) -> bool {
        self.0.load(Ordering::Acquire) != 1
    }

    /// `true`: this was the last reference, and everything done with the others has happened.
    #[inline(always)]
    pub(crate) fn decrement(&self) -> bool {
        // The last one needs no write: nobody is left who could make another.
        if self.0.load(Ordering::Acquire) == 1 {
            return true;
        }
        if self.0.fetch_sub(1, Ordering::Release) == 1 {
            fence(Ordering::Acquire);
            return true;
        }
        false
    }
}
