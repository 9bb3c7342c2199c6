//! Writing a file to the disk.

// # Why this file has `unsafe`
// It signs the contract of `Operation`.

use std::io;
use std::ops::ControlFlow;

use crate::driver::{Args, OpCode, Request, calls};
use crate::op::call::plain;
use crate::op::future::{Op, Operation, io_result};
use crate::op::source::Source;

/// Writes a file's data and metadata to the disk.
/// [`fsync(2)`](https://man7.org/linux/man-pages/man2/fsync.2.html).
///
/// Covers writes that have *completed* before it starts; await them first.
///
/// # Examples
/// ```
/// use corio::op::{AsyncFdatasync, AsyncFsync};
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let file = tempfile::tempfile()?;
/// AsyncFsync::new(&file).await?;
/// AsyncFdatasync::new(&file).await?;
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_FSYNC")]
#[doc(alias = "sync_all")]
pub type AsyncFsync<'a> = Op<Fsync<'a, false>>;

/// Writes a file's data to the disk, and as much metadata as is needed to read it back.
/// [`fdatasync(2)`](https://man7.org/linux/man-pages/man2/fdatasync.2.html).
///
/// # Examples
/// See [`AsyncFsync`].
#[doc(alias = "IORING_OP_FSYNC")]
#[doc(alias = "IORING_FSYNC_DATASYNC")]
#[doc(alias = "sync_data")]
pub type AsyncFdatasync<'a> = Op<Fsync<'a, true>>;

/// The operation of [`AsyncFsync`] and [`AsyncFdatasync`].
#[derive(Debug)]
pub struct Fsync<'a, const DATA_ONLY: bool> {
    source: Source<'a>,
    args: Args,
}

// SAFETY: 1. The arguments are a field that nothing else borrows, and contain no pointers.
// 2. `source` is held. 3. A held source names its file without its borrow. 4. The result brings
// nothing.
unsafe impl<const DATA_ONLY: bool> Operation for Fsync<'_, DATA_ONLY> {
    type Output = io::Result<()>;
    const CODE: OpCode = if DATA_ONLY { OpCode::Fdatasync } else { OpCode::Fsync };

    fn prepare(&mut self) -> ControlFlow<i32> {
        self.source.hold()
    }
    fn request(&mut self) -> Request {
        self.args.files[0] = self.source.target();
        let call = if DATA_ONLY { &calls::fs::FDATASYNC } else { &calls::fs::FSYNC };
        plain(call, &mut self.args)
    }
    fn finish(self, result: i32) -> Self::Output {
        io_result(result).map(drop)
    }
}

impl<'a, const DATA_ONLY: bool> Op<Fsync<'a, DATA_ONLY>> {
    /// Syncs `source`.
    #[track_caller]
    pub fn new(source: impl Into<Source<'a>>) -> Self {
        Op::of(Fsync { source: source.into(), args: Args::NONE })
    }
}
