//! Setting a file's length.

// # Why this file has `unsafe`
// It signs the contract of `Operation`.

use std::io;
use std::ops::ControlFlow;

use crate::driver::{Args, OpCode, Request, calls};
use crate::op::call::plain;
use crate::op::future::{Op, Operation, io_result};
use crate::op::source::Source;

/// Sets a file's length. [`ftruncate(2)`](https://man7.org/linux/man-pages/man2/ftruncate.2.html).
///
/// Kernel: `IORING_OP_FTRUNCATE` since Linux 6.9; before, a thread makes the system call.
///
/// # Examples
/// ```
/// use corio::op::AsyncFtruncate;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let file = tempfile::tempfile()?;
/// AsyncFtruncate::new(&file, 100).await?;
/// assert_eq!(file.metadata()?.len(), 100);
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_FTRUNCATE")]
#[doc(alias = "set_len")]
pub type AsyncFtruncate<'a> = Op<Ftruncate<'a>>;

/// The operation of [`AsyncFtruncate`].
#[derive(Debug)]
pub struct Ftruncate<'a> {
    source: Source<'a>,
    args: Args,
}

// SAFETY: 1. The arguments are a field that nothing else borrows, and contain no pointers.
// 2. `source` is held. 3. A held source names its file without its borrow. 4. The result brings
// nothing.
unsafe impl Operation for Ftruncate<'_> {
    type Output = io::Result<()>;
    const CODE: OpCode = OpCode::Ftruncate;

    fn prepare(&mut self) -> ControlFlow<i32> {
        self.source.hold()
    }
    fn request(&mut self) -> Request {
        self.args.files[0] = self.source.target();
        plain(&calls::fs::FTRUNCATE, &mut self.args)
    }
    fn finish(self, result: i32) -> Self::Output {
        io_result(result).map(drop)
    }
}

impl<'a> Op<Ftruncate<'a>> {
    /// Makes `source` exactly `len` bytes long.
    #[track_caller]
    pub fn new(source: impl Into<Source<'a>>, len: u64) -> Self {
        let args = Args { words: [len, 0, 0, 0], ..Args::NONE };
        Op::of(Ftruncate { source: source.into(), args })
    }
}
