//! Renaming a file or directory.

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

/// Renames a file or directory; replaces a file that has the new name.
/// [`renameat2(2)`](https://man7.org/linux/man-pages/man2/rename.2.html).
///
/// A cancelled rename may have happened all the same: it is waited for, and its result says so.
///
/// Kernel: `IORING_OP_RENAMEAT` since Linux 5.11.
///
/// # Examples
/// ```
/// use corio::op::AsyncRename;
/// # let dir = tempfile::tempdir()?;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let (old, new) = (dir.path().join("old"), dir.path().join("new"));
/// std::fs::write(&old, "contents")?;
/// AsyncRename::new(&old, &new).await?;
/// assert_eq!(std::fs::read(&new)?, b"contents");
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_RENAMEAT")]
#[doc(alias = "renameat2")]
pub type AsyncRename<'a> = Op<Rename<'a>>;

/// The operation of [`AsyncRename`].
pub struct Rename<'a> {
    old: PathAt<'a>,
    new: PathAt<'a>,
    args: Args,
}

// SAFETY: 1. The arguments are a field that nothing else borrows; their pointers lead to the two
// paths, which lie in the value or in heap blocks that it owns, and are only read. 2. Both
// directories are held. 3. A held source names its file without its borrow. 4. The result brings
// nothing.
unsafe impl Operation for Rename<'_> {
    type Output = io::Result<()>;
    const CODE: OpCode = OpCode::Rename;

    fn prepare(&mut self) -> ControlFlow<i32> {
        self.old.hold()?;
        self.new.hold()
    }
    fn request(&mut self) -> Request {
        self.args.dirs = [self.old.dir(), self.new.dir()];
        [self.args.ptrs[0], self.args.ptrs[1]] = [self.old.as_arg(), self.new.as_arg()];
        plain(&calls::fs::RENAME, &mut self.args)
    }
    fn finish(self, result: i32) -> Self::Output {
        io_result(result).map(drop)
    }
}

impl<'a> Op<Rename<'a>> {
    /// Renames `old` to `new`.
    #[track_caller]
    pub fn new(old: impl AsRef<Path>, new: impl AsRef<Path>) -> Self {
        let (old, new) = (PathAt::new(None, old.as_ref()), PathAt::new(None, new.as_ref()));
        Op::of(Rename { old, new, args: Args::NONE })
    }

    /// Renames `old` to `new`, which start from open directories if they are relative. `flags` is
    /// 0, or on Linux `RENAME_NOREPLACE` or `RENAME_EXCHANGE`; elsewhere flags are `EINVAL`.
    #[track_caller]
    pub fn at(
        old_dir: impl Into<Source<'a>>,
        old: impl AsRef<Path>,
        new_dir: impl Into<Source<'a>>,
        new: impl AsRef<Path>,
        flags: u32,
    ) -> Self {
        Op::of(Rename {
            old: PathAt::new(Some(old_dir.into()), old.as_ref()),
            new: PathAt::new(Some(new_dir.into()), new.as_ref()),
            args: Args { words: [flags.into(), 0, 0, 0], ..Args::NONE },
        })
    }
}
