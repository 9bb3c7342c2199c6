//! Buffers that operations own: the types whose memory may be lent to the kernel.
//!
//! An operation takes its buffer by value and returns it with the result, so nothing can free or
//! reuse the memory while the kernel reads or writes it. [`IoBuf`] is for buffers to write or send
//! from, [`IoBufMut`] for buffers to read or receive into. Operations are pinned, so even an inline
//! `[u8; N]` is a valid buffer: it lives inside the operation and does not move before the
//! operation has ended.
//!
//! | type | written out | read into |
//! |---|---|---|
//! | `Vec<u8>` | its `len()` bytes | its whole capacity; `len()` becomes the count read |
//! | `Box<[u8]>`, `[u8; N]` | all of it | all of it; only the first *n* bytes are new |
//! | `&'static [u8]`, `&'static [u8; N]` (`b"…"`), `&'static str` | all of it | no |
//! | `String`, `Arc<[u8]>`, `Rc<[u8]>`, [`Shared<T>`] | all of it | no |
//! | `Bytes` (feature `bytes`) | all of it | no |
//! | `BytesMut` (feature `bytes`) | its `len()` bytes | its whole capacity, as a `Vec` |
//! | [`RecvBuf`]: bytes received into the context's own memory | all of it | no |
//! | [`Slice<B>`] | the part | the part |

// # Why this file has `unsafe`
// The kernel relies on what the two traits require of memory, so implementing them is `unsafe`.

#[cfg(feature = "bytes")]
mod foreign;
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

/// An owned buffer to write or send from: the kernel reads its memory.
///
/// # Safety
/// While an operation has the value, it is neither moved nor dropped, and only the methods of this
/// trait and of [`IoBufMut`] are called, [`set_filled`](IoBufMut::set_filled) excepted. During that
/// time
/// 1. [`buf_ptr`](Self::buf_ptr) returns the same pointer each time;
/// 2. [`buf_len`](Self::buf_len) returns the same length each time;
/// 3. the pointer is valid for reads of that many initialised bytes, which nothing changes;
/// 4. the methods neither panic nor call into this crate: the driver calls them from its loop.
///
/// The value is `'static`: it borrows nothing, so that leaking an operation cannot end the lifetime
/// of the memory.
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
    /// Returns the address of the first byte.
    fn buf_ptr(&self) -> *const u8;

    /// Returns the number of initialised bytes.
    fn buf_len(&self) -> usize;

    /// Takes a part of this buffer, by value; [`Slice::into_inner`] returns the whole.
    ///
    /// For a buffer with spare capacity, such as a `Vec`, the range may reach into that capacity,
    /// which is how a read appends: `buf.slice(len..)`.
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

/// An owned buffer to read or receive into: the kernel writes to its memory.
///
/// # Safety
/// Beside what [`IoBuf`] requires, while an operation has the value
/// 1. [`buf_mut_ptr`](Self::buf_mut_ptr) returns the same pointer each time, which is also that of
///    [`buf_ptr`](IoBuf::buf_ptr);
/// 2. [`buf_capacity`](Self::buf_capacity) returns the same length each time, not below
///    [`buf_len`](IoBuf::buf_len);
/// 3. the pointer is valid for writes of that many bytes, and nothing else accesses them;
/// 4. the methods neither panic nor call into this crate.
///
/// # Examples
/// ```
/// use corio::buf::{IoBuf, IoBufMut};
/// let mut buf = Vec::with_capacity(64);
/// assert_eq!((buf.buf_len(), buf.buf_capacity()), (0, 64));
/// ```
pub unsafe trait IoBufMut: IoBuf {
    /// Returns the address to which the kernel may write.
    fn buf_mut_ptr(&mut self) -> *mut u8;

    /// Returns the number of bytes that the kernel may write, initialised or not.
    fn buf_capacity(&self) -> usize;

    /// Records that the kernel has written the first `n` bytes.
    ///
    /// A `Vec` has `len() == n` afterwards; a buffer of fixed size does nothing.
    ///
    /// # Safety
    /// The first `n` bytes are initialised, and `n <= buf_capacity()`.
    unsafe fn set_filled(&mut self, n: usize);
}

// SAFETY: the heap block and the length of a Vec change only through `&mut` methods other than
// `as_mut_ptr` (1, 2); its `len` bytes are initialised (3). The calls are std's and do not panic
// (4).
unsafe impl IoBuf for Vec<u8> {
    fn buf_ptr(&self) -> *const u8 {
        self.as_ptr()
    }
    fn buf_len(&self) -> usize {
        self.len()
    }
}

// SAFETY: the same block (1), whose capacity only a reallocation changes (2); it is that many bytes
// long and owned by the Vec alone (3).
unsafe impl IoBufMut for Vec<u8> {
    fn buf_mut_ptr(&mut self) -> *mut u8 {
        self.as_mut_ptr()
    }
    fn buf_capacity(&self) -> usize {
        self.capacity()
    }
    unsafe fn set_filled(&mut self, n: usize) {
        debug_assert!(n <= self.capacity());
        // SAFETY: this function's items: `n` bytes are initialised, and within the capacity.
        unsafe { self.set_len(n) }
    }
}

// SAFETY: a box never reallocates (1), its length is part of its pointer (2), and its block is
// initialised throughout (3). The calls are std's and do not panic (4).
unsafe impl IoBuf for Box<[u8]> {
    fn buf_ptr(&self) -> *const u8 {
        self.as_ptr()
    }
    fn buf_len(&self) -> usize {
        self.len()
    }
}

// SAFETY: the same block (1) of fixed length (2), which the box owns alone (3).
unsafe impl IoBufMut for Box<[u8]> {
    fn buf_mut_ptr(&mut self) -> *mut u8 {
        self.as_mut_ptr()
    }
    fn buf_capacity(&self) -> usize {
        self.len()
    }
    unsafe fn set_filled(&mut self, _n: usize) {}
}

// SAFETY: the array is inline, and does not move while an operation has it (1); its length is part
// of its type (2), and it is initialised throughout (3). Nothing here panics (4).
unsafe impl<const N: usize> IoBuf for [u8; N] {
    fn buf_ptr(&self) -> *const u8 {
        self.as_ptr()
    }
    fn buf_len(&self) -> usize {
        N
    }
}

// SAFETY: the same bytes (1), `N` of them (2), which the array's owner alone accesses (3).
unsafe impl<const N: usize> IoBufMut for [u8; N] {
    fn buf_mut_ptr(&mut self) -> *mut u8 {
        self.as_mut_ptr()
    }
    fn buf_capacity(&self) -> usize {
        N
    }
    unsafe fn set_filled(&mut self, _n: usize) {}
}

/// Implements [`IoBuf`] for a type that dereferences to bytes that it never moves.
macro_rules! readable {
    ($($ty:ty: $why:literal),+ $(,)?) => {$(
        // SAFETY: `as_ref` of these std types returns the same initialised bytes each time, and
        // does not panic (1 to 4):
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
    &'static [u8]: "Static, immutable memory.",
    &'static str: "Static, immutable memory.",
    String: "One heap block, which only `&mut` methods change, and no operation calls those.",
    Arc<[u8]>: "A shared heap block is immutable, and has no interior mutability.",
    Rc<[u8]>: "A shared heap block is immutable, and has no interior mutability.",
}

// SAFETY: static memory (1), of a length that is part of the type (2), immutable and initialised
// (3). Nothing here panics (4).
unsafe impl<const N: usize> IoBuf for &'static [u8; N] {
    fn buf_ptr(&self) -> *const u8 {
        self.as_ptr()
    }
    fn buf_len(&self) -> usize {
        N
    }
}

/// A buffer made of any owner of immutable bytes, such as `bytes::Bytes`; cheap to clone.
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
    // Taken once, because `as_ref` may return other bytes at its next call.
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

    /// Returns the wrapped value.
    pub fn get(&self) -> &T {
        &self.owner
    }
}

// SAFETY: pointer and length are stored, and never change (1, 2). `as_ref` returned the bytes for
// as long as the value is borrowed, and the `Rc`, which is never handed out, keeps the value in
// place and borrowable until the last clone is dropped (3). Two fields are read (4).
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
            // SAFETY: item 3 of `IoBuf`; the value is not changed meanwhile.
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
