//! Writing a file to the disk.

use crate::driver::calls;
use crate::op::call::{Plain, plain_call};
use crate::op::future::Op;
use crate::op::source::Source;

/// Writes a file's data and metadata to the disk.
/// [`fsync(2)`](https://man7.org/linux/man-pages/man2/fsync.2.html).
///
/// Covers writes that have *completed* before it starts; await them first.
///
/// # Examples
/// ```
/// use corio::op::{AsyncFdatasync, AsyncFsync};
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let file = tempfile::tempfile()?;
/// AsyncFsync::new(&file).await?;
/// AsyncFdatasync::new(&file).await?;
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_FSYNC")]
#[doc(alias = "sync_all")]
pub type AsyncFsync<'a> = Op<Plain<Fsync, Source<'a>>>;

/// Writes a file's data to the disk, and as much metadata as is needed to read it back.
/// [`fdatasync(2)`](https://man7.org/linux/man-pages/man2/fdatasync.2.html).
///
/// # Examples
/// See [`AsyncFsync`].
#[doc(alias = "IORING_OP_FSYNC")]
#[doc(alias = "IORING_FSYNC_DATASYNC")]
#[doc(alias = "sync_data")]
pub type AsyncFdatasync<'a> = Op<Plain<Fdatasync, Source<'a>>>;

plain_call! {
    /// The system call of [`AsyncFsync`].
    Fsync = calls::fs::FSYNC
}

plain_call! {
    /// The system call of [`AsyncFdatasync`].
    Fdatasync = calls::fs::FDATASYNC
}

impl<'a> AsyncFsync<'a> {
    /// Syncs `source`.
    #[track_caller]
    pub fn new(source: impl Into<Source<'a>>) -> Self {
        Op::plain(source.into(), [])
    }
}

impl<'a> AsyncFdatasync<'a> {
    /// Syncs the data of `source`.
    #[track_caller]
    pub fn new(source: impl Into<Source<'a>>) -> Self {
        Op::plain(source.into(), [])
    }
}
