//! A part of a buffer, taken by value.

// # Why this file has `unsafe`
// It computes pointers into another buffer and makes slices of them.

use std::fmt;
use std::ops::{Deref, DerefMut};

use super::{IoBuf, IoBufMut};

/// A part of an owned buffer, made by [`IoBuf::slice`].
///
/// Dereferences to the initialised bytes of the part. Bytes that have not been written yet are not
/// among them: a slice over spare capacity grows as reads fill it.
///
/// A read into an open-ended slice (`buf.slice(n..)`) makes a `Vec` end with the bytes read, as a
/// read into the whole `Vec` does. A read into a bounded slice changes bytes within the bounds and
/// nothing else, so that bytes behind the bounds are kept.
///
/// # Examples
/// ```
/// use corio::buf::IoBuf;
/// let part = vec![1u8, 2, 3, 4].slice(1..3);
/// assert_eq!(&part[..], [2, 3]);
/// assert_eq!(part.into_inner(), [1, 2, 3, 4]);
/// ```
pub struct Slice<B> {
    buf: B,
    begin: usize,
    /// `None`: to the end of the buffer.
    end: Option<usize>,
}

impl<B: IoBuf> Slice<B> {
    #[track_caller]
    pub(super) fn new(buf: B, begin: usize, end: Option<usize>) -> Self {
        assert!(
            begin <= buf.buf_len(),
            "a slice can't start at {begin}: the buffer has only {} initialised bytes; start at \
             most there",
            buf.buf_len()
        );
        if let Some(end) = end {
            assert!(begin <= end, "a slice can't end at {end}, before it starts at {begin}");
        }
        Slice { buf, begin, end }
    }

    /// Returns the offset of the part in the whole buffer.
    pub fn begin(&self) -> usize {
        self.begin
    }

    /// Returns a reference to the whole buffer.
    pub fn get_ref(&self) -> &B {
        &self.buf
    }

    /// Returns the whole buffer.
    pub fn into_inner(self) -> B {
        self.buf
    }

    fn end_within(&self, limit: usize) -> usize {
        // `max`: the buffer may have become shorter since the slice was made.
        self.end.map_or(limit, |end| end.min(limit)).max(self.begin.min(limit))
    }

    fn begin_within(&self, limit: usize) -> usize {
        self.begin.min(limit)
    }
}

// SAFETY: `begin` and `end` never change. 1: the inner pointer (its item 1) plus an offset that
// depends on `begin` and the inner length (its item 2) alone. 2: depends on `begin`, `end` and the
// inner length. 3: `begin_within` and `end_within` are at most the inner length, so the part lies
// in the inner bytes (its item 3). 4: comparisons, an addition within bounds, and a subtraction
// that `end_within` keeps from going below zero.
unsafe impl<B: IoBuf> IoBuf for Slice<B> {
    fn buf_ptr(&self) -> *const u8 {
        // SAFETY: the offset is at most `buf_len`, so within the same block, or one past its end.
        unsafe { self.buf.buf_ptr().add(self.begin_within(self.buf.buf_len())) }
    }
    fn buf_len(&self) -> usize {
        let len = self.buf.buf_len();
        self.end_within(len) - self.begin_within(len)
    }
}

// SAFETY: 1: the inner pointer plus the same offset as in `buf_ptr`. 2: depends on `begin`, `end`,
// the inner length and the inner capacity, which are constant (item 2 of both traits); as the inner
// length is at most the inner capacity, so is the part's. 3: offset and length together are at most
// the inner capacity. 4: as for `IoBuf`.
unsafe impl<B: IoBufMut> IoBufMut for Slice<B> {
    fn buf_mut_ptr(&mut self) -> *mut u8 {
        let begin = self.begin_within(self.buf.buf_len());
        // SAFETY: the offset is at most `buf_len`, which is at most the capacity.
        unsafe { self.buf.buf_mut_ptr().add(begin) }
    }
    fn buf_capacity(&self) -> usize {
        self.end_within(self.buf.buf_capacity()) - self.begin_within(self.buf.buf_len())
    }
    unsafe fn set_filled(&mut self, n: usize) {
        let begin = self.begin_within(self.buf.buf_len());
        let filled = match self.end {
            // Behind the bounds there may be bytes, which are kept.
            Some(_) => (begin + n).max(self.buf.buf_len()),
            None => begin + n,
        };
        // SAFETY: the first `buf_len` bytes are initialised, `begin` is at most that, and by this
        // function's items the `n` from there on are, too, and within the capacity.
        unsafe { self.buf.set_filled(filled) }
    }
}

impl<B: IoBuf> Deref for Slice<B> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: item 3 of `IoBuf`, which holds while `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.buf_ptr(), self.buf_len()) }
    }
}

impl<B: IoBufMut> DerefMut for Slice<B> {
    fn deref_mut(&mut self) -> &mut [u8] {
        let len = self.buf_len();
        // SAFETY: items 1 and 3 of both traits: the bytes are initialised and valid for writes, and
        // `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.buf_mut_ptr(), len) }
    }
}

impl<B: IoBuf> fmt::Debug for Slice<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slice")
            .field("begin", &self.begin)
            .field("end", &self.end)
            .field("len", &self.buf_len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_reaches_into_spare_capacity_but_never_shows_it() {
        let mut buf = Vec::with_capacity(16);
        buf.extend_from_slice(b"abc");
        let mut part = buf.slice(3..);
        assert_eq!(part.buf_capacity(), 13);
        assert_eq!(part.len(), 0);
        // SAFETY: two bytes are written right before they are declared filled.
        unsafe {
            part.buf_mut_ptr().copy_from(b"de".as_ptr(), 2);
            part.set_filled(2);
        }
        assert_eq!(&part[..], b"de");
        assert_eq!(part.into_inner(), b"abcde");
    }

    #[test]
    fn a_read_into_the_middle_keeps_the_bytes_behind() {
        let mut part = vec![1u8, 2, 3, 4, 5, 6].slice(1..4);
        // SAFETY: one byte is written right before it is declared filled.
        unsafe {
            part.buf_mut_ptr().write(9);
            part.set_filled(1);
        }
        assert_eq!(part.into_inner(), [1, 9, 3, 4, 5, 6]);
    }

    #[test]
    fn a_bounded_slice_limits_its_capacity() {
        let part = vec![0u8; 10].slice(2..6);
        assert_eq!((part.buf_len(), part.buf_capacity()), (4, 4));
    }

    #[test]
    #[should_panic(expected = "a slice can't start at 5")]
    fn a_gap_of_uninitialised_bytes_is_refused() {
        let _ = Vec::<u8>::with_capacity(16).slice(5..);
    }
}
