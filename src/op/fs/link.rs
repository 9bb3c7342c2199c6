//! Giving a file a further name.

use std::path::Path;

use crate::driver::calls;
use crate::op::call::{Plain, plain_call};
use crate::op::future::Op;
use crate::op::path::PathAt;
use crate::op::source::Source;

/// Gives a file a further name, a hard link; replaces nothing.
/// [`linkat(2)`](https://man7.org/linux/man-pages/man2/link.2.html).
///
/// A cancelled link may have been made all the same: it is waited for, and its result tells.
///
/// Kernel: `IORING_OP_LINKAT` since Linux 5.15.
///
/// # Examples
/// ```
/// use corio::op::AsyncLink;
/// # let dir = tempfile::tempdir()?;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let (original, link) = (dir.path().join("original"), dir.path().join("link"));
/// std::fs::write(&original, "contents")?;
/// AsyncLink::new(&original, &link).await?;
/// assert_eq!(std::fs::read(&link)?, b"contents");
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_LINKAT")]
#[doc(alias = "linkat")]
#[doc(alias = "hard_link")]
pub type AsyncLink<'a> = Op<Plain<Link, [PathAt<'a>; 2]>>;

plain_call! {
    /// The system call of [`AsyncLink`].
    Link = calls::fs::LINK
}

impl<'a> AsyncLink<'a> {
    /// Gives the file `original` the further name `link`. A symbolic link is linked itself.
    #[track_caller]
    pub fn new(original: impl AsRef<Path>, link: impl AsRef<Path>) -> Self {
        let original = PathAt::new(None, original.as_ref());
        Op::plain([original, PathAt::new(None, link.as_ref())], [])
    }

    /// Gives the file `original` the further name `link`; both start from open directories if they
    /// are relative. `flags` is 0, or `AT_SYMLINK_FOLLOW` to link the file that a symbolic link
    /// leads to; on Windows flags are `EINVAL`.
    #[track_caller]
    pub fn at(
        original_dir: impl Into<Source<'a>>,
        original: impl AsRef<Path>,
        link_dir: impl Into<Source<'a>>,
        link: impl AsRef<Path>,
        flags: i32,
    ) -> Self {
        let original = PathAt::new(Some(original_dir.into()), original.as_ref());
        let link = PathAt::new(Some(link_dir.into()), link.as_ref());
        Op::plain([original, link], [flags as u64])
    }
}
