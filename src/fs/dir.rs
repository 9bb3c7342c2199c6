//! Functions that create, remove and rename files and directories.

use std::path::Path;

#[cfg(unix)]
use crate::op::AsyncSymlink;
use crate::op::{AsyncLink, AsyncMkdir, AsyncRename, AsyncUnlink};
use crate::os;

/// Creates an empty directory, whose parent must exist.
///
/// # Errors
/// What `mkdir(2)` reports, such as `AlreadyExists`; `InvalidInput` for a path with a NUL byte.
///
/// # Examples
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let path = dir.path().join("new");
/// corio::fs::create_dir(&path).await?;
/// assert!(path.is_dir());
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "mkdir")]
#[track_caller]
pub fn create_dir(path: impl AsRef<Path>) -> AsyncMkdir<'static> {
    AsyncMkdir::new(path, 0o777)
}

/// Removes a file: its name now, its contents when the last open handle is closed.
///
/// # Errors
/// What `unlink(2)` reports, such as `NotFound`, or `IsADirectory` for a directory.
///
/// # Examples
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let path = dir.path().join("file");
/// std::fs::write(&path, "contents")?;
/// corio::fs::remove_file(&path).await?;
/// assert!(!path.exists());
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "unlink")]
#[track_caller]
pub fn remove_file(path: impl AsRef<Path>) -> AsyncUnlink<'static> {
    AsyncUnlink::new(path, 0)
}

/// Removes an empty directory.
///
/// # Errors
/// What `rmdir(2)` reports, such as `DirectoryNotEmpty`.
///
/// # Examples
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let path = dir.path().join("empty");
/// corio::fs::create_dir(&path).await?;
/// corio::fs::remove_dir(&path).await?;
/// assert!(!path.exists());
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "rmdir")]
#[track_caller]
pub fn remove_dir(path: impl AsRef<Path>) -> AsyncUnlink<'static> {
    AsyncUnlink::new(path, os::AT_REMOVEDIR)
}

/// Renames a file or directory; replaces a file that has the new name.
///
/// # Errors
/// What `rename(2)` reports, such as `NotFound`, or `CrossesDevices` between file systems.
///
/// # Examples
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let (old, new) = (dir.path().join("old"), dir.path().join("new"));
/// std::fs::write(&old, "contents")?;
/// corio::fs::rename(&old, &new).await?;
/// assert_eq!(std::fs::read(&new)?, b"contents");
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[track_caller]
pub fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> AsyncRename<'static> {
    AsyncRename::new(from, to)
}

/// Gives the file `original` the further name `link`, a hard link.
///
/// A symbolic link as `original` is linked itself, not the file that it leads to.
///
/// # Errors
/// What `linkat(2)` reports, such as `AlreadyExists` where `link` exists, `CrossesDevices` between
/// file systems, or `PermissionDenied` for a directory; `InvalidInput` for a path with a NUL byte.
///
/// # Examples
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let (original, link) = (dir.path().join("original"), dir.path().join("link"));
/// std::fs::write(&original, "contents")?;
/// corio::fs::hard_link(&original, &link).await?;
/// assert_eq!(std::fs::read(&link)?, b"contents");
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "link")]
#[track_caller]
pub fn hard_link(original: impl AsRef<Path>, link: impl AsRef<Path>) -> AsyncLink<'static> {
    AsyncLink::new(original, link)
}

/// Creates the symbolic link `link`, which holds the path `original`. Unix only.
///
/// `original` need not exist. A relative one starts from the link's directory, not from the current
/// one.
///
/// # Errors
/// What `symlinkat(2)` reports, such as `AlreadyExists` where `link` exists, even as a link that
/// leads nowhere, or `NotFound` where its parent does not; `InvalidInput` for a path with a NUL
/// byte.
///
/// # Examples
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let (original, link) = (dir.path().join("original"), dir.path().join("link"));
/// std::fs::write(&original, "contents")?;
/// corio::fs::symlink(&original, &link).await?;
/// assert_eq!(std::fs::read(&link)?, b"contents");
/// assert_eq!(std::fs::read_link(&link)?, original);
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "soft_link")]
#[cfg(unix)]
#[track_caller]
pub fn symlink(original: impl AsRef<Path>, link: impl AsRef<Path>) -> AsyncSymlink<'static> {
    AsyncSymlink::new(original, link)
}
