//! An open file.

use crate::os::{self, AsFd, BorrowedFd, OwnedFd};
#[cfg(unix)]
use crate::os::{AsRawFd, RawFd};
use std::fmt;
use std::io;
use std::path::Path;

use super::{Metadata, OpenOptions};
use crate::buf::{IoBuf, IoBufMut, IoBufs, IoBufsMut};
use crate::op::{
    AsyncClose, AsyncFallocate, AsyncFdatasync, AsyncFsync, AsyncFtruncate, AsyncRead,
    AsyncReadExactAt, AsyncReadv, AsyncStatx, AsyncWrite, AsyncWriteAllAt, AsyncWritev, Descriptor,
    Source,
};

/// An open file.
///
/// # Examples
/// ```
/// use corio::fs::File;
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("greeting");
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let file = File::create(&path).await?;
/// file.write_all_at("hello", 0).await.0?;
/// file.sync_all().await?;
/// file.close().await?;
///
/// let file = File::open(&path).await?;
/// let (result, buf) = file.read_at(Vec::with_capacity(64), 0).await;
/// assert_eq!((result?, &buf[..]), (5, &b"hello"[..]));
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct File(Descriptor);

impl File {
    /// Opens a file for reading.
    ///
    /// # Errors
    /// The error of `open(2)`, such as `NotFound`; `InvalidInput` for a path with a NUL byte.
    ///
    /// # Examples
    /// See [`File`].
    pub async fn open(path: impl AsRef<Path>) -> io::Result<File> {
        OpenOptions::new().read(true).open(path).await
    }

    /// Opens a file for writing: creates it, or empties it if it exists.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    ///
    /// # Examples
    /// See [`File`].
    pub async fn create(path: impl AsRef<Path>) -> io::Result<File> {
        OpenOptions::new().write(true).create(true).truncate(true).open(path).await
    }

    /// Wraps an fd, given the flags it was opened with.
    pub(super) fn opened(fd: OwnedFd, flags: i32) -> File {
        File(Descriptor::file(fd, os::is_buffered(flags)))
    }

    /// Returns options for opening a file; the same as [`OpenOptions::new`].
    ///
    /// # Examples
    /// ```
    /// use corio::fs::File;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("data");
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// File::options().append(true).create(true).open(&path).await?;
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn options() -> OpenOptions {
        OpenOptions::new()
    }

    /// Reads from `offset` into `buf`, from its start, up to its capacity; 0 bytes: the end of the
    /// file.
    ///
    /// # Errors
    /// The error of `pread(2)`; `InvalidInput` if `buf` has no room.
    ///
    /// # Examples
    /// ```
    /// use corio::fs::File;
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let file = File::open("Cargo.toml").await?;
    /// let (result, buf) = file.read_at(Vec::with_capacity(9), 0).await;
    /// assert_eq!((result?, &buf[..]), (9, &b"[package]"[..]));
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "pread")]
    #[doc(alias = "read")]
    #[inline(always)]
    #[track_caller]
    pub fn read_at<B: IoBufMut>(&self, buf: B, offset: u64) -> AsyncRead<'_, B> {
        AsyncRead::new(self, buf, offset)
    }

    /// Writes at `offset`, and returns how many bytes were written, which may be fewer than there
    /// are.
    ///
    /// # Errors
    /// The error of `pwrite(2)`, such as `StorageFull`.
    ///
    /// # Examples
    /// ```
    /// use corio::fs::File;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("data");
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let file = File::create(&path).await?;
    /// let (result, _buf) = file.write_at("hello", 0).await;
    /// assert_eq!(result?, 5);
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "pwrite")]
    #[doc(alias = "write")]
    #[inline(always)]
    #[track_caller]
    pub fn write_at<B: IoBuf>(&self, buf: B, offset: u64) -> AsyncWrite<'_, B> {
        AsyncWrite::new(self, buf, offset)
    }

    /// Reads from `offset` into several buffers, one after the other.
    ///
    /// # Errors
    /// The error of `preadv(2)`; `InvalidInput` if the buffers have no room.
    ///
    /// # Examples
    /// ```
    /// use corio::fs::File;
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let file = File::open("Cargo.toml").await?;
    /// let (result, [bracket, word]) = file.readv_at([[0; 1], [0; 1]], 0).await;
    /// assert_eq!((result?, bracket, word), (2, *b"[", *b"p"));
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "preadv")]
    #[doc(alias = "read_vectored")]
    #[track_caller]
    pub fn readv_at<B: IoBufsMut>(&self, bufs: B, offset: u64) -> AsyncReadv<'_, B> {
        AsyncReadv::new(self, bufs, offset)
    }

    /// Writes several buffers at `offset`, and returns how many bytes were written, which may be
    /// fewer than there are.
    ///
    /// # Errors
    /// The error of `pwritev(2)`, such as `StorageFull`.
    ///
    /// # Examples
    /// ```
    /// use corio::fs::File;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("data");
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let file = File::create(&path).await?;
    /// let (result, _bufs) = file.writev_at(["head, ", "body"], 0).await;
    /// assert_eq!(result?, 10);
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "pwritev")]
    #[doc(alias = "write_vectored")]
    #[track_caller]
    pub fn writev_at<B: IoBufs>(&self, bufs: B, offset: u64) -> AsyncWritev<'_, B> {
        AsyncWritev::new(self, bufs, offset)
    }

    /// Reads from `offset` until the buffer's whole capacity is filled; for `n` bytes, pass
    /// `buf.slice(..n)`.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file ends before; otherwise the error of `pread(2)`.
    /// [`Incomplete`](crate::op::Incomplete) has the number of bytes that were read.
    ///
    /// # Examples
    /// ```
    /// use corio::fs::File;
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let file = File::open("Cargo.toml").await?;
    /// let (result, word) = file.read_exact_at([0; 7], 1).await;
    /// result?;
    /// assert_eq!(&word, b"package");
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "read_exact")]
    #[track_caller]
    pub fn read_exact_at<B: IoBufMut>(&self, buf: B, offset: u64) -> AsyncReadExactAt<'_, B> {
        AsyncReadExactAt::new(self, buf, offset)
    }

    /// Writes the whole buffer at `offset`.
    ///
    /// # Errors
    /// The error of `pwrite(2)`, such as `StorageFull`.
    /// [`Incomplete`](crate::op::Incomplete) has the number of bytes that were written.
    ///
    /// # Examples
    /// ```
    /// use corio::fs::File;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("data");
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let file = File::create(&path).await?;
    /// file.write_all_at(vec![7; 100_000], 0).await.0?;
    /// assert_eq!(file.metadata().await?.len(), 100_000);
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "write_all")]
    #[track_caller]
    pub fn write_all_at<B: IoBuf>(&self, buf: B, offset: u64) -> AsyncWriteAllAt<'_, B> {
        AsyncWriteAllAt::new(self, buf, offset)
    }

    /// Flushes data and metadata to the disk. Await writes before: only those that have completed
    /// are covered.
    ///
    /// # Errors
    /// The error of `fsync(2)`. Data that it reports as lost is not written by a later call.
    ///
    /// # Examples
    /// ```
    /// use corio::fs::File;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("data");
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let file = File::create(&path).await?;
    /// file.write_all_at("safe", 0).await.0?;
    /// file.sync_all().await?;
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "fsync")]
    #[track_caller]
    pub fn sync_all(&self) -> AsyncFsync<'_> {
        AsyncFsync::new(self)
    }

    /// Flushes data to the disk, with the metadata needed to read it back, such as the length.
    ///
    /// # Errors
    /// The error of `fdatasync(2)`.
    ///
    /// # Examples
    /// ```
    /// use corio::fs::File;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("data");
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let file = File::create(&path).await?;
    /// file.write_all_at("safe", 0).await.0?;
    /// file.sync_data().await?;
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "fdatasync")]
    #[track_caller]
    pub fn sync_data(&self) -> AsyncFdatasync<'_> {
        AsyncFdatasync::new(self)
    }

    /// Truncates or extends the file to `len` bytes; what is added reads as zeros.
    ///
    /// # Errors
    /// The error of `ftruncate(2)`, such as `InvalidInput` for a file opened for reading.
    ///
    /// # Examples
    /// ```
    /// use corio::fs::File;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("data");
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let file = File::create(&path).await?;
    /// file.set_len(4096).await?;
    /// assert_eq!(file.metadata().await?.len(), 4096);
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "ftruncate")]
    #[track_caller]
    pub fn set_len(&self, len: u64) -> AsyncFtruncate<'_> {
        AsyncFtruncate::new(self, len)
    }

    /// Reserves disk space for `len` bytes from `offset`; the file grows to hold them.
    ///
    /// # Errors
    /// The error of `fallocate(2)`, such as `StorageFull`, or `Unsupported` for a file system
    /// without it.
    ///
    /// # Examples
    /// ```no_run
    /// use corio::fs::File;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("data");
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let file = File::create(&path).await?;
    /// file.allocate(0, 4096).await?;
    /// assert_eq!(file.metadata().await?.len(), 4096);
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "fallocate")]
    #[track_caller]
    pub fn allocate(&self, offset: u64, len: u64) -> AsyncFallocate<'_> {
        AsyncFallocate::new(self, 0, offset, len)
    }

    /// Returns the file's metadata.
    ///
    /// # Errors
    /// The error of `statx(2)`.
    ///
    /// # Examples
    /// ```
    /// use corio::fs::File;
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let file = File::open("Cargo.toml").await?;
    /// assert!(file.metadata().await?.is_file());
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "fstat")]
    pub async fn metadata(&self) -> io::Result<Metadata> {
        AsyncStatx::file(self).await
    }

    /// Closes the file, and returns the file system's error, if any.
    ///
    /// # Errors
    /// What `close(2)` reports; `ResourceBusy` if an operation on this handle was leaked
    /// (`mem::forget`) while in flight, in which case the fd stays open for ever.
    #[track_caller]
    pub fn close(self) -> AsyncClose {
        AsyncClose::handle(self.0)
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("fd", &self.0.raw()).finish()
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(unix)]
impl AsRawFd for File {
    fn as_raw_fd(&self) -> RawFd {
        self.0.raw()
    }
}

impl From<OwnedFd> for File {
    fn from(fd: OwnedFd) -> Self {
        let flags = os::open_flags(fd.as_fd());
        File::opened(fd, flags)
    }
}

impl From<std::fs::File> for File {
    fn from(file: std::fs::File) -> Self {
        OwnedFd::from(file).into()
    }
}

impl TryFrom<File> for OwnedFd {
    type Error = io::Error;

    /// Gives the fd away. Fails with `ResourceBusy` if an operation on the file was leaked
    /// (`mem::forget`) while in flight.
    fn try_from(file: File) -> io::Result<Self> {
        Ok(file.0.into_fd()?)
    }
}

impl<'a> From<&'a File> for Source<'a> {
    #[inline(always)]
    fn from(file: &'a File) -> Self {
        Source::from(&file.0)
    }
}
