//! Metadata of a file.

// # Why this file has `unsafe`
// It signs the contract of `Operation` and reads what the kernel wrote.

use std::io;
use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::path::Path;

use crate::driver::{OpCode, Request};
use crate::metadata::Metadata;
use crate::op::future::{Op, Operation, io_result};
use crate::op::path::PathAt;
use crate::op::source::Source;
use crate::os;

/// Reads a file's metadata. [`statx(2)`](https://man7.org/linux/man-pages/man2/statx.2.html).
///
/// # Examples
/// ```
/// use corio::op::AsyncStatx;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let stat = AsyncStatx::path("Cargo.toml").await?;
/// assert_eq!(stat.len(), std::fs::metadata("Cargo.toml")?.len());
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_STATX")]
#[doc(alias = "fstat")]
pub type AsyncStatx<'a> = Op<Statx<'a>>;

/// The operation of [`AsyncStatx`].
pub struct Statx<'a> {
    path: PathAt<'a>,
    flags: i32,
    /// Written by the kernel.
    stat: MaybeUninit<os::Stat>,
}

// SAFETY: 1. The path lies in the value, or in a heap block that it owns, and is only read; the
// place for the answer is a field that nothing else borrows. 2. The directory or file is held. 3. A
// held source names its file without its borrow. 4. `stat` is read only after success.
unsafe impl Operation for Statx<'_> {
    type Output = io::Result<Metadata>;
    const CODE: OpCode = OpCode::Statx;

    fn prepare(&mut self) -> ControlFlow<i32> {
        self.path.hold()
    }
    fn request(&mut self) -> Request {
        Request::Statx {
            dir: self.path.dir(),
            path: self.path.as_ptr(),
            flags: self.flags,
            out: self.stat.as_mut_ptr(),
        }
    }
    fn finish(self, result: i32) -> Self::Output {
        // SAFETY: `make` zeroed it, and a call that succeeds writes the whole structure over that;
        // zero is valid for every field.
        io_result(result).map(|_| Metadata::new(unsafe { self.stat.assume_init() }))
    }
}

impl<'a> Op<Statx<'a>> {
    #[track_caller]
    fn make(dir: Option<Source<'a>>, path: &Path, flags: i32) -> Self {
        Op::of(Statx { path: PathAt::new(dir, path), flags, stat: MaybeUninit::zeroed() })
    }

    /// Reads the metadata of the file at `path`; follows symbolic links.
    #[track_caller]
    pub fn path(path: impl AsRef<Path>) -> Self {
        Self::make(None, path.as_ref(), 0)
    }

    /// Reads the metadata of `path` itself: does not follow a symbolic link.
    #[track_caller]
    pub fn link(path: impl AsRef<Path>) -> Self {
        Self::make(None, path.as_ref(), os::AT_SYMLINK_NOFOLLOW)
    }

    /// Reads the metadata of an open file.
    #[track_caller]
    pub fn file(file: impl Into<Source<'a>>) -> Self {
        Self::make(Some(file.into()), Path::new(""), os::AT_EMPTY_PATH)
    }
}
