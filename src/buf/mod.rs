//! Buffers that operations own: what may be lent to the kernel, and how.
//!
//! An operation takes its buffer by value and returns it with the result, so nothing can free or
//! reuse the memory while the kernel reads or writes it. [`IoBuf`] marks what can be written out,
//! [`IoBufMut`] what can be read into. Operations are pinned, so even an inline `[u8; N]` is a
//! legal buffer: it lives inside the operation and does not move until the kernel has let go.
//!
//! | type | written out | read into |
//! |---|---|---|
//! | `Vec<u8>` | its `len()` bytes | its whole capacity; `len()` becomes the count read |
//! | `Box<[u8]>`, `[u8; N]` | all of it | all of it; only the first *n* bytes are new |
//! | `&'static [u8]`, `&'static [u8; N]` (`b"…"`), `&'static str`, `String`, `Arc<[u8]>`, `Rc<[u8]>`, [`Shared<T>`] | all of it | no |
//! | [`RecvBuf`]: what was received into the context's own memory | all of it | no |
//! | [`Slice<B>`] | the part | the part |
//!
//! # Why this file has `unsafe`
//! The two traits are promises to the kernel about memory, so implementing them is `unsafe`.

mod recv_buf;
mod slice;
mod vectored;

pub use recv_buf::RecvBuf;
pub(crate) use recv_buf::RecvPool;
pub use slice::Slice;
pub(crate) use vectored::IoVecs;
pub use vectored::{IoBufs, IoBufsMut};

use std::ops::{Bound, RangeBounds};
use std::rc::Rc;
use std::sync::Arc;

/// Memory that an operation may hand to the kernel for reading (for a write or a send).
///
/// # Safety
/// As long as the value is neither moved nor dropped nor accessed mutably,
/// - [`buf_ptr`](Self::buf_ptr) returns the same pointer each time, and
/// - it is valid for reads of [`buf_len`](Self::buf_len) initialised bytes.
///
/// The methods of this trait and of [`IoBufMut`] do nothing else: they neither panic nor call into
/// this crate, as the driver calls them from its innermost loop.
///
/// The value is `'static`: it borrows nothing, so leaking an operation can't end the loan early.
///
/// # Examples
/// ```
/// use corio::buf::IoBuf;
/// let buf = b"hello world".to_vec();
/// assert_eq!(buf.buf_len(), 11);
/// let tail = buf.slice(6..);
/// assert_eq!(&tail[..], b"world");
/// ```
pub unsafe trait IoBuf: 'static {
    /// Where the bytes start.
    fn buf_ptr(&self) -> *const u8;

    /// How many initialised bytes there are.
    fn buf_len(&self) -> usize;

    /// Takes a part of this buffer, by value; [`Slice::into_inner`] gives the whole back.
    ///
    /// For a buffer with room beyond its bytes (`Vec` with spare capacity) the range may reach
    /// into that room, which is how a read appends: `buf.slice(len..)`.
    ///
    /// # Panics
    /// When the range starts after the initialised bytes, or ends before it starts.
    fn slice(self, range: impl RangeBounds<usize>) -> Slice<Self>
    where
        Self: Sized,
    {
        let begin = match range.start_bound() {
            Bound::Included(&n) => n,
            Bound::Excluded(&n) => n.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&n) => Some(n.saturating_add(1)),
            Bound::Excluded(&n) => Some(n),
            Bound::Unbounded => None,
        };
        Slice::new(self, begin, end)
    }
}

/// Memory that an operation may hand to the kernel for writing (for a read or a receive).
///
/// # Safety
/// As long as the value is neither moved nor dropped nor accessed otherwise,
/// - [`buf_mut_ptr`](Self::buf_mut_ptr) returns the same pointer each time, and
/// - it is valid for writes of [`buf_capacity`](Self::buf_capacity) bytes.
///
/// The methods neither panic nor use the context, as for [`IoBuf`].
///
/// # Examples
/// ```
/// use corio::buf::{IoBuf, IoBufMut};
/// let mut buf = Vec::with_capacity(64);
/// assert_eq!((buf.buf_len(), buf.buf_capacity()), (0, 64));
/// ```
pub unsafe trait IoBufMut: IoBuf {
    /// Where the kernel may write.
    fn buf_mut_ptr(&mut self) -> *mut u8;

    /// How many bytes the kernel may write, initialised or not.
    fn buf_capacity(&self) -> usize;

    /// Takes note that the kernel has written the first `n` bytes.
    ///
    /// A `Vec` has `len() == n` afterwards; a buffer of fixed size does nothing.
    ///
    /// # Safety
    /// The first `n` bytes are initialised, and `n <= buf_capacity()`.
    unsafe fn set_filled(&mut self, n: usize);
}

// SAFETY: a Vec's heap block stays put while the Vec is not touched; `len` bytes are initialised.
unsafe impl IoBuf for Vec<u8> {
    fn buf_ptr(&self) -> *const u8 {
        self.as_ptr()
    }
    fn buf_len(&self) -> usize {
        self.len()
    }
}

// SAFETY: as above; the block is `capacity` bytes long.
unsafe impl IoBufMut for Vec<u8> {
    fn buf_mut_ptr(&mut self) -> *mut u8 {
        self.as_mut_ptr()
    }
    fn buf_capacity(&self) -> usize {
        self.capacity()
    }
    unsafe fn set_filled(&mut self, n: usize) {
        debug_assert!(n <= self.capacity());
        // SAFETY: the caller promises that `n` bytes are initialised and within capacity.
        unsafe { self.set_len(n) }
    }
}

// SAFETY: the box's block stays put while the box is not touched, and is initialised throughout.
unsafe impl IoBuf for Box<[u8]> {
    fn buf_ptr(&self) -> *const u8 {
        self.as_ptr()
    }
    fn buf_len(&self) -> usize {
        self.len()
    }
}

// SAFETY: as above.
unsafe impl IoBufMut for Box<[u8]> {
    fn buf_mut_ptr(&mut self) -> *mut u8 {
        self.as_mut_ptr()
    }
    fn buf_capacity(&self) -> usize {
        self.len()
    }
    unsafe fn set_filled(&mut self, _n: usize) {}
}

// SAFETY: the array is inline; the trait asks for a stable pointer only while it is not moved.
unsafe impl<const N: usize> IoBuf for [u8; N] {
    fn buf_ptr(&self) -> *const u8 {
        self.as_ptr()
    }
    fn buf_len(&self) -> usize {
        N
    }
}

// SAFETY: as above.
unsafe impl<const N: usize> IoBufMut for [u8; N] {
    fn buf_mut_ptr(&mut self) -> *mut u8 {
        self.as_mut_ptr()
    }
    fn buf_capacity(&self) -> usize {
        N
    }
    unsafe fn set_filled(&mut self, _n: usize) {}
}

/// Implements [`IoBuf`] for a type that dereferences to bytes it never moves.
macro_rules! readable {
    ($($ty:ty: $why:literal),+ $(,)?) => {$(
        // SAFETY: the bytes are immutable, initialised and stay put:
        #[doc = $why]
        unsafe impl IoBuf for $ty {
            fn buf_ptr(&self) -> *const u8 {
                let bytes: &[u8] = self.as_ref();
                bytes.as_ptr()
            }
            fn buf_len(&self) -> usize {
                let bytes: &[u8] = self.as_ref();
                bytes.len()
            }
        }
    )+};
}

readable! {
    &'static [u8]: "Static memory.",
    &'static str: "Static memory.",
    String: "One heap block, untouched while in flight.",
    Arc<[u8]>: "Shared, hence immutable, heap block.",
    Rc<[u8]>: "Shared, hence immutable, heap block.",
}

// SAFETY: static memory, never moved nor changed.
unsafe impl<const N: usize> IoBuf for &'static [u8; N] {
    fn buf_ptr(&self) -> *const u8 {
        self.as_ptr()
    }
    fn buf_len(&self) -> usize {
        N
    }
}

/// Any cheaply cloned owner of immutable bytes, such as `bytes::Bytes`, as a buffer.
///
/// # Examples
/// ```
/// use corio::buf::{IoBuf, Shared};
/// let page = Shared::new(bytes::Bytes::from_static(b"<h1>hi</h1>"));
/// assert_eq!(page.buf_len(), 11);
/// ```
#[derive(Clone, Debug)]
pub struct Shared<T> {
    owner: Rc<T>,
    // Taken once, because `AsRef` need not answer the same twice.
    ptr: *const u8,
    len: usize,
}

impl<T: AsRef<[u8]> + 'static> Shared<T> {
    /// Wraps `bytes`; this allocates once, and clones share it.
    pub fn new(bytes: T) -> Self {
        let owner = Rc::new(bytes);
        let bytes: &[u8] = (*owner).as_ref();
        let (ptr, len) = (bytes.as_ptr(), bytes.len());
        Shared { owner, ptr, len }
    }

    /// The wrapped value.
    pub fn get(&self) -> &T {
        &self.owner
    }
}

// SAFETY: `as_ref` gave the bytes for as long as the value is borrowed, and the `Rc`, which is
// never handed out, keeps it in place and borrowable until the last clone is gone.
unsafe impl<T: AsRef<[u8]> + 'static> IoBuf for Shared<T> {
    fn buf_ptr(&self) -> *const u8 {
        self.ptr
    }
    fn buf_len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filling_a_vec_sets_its_length() {
        let mut buf = Vec::with_capacity(8);
        buf.push(7);
        // SAFETY: one byte was pushed.
        unsafe { buf.set_filled(1) };
        assert_eq!(buf, [7]);
        // SAFETY: zero bytes need no initialisation.
        unsafe { buf.set_filled(0) };
        assert!(buf.is_empty());
    }

    #[test]
    fn every_readable_type_gives_its_bytes() {
        fn bytes(buf: impl IoBuf) -> Vec<u8> {
            // SAFETY: what `IoBuf` promises.
            unsafe { std::slice::from_raw_parts(buf.buf_ptr(), buf.buf_len()) }.to_vec()
        }
        assert_eq!(bytes(&b"abc"[..]), b"abc");
        assert_eq!(bytes("abc"), b"abc");
        assert_eq!(bytes(String::from("abc")), b"abc");
        assert_eq!(bytes(*b"abc"), b"abc");
        assert_eq!(bytes(b"abc".to_vec().into_boxed_slice()), b"abc");
        assert_eq!(bytes(Arc::<[u8]>::from(&b"abc"[..])), b"abc");
        assert_eq!(bytes(Shared::new(bytes::Bytes::from_static(b"abc"))), b"abc");
        assert_eq!(bytes(b"xabcx".to_vec().slice(1..4)), b"abc");
    }
}
