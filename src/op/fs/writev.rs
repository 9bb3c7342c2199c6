//! Writing several buffers.

// # Why this file has `unsafe`
// It signs the contract of `Operation`.

use std::io;
use std::ops::ControlFlow;

use crate::buf::{IoBufs, IoVecs};
use crate::driver::{OpCode, Request};
use crate::op::future::{Op, Operation, io_result};
use crate::op::source::Source;
use crate::op::transfer::at;

/// Writes several buffers at an offset, in order.
/// [`pwritev(2)`](https://man7.org/linux/man-pages/man2/pwritev.2.html).
///
/// A file without positions, such as a pipe, is written to as by `writev(2)`, where `pwritev(2)`
/// fails.
///
/// Returns the number of bytes written, which may be fewer than asked for.
///
/// # Examples
/// ```
/// use corio::op::AsyncWritev;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let file = tempfile::tempfile()?;
/// let (result, _bufs) = AsyncWritev::new(&file, ["head", "body"], 0).await;
/// assert_eq!(result?, 8);
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_WRITEV")]
#[doc(alias = "pwritev")]
pub type AsyncWritev<'a, B> = Op<Writev<'a, B>>;

/// The operation of [`AsyncWritev`].
pub struct Writev<'a, B> {
    source: Source<'a>,
    bufs: B,
    vecs: IoVecs,
    offset: u64,
}

// SAFETY: 1. The list of buffers lies in `vecs`, of this value or on its heap; its entries lead
// into `bufs`, which the value owns, and which the kernel only reads. 2. `source` is held. 3. A
// held source names its file without its borrow. 4. The result is a count and brings nothing.
unsafe impl<B: IoBufs> Operation for Writev<'_, B> {
    type Output = (io::Result<usize>, B);
    const CODE: OpCode = OpCode::Writev;

    fn prepare(&mut self) -> ControlFlow<i32> {
        self.source.hold()
    }
    fn request(&mut self) -> Request {
        self.vecs.fill(&self.bufs);
        let (iov, count) = (self.vecs.as_mut_ptr(), self.vecs.len() as u32);
        Request::Writev { fd: self.source.target(), iov, count, offset: self.offset }
    }
    fn finish(self, result: i32) -> Self::Output {
        (io_result(result), self.bufs)
    }
}

impl<'a, B: IoBufs> Op<Writev<'a, B>> {
    /// Writes to `source`, starting `offset` bytes after the start of the file.
    #[track_caller]
    pub fn new(source: impl Into<Source<'a>>, bufs: B, offset: u64) -> Self {
        Op::of(Writev { source: source.into(), bufs, vecs: IoVecs::new(), offset: at(offset) })
    }
}
