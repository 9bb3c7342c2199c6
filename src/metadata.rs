//! What is known about a file besides its contents.

use std::fmt;
use std::io;
use std::time::{Duration, SystemTime};

use crate::os::{self, Stat, StatParts, Time};

/// A file's metadata, as `std::fs::Metadata` has it.
///
/// # Examples
/// ```
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let ours = corio::fs::metadata("Cargo.toml").await?;
/// let theirs = std::fs::metadata("Cargo.toml")?;
/// assert_eq!((ours.len(), ours.modified()?), (theirs.len(), theirs.modified()?));
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Metadata(Stat);

/// The kind of a file.
///
/// # Examples
/// See [`Metadata::file_type`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileType {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// Anything else: a device, a pipe, a socket.
    Other,
}

impl Metadata {
    pub(crate) fn new(stat: Stat) -> Self {
        Metadata(stat)
    }

    /// The length in bytes.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u64 {
        self.0.size()
    }

    /// The kind of file.
    pub fn file_type(&self) -> FileType {
        match self.mode() & os::S_IFMT {
            os::S_IFREG => FileType::File,
            os::S_IFDIR => FileType::Dir,
            os::S_IFLNK => FileType::Symlink,
            _ => FileType::Other,
        }
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.file_type() == FileType::File
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.file_type() == FileType::Dir
    }

    /// Whether it is a symbolic link.
    pub fn is_symlink(&self) -> bool {
        self.file_type() == FileType::Symlink
    }

    /// Kind and permissions, as in `stat(2)`.
    pub fn mode(&self) -> u32 {
        self.0.mode()
    }

    /// The number of the file within its file system.
    #[cfg(unix)]
    pub fn ino(&self) -> u64 {
        self.0.ino()
    }

    /// The device that holds it, as `makedev(3)` numbers it.
    #[cfg(unix)]
    pub fn dev(&self) -> u64 {
        self.0.dev()
    }

    /// The number of names it has.
    #[cfg(unix)]
    pub fn nlink(&self) -> u64 {
        self.0.nlink()
    }

    /// When its contents were last changed.
    ///
    /// # Errors
    /// `Unsupported` where the file system does not say.
    pub fn modified(&self) -> io::Result<SystemTime> {
        system_time(self.0.modified())
    }

    /// When it was last read.
    ///
    /// # Errors
    /// As for [`modified`](Self::modified).
    pub fn accessed(&self) -> io::Result<SystemTime> {
        system_time(self.0.accessed())
    }

    /// When it was created.
    ///
    /// # Errors
    /// As for [`modified`](Self::modified).
    pub fn created(&self) -> io::Result<SystemTime> {
        system_time(self.0.created())
    }
}

fn system_time(time: Option<Time>) -> io::Result<SystemTime> {
    let (seconds, nanoseconds) = time.ok_or(io::ErrorKind::Unsupported)?;
    let from_1970 = Duration::from_secs(seconds.unsigned_abs());
    let whole = if seconds >= 0 {
        SystemTime::UNIX_EPOCH.checked_add(from_1970)
    } else {
        SystemTime::UNIX_EPOCH.checked_sub(from_1970)
    };
    whole
        .and_then(|whole| whole.checked_add(Duration::from_nanos(nanoseconds.into())))
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metadata")
            .field("file_type", &self.file_type())
            .field("len", &self.len())
            .field("mode", &format_args!("{:o}", self.mode()))
            .finish_non_exhaustive()
    }
}
