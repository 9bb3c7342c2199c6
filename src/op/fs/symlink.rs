//! Making a symbolic link.

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
pub type AsyncSymlink<'a> = Op<Symlink<'a>>;

/// The operation of [`AsyncSymlink`].
pub struct Symlink<'a> {
    /// What the link holds; no directory belongs to it.
    original: PathAt<'a>,
    link: PathAt<'a>,
    args: Args,
}

// SAFETY: 1. The arguments are a field that nothing else borrows; their pointers lead to the two
// paths, which lie in the value or in heap blocks that it owns, and are only read. 2. The link's
// directory is held; the call takes no other. 3. A held source names its file without its borrow.
// 4. The result brings nothing.
unsafe impl Operation for Symlink<'_> {
    type Output = io::Result<()>;
    const CODE: OpCode = OpCode::Symlink;

    fn prepare(&mut self) -> ControlFlow<i32> {
        self.original.hold()?;
        self.link.hold()
    }
    fn request(&mut self) -> Request {
        self.args.dirs[1] = self.link.dir();
        [self.args.ptrs[0], self.args.ptrs[1]] = [self.original.as_arg(), self.link.as_arg()];
        plain(&calls::fs::SYMLINK, &mut self.args)
    }
    fn finish(self, result: i32) -> Self::Output {
        io_result(result).map(drop)
    }
}

impl<'a> Op<Symlink<'a>> {
    #[track_caller]
    fn make(original: &Path, link: PathAt<'a>) -> Self {
        Op::of(Symlink { original: PathAt::new(None, original), link, args: Args::NONE })
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
