//! Writing the whole of a buffer.

// # Why this file has `unsafe`
// It signs the contract of `Operation`.

use std::io;
use std::ops::ControlFlow;

use crate::buf::IoBuf;
use crate::driver::{OpCode, Request};
use crate::op::future::{Op, Operation, ended};
use crate::op::source::Source;
use crate::op::transfer::{Progress, at, clamp};

/// Writes the whole buffer at an offset.
///
/// It is one operation for time limits and cancellation, however many system calls it takes.
///
/// # Errors
/// What [`AsyncWrite`](crate::op::AsyncWrite) reports, with the number of bytes written as
/// [`Incomplete`](crate::op::Incomplete).
///
/// # Examples
/// ```
/// use corio::op::AsyncWriteAllAt;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let file = tempfile::tempfile()?;
/// let (result, _buf) = AsyncWriteAllAt::new(&file, "all of it", 100).await;
/// result?;
/// assert_eq!(file.metadata()?.len(), 109);
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "write_all")]
pub type AsyncWriteAllAt<'a, B> = Op<WriteAllAt<'a, B>>;

/// The operation of [`AsyncWriteAllAt`].
#[derive(Debug)]
pub struct WriteAllAt<'a, B> {
    source: Source<'a>,
    buf: B,
    offset: u64,
    progress: Progress,
}

// SAFETY: 1. The pointer leads to the part of `buf` that is not written yet, and the length is that
// of this part; `buf` is owned until `finish`, and the kernel only reads there. 2. `source` is
// held. 3. A held source names its file without its borrow. 4. The results are counts and bring
// nothing.
unsafe impl<B: IoBuf> Operation for WriteAllAt<'_, B> {
    type Output = (io::Result<()>, B);
    const CODE: OpCode = OpCode::Write;

    #[inline(always)]
    fn prepare(&mut self) -> ControlFlow<i32> {
        if self.progress.wanted == 0 {
            return ended(0);
        }
        self.source.hold()
    }
    #[inline(always)]
    fn request(&mut self) -> Request {
        let moved = self.progress.moved as usize;
        let ptr = self.buf.buf_ptr().wrapping_add(moved);
        let len = clamp(self.buf.buf_len() - moved);
        let offset = at(self.offset.saturating_add(self.progress.moved));
        Request::Write { fd: self.source.target(), ptr, len, offset }
    }
    #[inline(always)]
    fn goes_on(&mut self, result: i32) -> bool {
        self.progress.advance(result)
    }
    #[inline(always)]
    fn finish(self, result: i32) -> Self::Output {
        (self.progress.outcome(result), self.buf)
    }
}

impl<'a, B: IoBuf> Op<WriteAllAt<'a, B>> {
    /// Writes to `source`, starting `offset` bytes after the start of the file.
    #[inline(always)]
    #[track_caller]
    pub fn new(source: impl Into<Source<'a>>, buf: B, offset: u64) -> Self {
        let progress = Progress::new(buf.buf_len() as u64);
        Op::of(WriteAllAt { source: source.into(), buf, offset, progress })
    }
}
