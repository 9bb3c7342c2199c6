//! Reading until the buffer is full.

// # Why this file has `unsafe`
// It signs the contract of `Operation`.

use std::io;
use std::ops::ControlFlow;

use crate::buf::IoBufMut;
use crate::driver::{OpCode, Request};
use crate::op::future::{Op, Operation, ended};
use crate::op::source::Source;
use crate::op::transfer::{Progress, at, clamp, filled_by};

/// Reads at an offset until the whole capacity of the buffer is filled; at once if it has none.
///
/// It is one operation for time limits and cancellation, however many system calls it takes.
///
/// # Errors
/// `UnexpectedEof` if the file ends early. This and any other error carries the number of bytes
/// read as [`Incomplete`](crate::op::Incomplete); they are in the buffer.
///
/// # Examples
/// ```
/// use corio::op::AsyncReadExactAt;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let file = std::fs::File::open("Cargo.toml")?;
/// let (result, buf) = AsyncReadExactAt::new(&file, [0; 9], 0).await;
/// result?;
/// assert_eq!(&buf, b"[package]");
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "read_exact")]
pub type AsyncReadExactAt<'a, B> = Op<ReadExactAt<'a, B>>;

/// The operation of [`AsyncReadExactAt`].
#[derive(Debug)]
pub struct ReadExactAt<'a, B> {
    source: Source<'a>,
    buf: B,
    offset: u64,
    progress: Progress,
}

// SAFETY: 1. The pointer leads to the part of `buf` that is not filled yet, and the length is that
// of this part: no more was moved than there was room for. `buf` is owned and not touched until
// `finish`. 2. `source` is held. 3. A held source names its file without its borrow. 4. `progress`
// is the sum of the results, each a number of bytes that `read(2)` wrote from its pointer on.
unsafe impl<B: IoBufMut> Operation for ReadExactAt<'_, B> {
    type Output = (io::Result<()>, B);
    const CODE: OpCode = OpCode::Read;

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
        let ptr = self.buf.buf_mut_ptr().wrapping_add(moved);
        let len = clamp(self.buf.buf_capacity() - moved);
        let offset = at(self.offset.saturating_add(self.progress.moved));
        Request::Read { fd: self.source.target(), ptr, len, offset }
    }
    #[inline(always)]
    fn goes_on(&mut self, result: i32) -> bool {
        self.progress.advance(result)
    }
    #[inline(always)]
    fn finish(mut self, result: i32) -> Self::Output {
        filled_by(&mut self.buf, self.progress.moved as usize);
        (self.progress.outcome(result), self.buf)
    }
}

impl<'a, B: IoBufMut> Op<ReadExactAt<'a, B>> {
    /// Reads from `source`, starting `offset` bytes after the start of the file.
    #[inline(always)]
    #[track_caller]
    pub fn new(source: impl Into<Source<'a>>, buf: B, offset: u64) -> Self {
        let progress = Progress::new(buf.buf_capacity() as u64);
        Op::of(ReadExactAt { source: source.into(), buf, offset, progress })
    }
}
