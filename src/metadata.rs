//! File metadata.

use std::fmt;
use std::io;
use std::time::{Duration, SystemTime};

use crate::os::{self, Stat, StatParts, Time};

/// The metadata of a file, with the methods of `std::fs::Metadata`.
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

/// The type of a file.
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

    /// Returns the file's length in bytes.
    ///
    /// # Examples
    /// ```
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let metadata = corio::fs::metadata("Cargo.toml").await?;
    /// assert!(metadata.len() > 0);
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u64 {
        self.0.size()
    }

    /// Returns the type of the file.
    ///
    /// # Examples
    /// ```
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let metadata = corio::fs::metadata("Cargo.toml").await?;
    /// assert_eq!(metadata.file_type(), corio::fs::FileType::File);
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn file_type(&self) -> FileType {
        match self.mode() & os::S_IFMT {
            os::S_IFREG => FileType::File,
            os::S_IFDIR => FileType::Dir,
            os::S_IFLNK => FileType::Symlink,
            _ => FileType::Other,
        }
    }

    /// Returns `true` for a regular file.
    ///
    /// # Examples
    /// ```
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let metadata = corio::fs::metadata("Cargo.toml").await?;
    /// assert!(metadata.is_file());
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_file(&self) -> bool {
        self.file_type() == FileType::File
    }

    /// Returns `true` for a directory.
    ///
    /// # Examples
    /// ```
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let metadata = corio::fs::metadata("Cargo.toml").await?;
    /// assert!(!metadata.is_dir());
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_dir(&self) -> bool {
        self.file_type() == FileType::Dir
    }

    /// Returns `true` for a symbolic link, which only
    /// [`symlink_metadata`](crate::fs::symlink_metadata) finds.
    ///
    /// # Examples
    /// ```
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let metadata = corio::fs::metadata("Cargo.toml").await?;
    /// assert!(!metadata.is_symlink());
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_symlink(&self) -> bool {
        self.file_type() == FileType::Symlink
    }

    /// Returns the type and the permissions, as `st_mode` of `stat(2)`.
    ///
    /// # Examples
    /// ```
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let metadata = corio::fs::metadata("Cargo.toml").await?;
    /// println!("{:o}", metadata.mode() & 0o777);
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn mode(&self) -> u32 {
        self.0.mode()
    }

    /// Returns the number of the file's inode, unique within its file system.
    ///
    /// # Examples
    /// ```
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let metadata = corio::fs::metadata("Cargo.toml").await?;
    /// assert_ne!(metadata.ino(), 0);
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(unix)]
    pub fn ino(&self) -> u64 {
        self.0.ino()
    }

    /// Returns the number of the device that holds the file, as `makedev(3)` composes it.
    ///
    /// # Examples
    /// ```
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let metadata = corio::fs::metadata("Cargo.toml").await?;
    /// assert_eq!(metadata.dev(), corio::fs::metadata("src").await?.dev());
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(unix)]
    pub fn dev(&self) -> u64 {
        self.0.dev()
    }

    /// Returns the number of hard links to the file.
    ///
    /// # Examples
    /// ```
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let metadata = corio::fs::metadata("Cargo.toml").await?;
    /// assert!(metadata.nlink() >= 1);
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(unix)]
    pub fn nlink(&self) -> u64 {
        self.0.nlink()
    }

    /// Returns the time of the last modification of the contents (`mtime`).
    ///
    /// # Errors
    /// `Unsupported` where the file system does not record it; `InvalidData` for a time that
    /// `SystemTime` can't represent.
    ///
    /// # Examples
    /// ```
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let metadata = corio::fs::metadata("Cargo.toml").await?;
    /// println!("{:?} ago", metadata.modified()?.elapsed());
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn modified(&self) -> io::Result<SystemTime> {
        system_time(self.0.modified())
    }

    /// Returns the time of the last access (`atime`), which file systems may record lazily.
    ///
    /// # Errors
    /// As for [`modified`](Self::modified).
    ///
    /// # Examples
    /// ```
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let metadata = corio::fs::metadata("Cargo.toml").await?;
    /// println!("{:?} ago", metadata.accessed()?.elapsed());
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn accessed(&self) -> io::Result<SystemTime> {
        system_time(self.0.accessed())
    }

    /// Returns the time of the file's creation (`btime`).
    ///
    /// # Errors
    /// As for [`modified`](Self::modified).
    ///
    /// # Examples
    /// ```
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let metadata = corio::fs::metadata("Cargo.toml").await?;
    /// println!("{:?}", metadata.created().ok());
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
