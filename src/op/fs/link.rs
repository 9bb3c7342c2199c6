//! Giving a file a further name.

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
pub type AsyncLink<'a> = Op<Link<'a>>;

/// The operation of [`AsyncLink`].
pub struct Link<'a> {
    original: PathAt<'a>,
    link: PathAt<'a>,
    args: Args,
}

// SAFETY: 1. The arguments are a field that nothing else borrows; their pointers lead to the two
// paths, which lie in the value or in heap blocks that it owns, and are only read. 2. Both
// directories are held. 3. A held source names its file without its borrow. 4. The result brings
// nothing.
unsafe impl Operation for Link<'_> {
    type Output = io::Result<()>;
    const CODE: OpCode = OpCode::Link;

    fn prepare(&mut self) -> ControlFlow<i32> {
        self.original.hold()?;
        self.link.hold()
    }
    fn request(&mut self) -> Request {
        self.args.dirs = [self.original.dir(), self.link.dir()];
        [self.args.ptrs[0], self.args.ptrs[1]] = [self.original.as_arg(), self.link.as_arg()];
        plain(&calls::fs::LINK, &mut self.args)
    }
    fn finish(self, result: i32) -> Self::Output {
        io_result(result).map(drop)
    }
}

impl<'a> Op<Link<'a>> {
    /// Gives the file `original` the further name `link`. A symbolic link is linked itself.
    #[track_caller]
    pub fn new(original: impl AsRef<Path>, link: impl AsRef<Path>) -> Self {
        let original = PathAt::new(None, original.as_ref());
        let link = PathAt::new(None, link.as_ref());
        Op::of(Link { original, link, args: Args::NONE })
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
        Op::of(Link {
            original: PathAt::new(Some(original_dir.into()), original.as_ref()),
            link: PathAt::new(Some(link_dir.into()), link.as_ref()),
            args: Args { words: [flags as u64, 0, 0, 0], ..Args::NONE },
        })
    }
}
