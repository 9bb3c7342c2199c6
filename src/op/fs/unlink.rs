//! Removing a file or directory.

use std::path::Path;

use crate::driver::calls;
use crate::op::call::{Plain, plain_call};
use crate::op::future::Op;
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
pub type AsyncUnlink<'a> = Op<Plain<Unlink, PathAt<'a>>>;

plain_call! {
    /// The system call of [`AsyncUnlink`].
    Unlink = calls::fs::UNLINK
}

impl<'a> AsyncUnlink<'a> {
    #[track_caller]
    fn make(path: PathAt<'a>, flags: i32) -> Self {
        Op::plain(path, [flags as u64])
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
