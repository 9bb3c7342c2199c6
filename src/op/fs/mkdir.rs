//! Creating a directory.

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

/// Creates a directory. [`mkdirat(2)`](https://man7.org/linux/man-pages/man2/mkdir.2.html).
///
/// A cancelled creation may have happened all the same: it is waited for, and its result says so.
///
/// Kernel: `IORING_OP_MKDIRAT` since Linux 5.15; before, a thread makes the system call.
///
/// # Examples
/// ```
/// use corio::op::AsyncMkdir;
/// # let dir = tempfile::tempdir()?;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let path = dir.path().join("new");
/// AsyncMkdir::new(&path, 0o777).await?;
/// assert!(path.is_dir());
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_MKDIRAT")]
#[doc(alias = "mkdirat")]
#[doc(alias = "create_dir")]
pub type AsyncMkdir<'a> = Op<Mkdir<'a>>;

/// The operation of [`AsyncMkdir`].
pub struct Mkdir<'a> {
    path: PathAt<'a>,
    args: Args,
}

// SAFETY: 1. The arguments are a field that nothing else borrows; their pointer leads to the path,
// which lies in the value or in a heap block that it owns, and is only read. 2. The directory that
// the path starts from is held. 3. A held source names its file without its borrow. 4. The result
// brings nothing.
unsafe impl Operation for Mkdir<'_> {
    type Output = io::Result<()>;
    const CODE: OpCode = OpCode::Mkdir;

    fn prepare(&mut self) -> ControlFlow<i32> {
        self.path.hold()
    }
    fn request(&mut self) -> Request {
        self.args.dirs[0] = self.path.dir();
        self.args.ptrs[0] = self.path.as_arg();
        plain(&calls::fs::MKDIR, &mut self.args)
    }
    fn finish(self, result: i32) -> Self::Output {
        io_result(result).map(drop)
    }
}

impl<'a> Op<Mkdir<'a>> {
    #[track_caller]
    fn make(path: PathAt<'a>, mode: u32) -> Self {
        Op::of(Mkdir { path, args: Args { words: [mode.into(), 0, 0, 0], ..Args::NONE } })
    }

    /// Creates the directory `path`; `mode` is its permissions before the umask, ignored on
    /// Windows.
    #[track_caller]
    pub fn new(path: impl AsRef<Path>, mode: u32) -> Self {
        Self::make(PathAt::new(None, path.as_ref()), mode)
    }

    /// Creates `path`, which starts from the open directory `dir` if it is relative.
    #[track_caller]
    pub fn at(dir: impl Into<Source<'a>>, path: impl AsRef<Path>, mode: u32) -> Self {
        Self::make(PathAt::new(Some(dir.into()), path.as_ref()), mode)
    }
}
