//! Files, with std's names.
//!
//! Reading and writing name an offset and take `&self`, so many can be under way at once on one
//! file. A [`File`] is `Send` while nothing is in flight on it. Dropping it closes it without
//! waiting; [`File::close`] tells what the file system has to say.

mod dir;
mod file;
mod options;

pub use crate::metadata::{FileType, Metadata};
pub use dir::{create_dir, remove_dir, remove_file, rename};
pub use file::File;
pub use options::OpenOptions;

use std::io;
use std::path::Path;

use crate::op::AsyncStatx;

/// Metadata of the file at `path`, symbolic links followed.
///
/// # Errors
/// What `statx(2)` reports, such as `NotFound`.
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
pub async fn metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    AsyncStatx::path(path).await
}

/// Metadata of what is at `path` itself, even if it is a symbolic link.
///
/// # Errors
/// What `statx(2)` reports, such as `NotFound`.
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
pub async fn symlink_metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    AsyncStatx::link(path).await
}
