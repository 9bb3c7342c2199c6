//! An atomic reference count whose last decrement needs no atomic write.

use super::sync::{AtomicUsize, Ordering, fence};

/// The number of references to a value, at least one.
pub(crate) struct AtomicCount(AtomicUsize);

impl AtomicCount {
    /// Creates a count of one reference.
    pub(crate) fn one() -> Self {
        AtomicCount(AtomicUsize::new(1))
    }

    /// Counts one more reference.
    pub(crate) fn increment(&self) {
        // Relaxed, as in `Arc`: a new reference is made from one that is held.
        let old = self.0.fetch_add(1, Ordering::Relaxed);
        if old > isize::MAX as usize {
            // More leaked wakers could wrap the count.
            std::process::abort();
        }
    }

    /// Returns `true` if there are references besides the caller's.
    pub(crate) fn is_shared(&self) -> bool {
        self.0.load(Ordering::Acquire) != 1
    }

    /// Drops one reference. Returns `true` if it was the last: everything done through the others
    /// has happened before.
    #[inline(always)]
    pub(crate) fn decrement(&self) -> bool {
        // The last reference needs no write: there is no other from which a new one could be made.
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
