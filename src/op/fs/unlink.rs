//! Removing a file or directory.

// # Why this file has `unsafe`
// It signs the contract of `Operation`.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use crate::driver::{Args, OpCode, Request, calls};
use crate::op::call::plain;
use crate::op::future::{Op, Operation, io_result};
use crate::op::path::PathAt;
use crate::op::source::Source;

/// Removes a name of a file, or an empty directory.
/// [`unlinkat(2)`](https://man7.org/linux/man-pages/man2/unlinkat.2.html).
///
/// A cancelled removal may have happened all the same: it is waited for, and its result says so.
///
/// Kernel: `IORING_OP_UNLINKAT` since Linux 5.11.
///
/// # Examples
/// ```
/// use corio::op::AsyncUnlink;
/// # let dir = tempfile::tempdir()?;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let path = dir.path().join("file");
/// std::fs::write(&path, "")?;
/// AsyncUnlink::new(&path, 0).await?;
/// assert!(!path.exists());
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_UNLINKAT")]
#[doc(alias = "unlinkat")]
#[doc(alias = "remove_file")]
#[doc(alias = "remove_dir")]
pub type AsyncUnlink<'a> = Op<Unlink<'a>>;

/// The operation of [`AsyncUnlink`].
pub struct Unlink<'a> {
    path: PathAt<'a>,
    args: Args,
}

// SAFETY: 1. The arguments are a field that nothing else borrows; their pointer leads to the path,
// which lies in the value or in a heap block that it owns, and is only read. 2. The directory is
// held. 3. A held source names its file without its borrow. 4. The result brings nothing.
unsafe impl Operation for Unlink<'_> {
    type Output = io::Result<()>;
    const CODE: OpCode = OpCode::Unlink;

    fn prepare(&mut self) -> ControlFlow<i32> {
        self.path.hold()
    }
    fn request(&mut self) -> Request {
        self.args.dirs[0] = self.path.dir();
        self.args.ptrs[0] = self.path.as_arg();
        plain(&calls::fs::UNLINK, &mut self.args)
    }
    fn finish(self, result: i32) -> Self::Output {
        io_result(result).map(drop)
    }
}

impl<'a> Op<Unlink<'a>> {
    #[track_caller]
    fn make(path: PathAt<'a>, flags: i32) -> Self {
        Op::of(Unlink { path, args: Args { words: [flags as u64, 0, 0, 0], ..Args::NONE } })
    }

    /// Removes `path`: a name of a file with the flags 0, an empty directory with `AT_REMOVEDIR`.
    #[track_caller]
    pub fn new(path: impl AsRef<Path>, flags: i32) -> Self {
        Self::make(PathAt::new(None, path.as_ref()), flags)
    }

    /// Removes `path`, which starts from the open directory `dir` if it is relative.
    #[track_caller]
    pub fn at(dir: impl Into<Source<'a>>, path: impl AsRef<Path>, flags: i32) -> Self {
        Self::make(PathAt::new(Some(dir.into()), path.as_ref()), flags)
    }
}
