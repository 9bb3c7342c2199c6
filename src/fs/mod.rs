//! Files and their metadata, with std's names.
//!
//! Reading and writing take an offset and `&self`, so many operations can be in flight at once on
//! one file. A [`File`] is `Send` while nothing is in flight on it. Dropping it closes it without
//! waiting; [`File::close`] also reports the error of closing it.

mod dir;
mod file;
mod options;

pub use crate::metadata::{FileType, Metadata};
pub use dir::*;
pub use file::File;
pub use options::OpenOptions;

use std::io;
use std::path::Path;

use crate::op::AsyncStatx;

/// Returns the metadata of the file at `path`; follows symbolic links.
///
/// # Errors
/// The error of `statx(2)`, such as `NotFound`; `InvalidInput` for a path with a NUL byte.
///
/// # Examples
/// ```
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// assert!(corio::fs::metadata("src").await?.is_dir());
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "stat")]
pub async fn metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    AsyncStatx::path(path).await
}

/// Returns the metadata of `path` itself: does not follow a symbolic link.
///
/// # Errors
/// The error of `statx(2)`, such as `NotFound`; `InvalidInput` for a path with a NUL byte.
///
/// # Examples
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let link = dir.path().join("link");
/// std::os::unix::fs::symlink("anywhere", &link)?;
/// assert!(corio::fs::symlink_metadata(&link).await?.is_symlink());
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "lstat")]
pub async fn symlink_metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    AsyncStatx::link(path).await
}
