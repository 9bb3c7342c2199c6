//! Creating a directory.

use std::path::Path;

use crate::driver::calls;
use crate::op::call::{Plain, plain_call};
use crate::op::future::Op;
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
pub type AsyncMkdir<'a> = Op<Plain<Mkdir, PathAt<'a>>>;

plain_call! {
    /// The system call of [`AsyncMkdir`].
    Mkdir = calls::fs::MKDIR
}

impl<'a> AsyncMkdir<'a> {
    #[track_caller]
    fn make(path: PathAt<'a>, mode: u32) -> Self {
        Op::plain(path, [mode.into()])
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
