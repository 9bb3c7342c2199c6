//! Making a symbolic link.

use std::path::Path;

use crate::driver::calls;
use crate::op::call::{Plain, plain_call};
use crate::op::future::Op;
use crate::op::path::PathAt;
use crate::op::source::Source;

/// Creates a symbolic link; replaces nothing.
/// [`symlinkat(2)`](https://man7.org/linux/man-pages/man2/symlink.2.html).
///
/// The link holds the path `original` as it was given. Nothing need exist there; a relative path
/// starts from the link's directory when the link is followed. On Windows the operation is
/// `Unsupported`: links there have a kind, of a file or of a directory, and the call names none.
///
/// A cancelled link may have been made all the same: it is waited for, and its result tells.
///
/// Kernel: `IORING_OP_SYMLINKAT` since Linux 5.15.
///
/// # Examples
/// ```
/// use corio::op::AsyncSymlink;
/// # let dir = tempfile::tempdir()?;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let link = dir.path().join("link");
/// std::fs::write(dir.path().join("original"), "contents")?;
/// AsyncSymlink::new("original", &link).await?;
/// assert_eq!(std::fs::read(&link)?, b"contents");
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_SYMLINKAT")]
#[doc(alias = "symlinkat")]
#[doc(alias = "soft_link")]
pub type AsyncSymlink<'a> = Op<Plain<Symlink, [PathAt<'a>; 2]>>;

plain_call! {
    /// The system call of [`AsyncSymlink`].
    Symlink = calls::fs::SYMLINK
}

impl<'a> AsyncSymlink<'a> {
    #[track_caller]
    fn make(original: &Path, link: PathAt<'a>) -> Self {
        // No directory belongs to what the link holds.
        Op::plain([PathAt::new(None, original), link], [])
    }

    /// Creates the symbolic link `link`, which holds the path `original`.
    #[track_caller]
    pub fn new(original: impl AsRef<Path>, link: impl AsRef<Path>) -> Self {
        Self::make(original.as_ref(), PathAt::new(None, link.as_ref()))
    }

    /// Creates the symbolic link `link`, which starts from the open directory `link_dir` if it is
    /// relative, and holds the path `original`.
    #[track_caller]
    pub fn at(
        original: impl AsRef<Path>,
        link_dir: impl Into<Source<'a>>,
        link: impl AsRef<Path>,
    ) -> Self {
        Self::make(original.as_ref(), PathAt::new(Some(link_dir.into()), link.as_ref()))
    }
}
