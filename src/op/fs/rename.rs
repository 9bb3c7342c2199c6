//! Renaming a file or directory.

use std::path::Path;

use crate::driver::calls;
use crate::op::call::{Plain, plain_call};
use crate::op::future::Op;
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
pub type AsyncRename<'a> = Op<Plain<Rename, [PathAt<'a>; 2]>>;

plain_call! {
    /// The system call of [`AsyncRename`].
    Rename = calls::fs::RENAME
}

impl<'a> AsyncRename<'a> {
    /// Renames `old` to `new`.
    #[track_caller]
    pub fn new(old: impl AsRef<Path>, new: impl AsRef<Path>) -> Self {
        Op::plain([PathAt::new(None, old.as_ref()), PathAt::new(None, new.as_ref())], [])
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
        let old = PathAt::new(Some(old_dir.into()), old.as_ref());
        let new = PathAt::new(Some(new_dir.into()), new.as_ref());
        Op::plain([old, new], [flags.into()])
    }
}
