//! Several buffers in one operation (`readv(2)`, `writev(2)`).

// # Why this file has `unsafe`
// It passes the marks of filled buffers on to each buffer of a collection.

use super::{IoBuf, IoBufMut};
use crate::os;

/// The kernel's limit on the number of buffers in one operation (`UIO_MAXIOV`).
const MAX_BUFS: usize = 1024;

/// The number of `iovec`s that are stored inline; more cost one allocation.
const INLINE: usize = 8;

/// The `iovec` array of a vectored operation, which lives inside the operation.
pub(crate) struct IoVecs {
    inline: [os::iovec; INLINE],
    spilled: Vec<os::iovec>,
    len: usize,
}

impl IoVecs {
    pub(crate) const fn new() -> Self {
        const EMPTY: os::iovec = os::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        IoVecs { inline: [EMPTY; INLINE], spilled: Vec::new(), len: 0 }
    }

    pub(crate) fn clear(&mut self) {
        self.spilled.clear();
        self.len = 0;
    }

    fn push(&mut self, ptr: *mut u8, len: usize) {
        let entry = os::iovec { iov_base: ptr.cast(), iov_len: len };
        if self.len < INLINE {
            self.inline[self.len] = entry;
        } else if self.len < MAX_BUFS {
            if self.spilled.is_empty() {
                self.spilled.extend_from_slice(&self.inline);
            }
            self.spilled.push(entry);
        } else {
            // More than the kernel takes: the transfer is a short one.
            return;
        }
        self.len += 1;
    }

    /// Returns the array, valid while this value is neither moved nor changed.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut os::iovec {
        if self.len <= INLINE { self.inline.as_mut_ptr() } else { self.spilled.as_mut_ptr() }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

mod sealed {
    pub trait Sealed {}
    impl<B> Sealed for Vec<B> {}
    impl<B, const N: usize> Sealed for [B; N] {}
}

/// A collection of buffers to write out in order: `Vec<B>` or `[B; N]` of any [`IoBuf`].
///
/// The kernel takes at most 1,024 buffers in one operation; the rest is left for the next call,
/// like the rest of a short write. Up to 8 cost no allocation.
///
/// The trait is sealed. Its implementations inherit the requirements of [`IoBuf`] from each buffer:
/// the collection itself changes neither its length nor its elements while an operation has it, so
/// that all pointers and lengths stay the same.
///
/// # Examples
/// ```
/// use corio::buf::IoBufs;
/// fn total<B: IoBufs>(bufs: &B) -> usize { bufs.total_len() }
/// assert_eq!(total(&["head", "body"]), 8);
/// ```
pub trait IoBufs: sealed::Sealed + 'static {
    /// Returns the sum of the buffers' lengths.
    fn total_len(&self) -> usize;

    #[doc(hidden)]
    fn visit_all(&self, visit: &mut dyn FnMut(*mut u8, usize));
}

/// A collection of buffers to read into, in order: `Vec<B>` or `[B; N]` of any [`IoBufMut`].
///
/// The trait is sealed. Its implementations inherit the requirements of [`IoBufMut`] from each
/// buffer, as for [`IoBufs`].
///
/// # Examples
/// ```
/// use corio::buf::IoBufsMut;
/// fn room<B: IoBufsMut>(bufs: &B) -> usize { bufs.total_capacity() }
/// assert_eq!(room(&[[0u8; 16], [0u8; 16]]), 32);
/// ```
pub trait IoBufsMut: sealed::Sealed + 'static {
    /// Returns the sum of the buffers' capacities.
    fn total_capacity(&self) -> usize;

    #[doc(hidden)]
    fn visit_mut(&mut self, visit: &mut dyn FnMut(*mut u8, usize));

    /// Records that the kernel has written the first `n` bytes, counted through the buffers in
    /// order.
    ///
    /// # Safety
    /// The first `n` bytes of the capacities, counted through the buffers in order, are
    /// initialised; `n` is at most [`total_capacity`](Self::total_capacity).
    #[doc(hidden)]
    unsafe fn set_all_filled(&mut self, n: usize);
}

macro_rules! collection {
    ($([$($generics:tt)*] $ty:ty),+) => {$(
        impl<B: IoBuf, $($generics)*> IoBufs for $ty {
            fn total_len(&self) -> usize {
                self.iter().map(IoBuf::buf_len).sum()
            }
            fn visit_all(&self, visit: &mut dyn FnMut(*mut u8, usize)) {
                for buf in self {
                    visit(buf.buf_ptr().cast_mut(), buf.buf_len());
                }
            }
        }

        impl<B: IoBufMut, $($generics)*> IoBufsMut for $ty {
            fn total_capacity(&self) -> usize {
                self.iter().map(IoBufMut::buf_capacity).sum()
            }
            fn visit_mut(&mut self, visit: &mut dyn FnMut(*mut u8, usize)) {
                for buf in self {
                    let len = buf.buf_capacity();
                    visit(buf.buf_mut_ptr(), len);
                }
            }
            unsafe fn set_all_filled(&mut self, mut n: usize) {
                for buf in self {
                    let part = n.min(buf.buf_capacity());
                    // SAFETY: this function's items: the bytes are filled in order, and `part` is
                    // at most the capacity.
                    unsafe { buf.set_filled(part) };
                    n -= part;
                }
            }
        }
    )+};
}

collection!([] Vec<B>, [const N: usize] [B; N]);

impl IoVecs {
    /// Describes `bufs` for writing out.
    pub(crate) fn fill<B: IoBufs>(&mut self, bufs: &B) {
        self.clear();
        bufs.visit_all(&mut |ptr, len| self.push(ptr, len));
    }

    /// Describes `bufs` for reading into.
    pub(crate) fn fill_mut<B: IoBufsMut>(&mut self, bufs: &mut B) {
        self.clear();
        bufs.visit_mut(&mut |ptr, len| self.push(ptr, len));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_buffers_spill_and_too_many_are_left_out() {
        let mut vecs = IoVecs::new();
        for count in [0, 1, INLINE, INLINE + 1, MAX_BUFS, MAX_BUFS + 5] {
            let bufs: Vec<&'static str> = vec!["ab"; count];
            vecs.fill(&bufs);
            assert_eq!(vecs.len(), count.min(MAX_BUFS));
            // SAFETY: `as_mut_ptr` points to `len` entries.
            let entries = unsafe { std::slice::from_raw_parts(vecs.as_mut_ptr(), vecs.len()) };
            assert!(entries.iter().all(|e| e.iov_len == 2 && !e.iov_base.is_null()));
        }
    }

    #[test]
    fn a_short_read_fills_the_buffers_in_order() {
        let mut bufs = [Vec::with_capacity(4), Vec::with_capacity(4)];
        bufs.visit_mut(&mut |ptr, len| {
            // SAFETY: `visit_mut` gives `len` writable bytes.
            unsafe { ptr.write_bytes(9, len) }
        });
        // SAFETY: all eight bytes were just written.
        unsafe { bufs.set_all_filled(6) };
        assert_eq!(bufs, [vec![9; 4], vec![9; 2]]);
    }
}
