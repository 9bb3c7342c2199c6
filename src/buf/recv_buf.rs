//! Memory that a context receives into: large buffers, each taken by several receives, one behind
//! the other. What one of them has filled is a [`RecvBuf`].
//!
//! A buffer is used again once it is full and the last chunk of it is gone.
//!
//! # Why this file has `unsafe`
//! The kernel writes into buffers of which other parts are being read.

use std::alloc::{Layout, alloc, dealloc};
use std::cell::RefCell;
use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;
use std::rc::Rc;
use std::slice;

use super::IoBuf;

/// Bytes that were received: a part of the context's own memory, which goes back when this is
/// dropped.
///
/// It comes from [`TcpStream::recv_stream`](crate::net::TcpStream::recv_stream) and dereferences to its
/// bytes. As an [`IoBuf`] it can be sent, or written to a file, without being copied.
///
/// The smallest chunk keeps the 64 KiB of which it is a part from being used again. So what is to
/// be kept for long, such as the beginning of a message whose end has not come yet, is better
/// copied.
///
/// # Examples
/// ```
/// # use corio::net::UnixStream;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let (a, b) = UnixStream::pair()?;
/// a.send_all("hello").await.0?;
/// let chunk = b.recv_stream().recv().await?.expect("five bytes");
/// assert_eq!(&chunk[1..], b"ello");
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
    /// Grows by `next`, if that is what follows in memory; else gives it back.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
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

impl Deref for RecvBuf {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: that many bytes from there on have been received (`RecvPool::fill`). Nobody
        // writes to them before the buffer is used again, which is not while this chunk is there.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len as usize) }
    }
}

impl AsRef<[u8]> for RecvBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

// SAFETY: as for `Deref`; where they are does not depend on where the chunk is.
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

/// The buffers of one context.
#[derive(Debug)]
pub(crate) struct RecvPool {
    /// The most buffers there may be.
    limit: usize,
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    slabs: Vec<Slab>,
    buffers: Vec<Buffer>,
    /// Buffers that nothing is in.
    free: Vec<u16>,
}

#[derive(Debug)]
struct Buffer {
    start: NonNull<u8>,
    /// How many bytes have been received into it since it was free.
    filled: u32,
    /// How many chunks there are of it.
    chunks: u32,
}

impl RecvPool {
    /// The size of a buffer, in bytes.
    pub(crate) const SIZE: usize = 64 * 1024;

    /// A buffer's number has 16 bits, and the kernel takes half of that.
    const MOST: usize = 1 << 15;

    /// How many buffers there are at first.
    const FIRST: usize = 16;

    /// For at most so many bytes, but at least one buffer. Nothing is allocated yet.
    pub(crate) fn new(memory: usize) -> Self {
        let limit = (memory / Self::SIZE).clamp(1, Self::MOST);
        RecvPool { limit, state: RefCell::default() }
    }

    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Takes a free buffer; makes more, as many as there are, if there is none. `None`: there are
    /// as many as there may be, or no memory is left.
    pub(crate) fn take(&self) -> Option<u16> {
        let mut state = self.state.borrow_mut();
        if state.free.is_empty() {
            state.grow(self.limit);
        }
        state.free.pop()
    }

    /// Takes a buffer that has become free; `None`: there is none for now.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    pub(crate) fn take_freed(&self) -> Option<u16> {
        self.state.borrow_mut().free.pop()
    }

    /// Where a buffer that was taken goes on, and how many bytes there are from there on.
    pub(crate) fn room(&self, id: u16) -> (NonNull<u8>, u32) {
        let state = self.state.borrow();
        let buffer = &state.buffers[usize::from(id)];
        (buffer.end(), Self::SIZE as u32 - buffer.filled)
    }

    /// Takes note that the next `len` bytes of a buffer have been received: they are the result.
    ///
    /// # Safety
    /// They have been: that many bytes of [`room`](Self::room) were written, and are not written to
    /// any more.
    #[inline(always)]
    pub(crate) unsafe fn fill(self: &Rc<Self>, id: u16, len: u32) -> RecvBuf {
        let mut state = self.state.borrow_mut();
        let buffer = &mut state.buffers[usize::from(id)];
        assert!(
            len <= Self::SIZE as u32 - buffer.filled,
            "more was received than there is room for"
        );
        let start = buffer.end();
        buffer.filled += len;
        buffer.chunks += 1;
        RecvBuf { pool: self.clone(), start, len, id }
    }

    #[inline(always)]
    fn release(&self, id: u16) {
        let mut state = self.state.borrow_mut();
        let buffer = &mut state.buffers[usize::from(id)];
        buffer.chunks -= 1;
        if buffer.chunks == 0 && buffer.filled == Self::SIZE as u32 {
            buffer.filled = 0;
            state.free.push(id);
        }
    }
}

impl Default for RecvPool {
    /// Of as many buffers as there can be.
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl Buffer {
    #[inline(always)]
    fn end(&self) -> NonNull<u8> {
        // SAFETY: `filled` is at most the buffer's size.
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
            // SAFETY: within the slab.
            let start = unsafe { slab.start.add(index * RecvPool::SIZE) };
            Buffer { start, filled: 0, chunks: 0 }
        }));
        self.slabs.push(slab);
    }
}

/// Memory for some buffers. Not a `Box`, as that would claim to be the only way to it.
#[derive(Debug)]
struct Slab {
    start: NonNull<u8>,
    layout: Layout,
}

impl Slab {
    fn new(len: usize) -> Option<Self> {
        const PAGE: usize = 4096;
        let layout = Layout::from_size_align(len, PAGE).ok().filter(|_| len > 0)?;
        // SAFETY: not of size zero.
        let start = NonNull::new(unsafe { alloc(layout) })?;
        Some(Slab { start, layout })
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout. RecvStream keep the pool, and so this, in place; and a
        // driver does, for as long as the kernel may write here.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a driver does.
    fn receive(pool: &Rc<RecvPool>, id: u16, bytes: &[u8]) -> RecvBuf {
        let (start, room) = pool.room(id);
        assert!(bytes.len() <= room as usize);
        // SAFETY: within the room, where nobody reads.
        unsafe {
            start.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len());
            pool.fill(id, bytes.len() as u32)
        }
    }

    #[test]
    fn a_buffer_is_free_again_when_it_is_full_and_its_chunks_are_gone() {
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
        let mut chunk = receive(&pool, id, b"ab");
        chunk.append(receive(&pool, id, b"cd")).unwrap();
        assert_eq!(&*chunk, b"abcd");
        let between = receive(&pool, id, b"-");
        let last = receive(&pool, id, b"ef");
        let last = chunk.append(last).unwrap_err();
        assert_eq!((&*between, &*last), (&b"-"[..], &b"ef"[..]));
        let other = pool.take().unwrap();
        assert_ne!(other, id);
        chunk.append(receive(&pool, other, b"gh")).unwrap_err();
    }

    #[test]
    fn there_are_as_many_buffers_as_the_limit_and_chunks_keep_their_pool() {
        let pool = Rc::new(RecvPool::new(40 * RecvPool::SIZE));
        let ids: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!(ids, (0..40).collect::<Vec<_>>());
        let chunk = receive(&pool, 39, b"stays");
        drop(pool);
        assert_eq!(&*chunk, b"stays");
    }
}
