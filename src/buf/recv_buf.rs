//! Memory that a context receives into: a pool of large buffers, each filled by several receives,
//! one behind the other. The part that one receive has filled is a [`RecvBuf`].
//!
//! A buffer is used again once it is full and its last part has been dropped.

// # Why this file has `unsafe`
// The kernel writes to buffers of which other parts are being read.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;
use std::rc::Rc;
use std::slice;

use super::IoBuf;

/// An owned buffer of received bytes: a part of the context's own memory, returned to it on drop.
///
/// It comes from [`TcpStream::recv_stream`](crate::net::TcpStream::recv_stream) and dereferences to
/// its bytes. As an [`IoBuf`] it can be sent, or written to a file, without a copy.
///
/// Even the smallest `RecvBuf` keeps the 64 KiB of which it is a part from being used again. So
/// copy bytes that are kept for long, such as the beginning of a message whose end has not arrived.
///
/// # Examples
/// ```
/// # use corio::net::UnixStream;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let (a, b) = UnixStream::pair()?;
/// a.send_all("hello").await.0?;
/// let received = b.recv_stream().recv().await?.expect("five bytes");
/// assert_eq!(&received[1..], b"ello");
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RecvBuf {
    pool: Rc<RecvPool>,
    start: NonNull<u8>,
    len: u32,
    id: u16,
}

impl RecvBuf {
    /// Grows by `next`, if that follows in memory; otherwise returns it.
    #[cfg_attr(not(corio_uring), allow(dead_code))]
    pub(crate) fn append(&mut self, next: RecvBuf) -> Result<(), RecvBuf> {
        // Of one buffer, so that neither the sum nor the end is beyond it.
        let adjacent = self.id == next.id
            && Rc::ptr_eq(&self.pool, &next.pool)
            && self.start.as_ptr().wrapping_add(self.len as usize) == next.start.as_ptr();
        if !adjacent {
            return Err(next);
        }
        self.len += next.len;
        Ok(())
    }
}

impl RecvBuf {
    /// Drops the first `len` bytes, which are not all.
    pub(crate) fn advance(&mut self, len: usize) {
        assert!(len < self.len as usize, "a buffer is never empty");
        // SAFETY: within the bytes of this value.
        self.start = unsafe { self.start.add(len) };
        self.len -= len as u32;
    }

    /// Copies bytes into memory like a context's own.
    pub(crate) fn copies_of(bytes: &[u8]) -> impl Iterator<Item = RecvBuf> {
        let pool = Rc::new(RecvPool::new(bytes.len().next_multiple_of(RecvPool::SIZE)));
        bytes.chunks(RecvPool::SIZE).map(move |part| {
            let id = pool.take().unwrap_or_else(|| handle_alloc_error(Layout::for_value(part)));
            let (start, room) = pool.room(id);
            debug_assert!(part.len() <= room as usize, "a fresh buffer has room for a part");
            // SAFETY: the parts are of the size of a buffer at most, and each gets a buffer of its
            // own, which is empty, and which nothing else accesses: so that many bytes are written
            // to its room, once.
            unsafe {
                start.copy_from_nonoverlapping(NonNull::from(part).cast(), part.len());
                pool.fill(id, part.len() as u32)
            }
        })
    }
}

impl Deref for RecvBuf {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: that many bytes at `start` have been received (`RecvPool::fill`). They are not
        // written to before the buffer is used again, for which this value must be dropped.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len as usize) }
    }
}

impl AsRef<[u8]> for RecvBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

// SAFETY: pointer and length change only in methods that need `&mut` (1, 2); the bytes are
// initialised and unchanged as in `deref`, wherever this value is moved to (3). Two fields are read
// (4).
unsafe impl IoBuf for RecvBuf {
    #[inline(always)]
    fn buf_ptr(&self) -> *const u8 {
        self.start.as_ptr()
    }
    #[inline(always)]
    fn buf_len(&self) -> usize {
        self.len as usize
    }
}

impl fmt::Debug for RecvBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RecvBuf").field(&&**self).finish()
    }
}

impl Drop for RecvBuf {
    #[inline]
    fn drop(&mut self) {
        self.pool.release(self.id);
    }
}

/// The pool of buffers of one context.
#[derive(Debug)]
pub(crate) struct RecvPool {
    /// The most buffers that the pool may have.
    limit: usize,
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    slabs: Vec<Slab>,
    buffers: Vec<Buffer>,
    /// Buffers without received bytes.
    free: Vec<u16>,
}

#[derive(Debug)]
struct Buffer {
    start: NonNull<u8>,
    /// The number of bytes received into it since it was free.
    filled: u32,
    /// The number of `RecvBuf`s that are parts of it.
    parts: u32,
}

impl RecvPool {
    /// The size of a buffer, in bytes.
    pub(crate) const SIZE: usize = 64 * 1024;

    /// The most buffers: a number has 16 bits, of which the kernel's ring takes half the range.
    const MOST: usize = 1 << 15;

    /// The number of buffers allocated first.
    const FIRST: usize = 16;

    /// Creates a pool of at most `memory` bytes, but of at least one buffer. Allocates nothing yet.
    pub(crate) fn new(memory: usize) -> Self {
        let limit = (memory / Self::SIZE).clamp(1, Self::MOST);
        RecvPool { limit, state: RefCell::default() }
    }

    #[cfg_attr(not(corio_uring), allow(dead_code))]
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Takes a free buffer; if there is none, doubles the number of buffers first. `None`: the
    /// limit is reached, or no memory is left.
    pub(crate) fn take(&self) -> Option<u16> {
        let mut state = self.state.borrow_mut();
        if state.free.is_empty() {
            state.grow(self.limit);
        }
        state.free.pop()
    }

    /// Takes a buffer that has become free; `None`: there is none at present.
    #[cfg_attr(not(corio_uring), allow(dead_code))]
    pub(crate) fn take_freed(&self) -> Option<u16> {
        self.state.borrow_mut().free.pop()
    }

    /// Returns the address of the unfilled rest of a buffer that was taken, and its size in bytes.
    pub(crate) fn room(&self, id: u16) -> (NonNull<u8>, u32) {
        let state = self.state.borrow();
        let buffer = &state.buffers[usize::from(id)];
        (buffer.end(), Self::SIZE as u32 - buffer.filled)
    }

    /// Records that the next `len` bytes of a buffer have been received, and returns them.
    ///
    /// # Safety
    /// The first `len` bytes of the buffer's [`room`](Self::room) are initialised, and are not
    /// written to any more.
    #[inline(always)]
    pub(crate) unsafe fn fill(self: &Rc<Self>, id: u16, len: u32) -> RecvBuf {
        let mut state = self.state.borrow_mut();
        let buffer = &mut state.buffers[usize::from(id)];
        assert!(
            len <= Self::SIZE as u32 - buffer.filled,
            "more bytes were received than the buffer has room for"
        );
        let start = buffer.end();
        buffer.filled += len;
        buffer.parts += 1;
        RecvBuf { pool: self.clone(), start, len, id }
    }

    #[inline(always)]
    fn release(&self, id: u16) {
        let mut state = self.state.borrow_mut();
        let buffer = &mut state.buffers[usize::from(id)];
        buffer.parts -= 1;
        if buffer.parts == 0 && buffer.filled == Self::SIZE as u32 {
            buffer.filled = 0;
            state.free.push(id);
        }
    }
}

impl Default for RecvPool {
    /// Creates a pool of as many buffers as possible.
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl Buffer {
    #[inline(always)]
    fn end(&self) -> NonNull<u8> {
        // SAFETY: `filled` is at most the buffer's size (`fill` asserts it).
        unsafe { self.start.add(self.filled as usize) }
    }
}

impl State {
    #[cold]
    fn grow(&mut self, limit: usize) {
        let there = self.buffers.len();
        let more = there.max(RecvPool::FIRST).min(limit - there);
        if more == 0 {
            return;
        }
        let Some(slab) = Slab::new(more * RecvPool::SIZE) else { return };
        for index in (0..more).rev() {
            self.free.push((there + index) as u16);
        }
        self.buffers.extend((0..more).map(|index| {
            // SAFETY: `index` is below `more`, and the slab has `more` times `SIZE` bytes.
            let start = unsafe { slab.start.add(index * RecvPool::SIZE) };
            Buffer { start, filled: 0, parts: 0 }
        }));
        self.slabs.push(slab);
    }
}

/// The memory of some buffers. Not a `Box`, which would assert that no other pointer accesses it.
#[derive(Debug)]
struct Slab {
    start: NonNull<u8>,
    layout: Layout,
}

impl Slab {
    fn new(len: usize) -> Option<Self> {
        const PAGE: usize = 4096;
        let layout = Layout::from_size_align(len, PAGE).ok().filter(|_| len > 0)?;
        // SAFETY: the size is not zero.
        let start = NonNull::new(unsafe { alloc(layout) })?;
        Some(Slab { start, layout })
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout. Each `RecvBuf` keeps the pool, and so this
        // memory, alive, and a driver does as long as the kernel may write here.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Receives as a driver does.
    fn receive(pool: &Rc<RecvPool>, id: u16, bytes: &[u8]) -> RecvBuf {
        let (start, room) = pool.room(id);
        assert!(bytes.len() <= room as usize);
        // SAFETY: within the room, which nothing else accesses.
        unsafe {
            start.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len());
            pool.fill(id, bytes.len() as u32)
        }
    }

    #[test]
    fn a_buffer_is_free_again_when_it_is_full_and_its_parts_are_dropped() {
        let pool = Rc::new(RecvPool::new(RecvPool::SIZE));
        let id = pool.take().unwrap();
        assert_eq!(pool.take(), None, "the limit is one");
        let first = receive(&pool, id, b"first");
        let second = receive(&pool, id, b"second");
        drop(first);
        assert_eq!(pool.take_freed(), None, "not full, and in use");
        let rest = receive(&pool, id, &vec![7; pool.room(id).1 as usize]);
        assert_eq!(pool.room(id).1, 0);
        drop(rest);
        assert_eq!(pool.take_freed(), None, "in use");
        assert_eq!(&*second, b"second");
        drop(second);
        assert_eq!(pool.take_freed(), Some(id));
        assert_eq!(pool.room(id).1, RecvPool::SIZE as u32);
    }

    #[test]
    fn neighbours_become_one() {
        let pool = Rc::new(RecvPool::new(1 << 20));
        let id = pool.take().unwrap();
        let mut part = receive(&pool, id, b"ab");
        part.append(receive(&pool, id, b"cd")).unwrap();
        assert_eq!(&*part, b"abcd");
        let between = receive(&pool, id, b"-");
        let last = receive(&pool, id, b"ef");
        let last = part.append(last).unwrap_err();
        assert_eq!((&*between, &*last), (&b"-"[..], &b"ef"[..]));
        let other = pool.take().unwrap();
        assert_ne!(other, id);
        part.append(receive(&pool, other, b"gh")).unwrap_err();
    }

    #[test]
    fn there_are_as_many_buffers_as_the_limit_and_parts_keep_their_pool() {
        let pool = Rc::new(RecvPool::new(40 * RecvPool::SIZE));
        let ids: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!(ids, (0..40).collect::<Vec<_>>());
        let part = receive(&pool, 39, b"stays");
        drop(pool);
        assert_eq!(&*part, b"stays");
    }
}
