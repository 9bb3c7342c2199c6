//! Writing one buffer.

// # Why this file has `unsafe`
// It signs the contract of `Operation`.

use std::io;
use std::ops::ControlFlow;

use crate::buf::IoBuf;
use crate::driver::{OpCode, Request};
use crate::op::future::{Op, Operation, io_result};
use crate::op::source::Source;
use crate::op::transfer::{CURRENT_POSITION, at, clamp};

/// An operation (a future), not the trait: writes one buffer at an offset.
/// [`pwrite(2)`](https://man7.org/linux/man-pages/man2/pwrite.2.html).
///
/// A file without positions, such as a pipe, is written to as by `write(2)`, where `pwrite(2)`
/// fails.
///
/// Returns the number of bytes written, which may be fewer than asked for. Writing to a pipe or
/// socket whose reader has gone fails with `EPIPE` and, as with `write(2)`, also raises `SIGPIPE`
/// in a program that does not ignore it; Rust programs do by default.
///
/// A `timerfd` can't be written to (`EINVAL`). On io_uring before Linux 6.10, a write to one in
/// blocking mode waits until it is cancelled.
///
/// # Examples
/// ```
/// use corio::op::AsyncWrite;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let file = tempfile::tempfile()?;
/// let (result, _buf) = AsyncWrite::new(&file, "hello", 0).await;
/// assert_eq!(result?, 5);
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_WRITE")]
#[doc(alias = "pwrite")]
pub type AsyncWrite<'a, B> = Op<Write<'a, B>>;

/// The operation of [`AsyncWrite`].
#[derive(Debug)]
pub struct Write<'a, B> {
    source: Source<'a>,
    buf: B,
    offset: u64,
}

// SAFETY: 1. The pointer and length are one pair from `buf`, which the value owns until `finish`;
// the kernel only reads there. 2. `source` is held. 3. A held source names its file without its
// borrow. 4. The result is a count and brings nothing.
unsafe impl<B: IoBuf> Operation for Write<'_, B> {
    type Output = (io::Result<usize>, B);
    const CODE: OpCode = OpCode::Write;

    #[inline(always)]
    fn prepare(&mut self) -> ControlFlow<i32> {
        self.source.hold()
    }
    #[inline(always)]
    fn request(&mut self) -> Request {
        let (ptr, len) = (self.buf.buf_ptr(), clamp(self.buf.buf_len()));
        Request::Write { fd: self.source.target(), ptr, len, offset: self.offset }
    }
    #[inline(always)]
    fn finish(self, result: i32) -> Self::Output {
        (io_result(result), self.buf)
    }
}

impl<'a, B: IoBuf> Op<Write<'a, B>> {
    /// Writes to `source`, starting `offset` bytes after the start of the file.
    #[inline(always)]
    #[track_caller]
    pub fn new(source: impl Into<Source<'a>>, buf: B, offset: u64) -> Self {
        Op::of(Write { source: source.into(), buf, offset: at(offset) })
    }

    /// Writes at the file's own position and moves it; for pipes and terminals too.
    /// [`write(2)`](https://man7.org/linux/man-pages/man2/write.2.html).
    #[track_caller]
    pub fn at_position(source: impl Into<Source<'a>>, buf: B) -> Self {
        Op::of(Write { source: source.into(), buf, offset: CURRENT_POSITION })
    }
}
