//! Reserving and freeing space of a file.

// # Why this file has `unsafe`
// It signs the contract of `Operation`.

use std::io;
use std::ops::ControlFlow;

use crate::driver::{Args, OpCode, Request, calls};
use crate::op::call::plain;
use crate::op::future::{Op, Operation, io_result};
use crate::op::source::Source;

/// Reserves or frees space of a file.
/// [`fallocate(2)`](https://man7.org/linux/man-pages/man2/fallocate.2.html).
///
/// # Errors
/// What `fallocate(2)` reports. On other hosts than Linux only the mode 0 exists, and other modes
/// are `EOPNOTSUPP`; a host that can't reserve space extends the file instead.
///
/// # Examples
/// ```
/// use corio::op::AsyncFallocate;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let file = tempfile::tempfile()?;
/// AsyncFallocate::new(&file, 0, 0, 4096).await?;
/// assert_eq!(file.metadata()?.len(), 4096);
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_FALLOCATE")]
#[doc(alias = "posix_fallocate")]
pub type AsyncFallocate<'a> = Op<Fallocate<'a>>;

/// The operation of [`AsyncFallocate`].
#[derive(Debug)]
pub struct Fallocate<'a> {
    source: Source<'a>,
    args: Args,
}

// SAFETY: 1. The arguments are a field that nothing else borrows, and contain no pointers.
// 2. `source` is held. 3. A held source names its file without its borrow. 4. The result brings
// nothing.
unsafe impl Operation for Fallocate<'_> {
    type Output = io::Result<()>;
    const CODE: OpCode = OpCode::Fallocate;

    fn prepare(&mut self) -> ControlFlow<i32> {
        self.source.hold()
    }
    fn request(&mut self) -> Request {
        self.args.files[0] = self.source.target();
        plain(&calls::fs::FALLOCATE, &mut self.args)
    }
    fn finish(self, result: i32) -> Self::Output {
        io_result(result).map(drop)
    }
}

impl<'a> Op<Fallocate<'a>> {
    /// Works on `len` bytes from `offset`; `mode` is 0 to reserve, or `FALLOC_FL_*` flags.
    #[track_caller]
    pub fn new(source: impl Into<Source<'a>>, mode: i32, offset: u64, len: u64) -> Self {
        let args = Args { words: [mode as u64, offset, len, 0], ..Args::NONE };
        Op::of(Fallocate { source: source.into(), args })
    }
}
