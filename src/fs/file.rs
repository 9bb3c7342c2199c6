//! An open file.

use crate::os::{self, AsFd, BorrowedFd, OwnedFd};
#[cfg(unix)]
use crate::os::{AsRawFd, RawFd};
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
#[derive(Debug)]
pub struct File(Descriptor);

impl File {
    /// Opens a file for reading.
    ///
    /// # Errors
    /// What `open(2)` reports; `InvalidInput` for a path with a NUL byte.
    pub async fn open(path: impl AsRef<Path>) -> io::Result<File> {
        OpenOptions::new().read(true).open(path).await
    }

    /// Opens a file for writing: creates it, or empties it if it is there.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub async fn create(path: impl AsRef<Path>) -> io::Result<File> {
        OpenOptions::new().write(true).create(true).truncate(true).open(path).await
    }

    /// With the flags it was opened with.
    pub(super) fn opened(fd: OwnedFd, flags: i32) -> File {
        File(Descriptor::file(fd, os::is_buffered(flags)))
    }

    /// Opening with options.
    pub fn options() -> OpenOptions {
        OpenOptions::new()
    }

    /// Reads from `offset`; 0 bytes: the end of the file.
    #[inline(always)]
    #[track_caller]
    pub fn read_at<B: IoBufMut>(&self, buf: B, offset: u64) -> AsyncRead<'_, B> {
        AsyncRead::new(self, buf, offset)
    }

    /// Writes at `offset`, perhaps only a part of the buffer.
    #[inline(always)]
    #[track_caller]
    pub fn write_at<B: IoBuf>(&self, buf: B, offset: u64) -> AsyncWrite<'_, B> {
        AsyncWrite::new(self, buf, offset)
    }

    /// Reads from `offset` into several buffers.
    #[track_caller]
    pub fn readv_at<B: IoBufsMut>(&self, bufs: B, offset: u64) -> AsyncReadv<'_, B> {
        AsyncReadv::new(self, bufs, offset)
    }

    /// Writes several buffers at `offset`, perhaps only a part of them.
    #[track_caller]
    pub fn writev_at<B: IoBufs>(&self, bufs: B, offset: u64) -> AsyncWritev<'_, B> {
        AsyncWritev::new(self, bufs, offset)
    }

    /// Reads from `offset` until the buffer's whole capacity is filled.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends before; see [`Incomplete`](crate::op::Incomplete).
    #[track_caller]
    pub fn read_exact_at<B: IoBufMut>(&self, buf: B, offset: u64) -> AsyncReadExactAt<'_, B> {
        AsyncReadExactAt::new(self, buf, offset)
    }

    /// Writes the whole buffer at `offset`.
    ///
    /// # Errors
    /// See [`Incomplete`](crate::op::Incomplete) for how far it came.
    #[track_caller]
    pub fn write_all_at<B: IoBuf>(&self, buf: B, offset: u64) -> AsyncWriteAllAt<'_, B> {
        AsyncWriteAllAt::new(self, buf, offset)
    }

    /// Writes data and metadata to the disk. Await writes before: it covers those that have ended.
    #[track_caller]
    pub fn sync_all(&self) -> AsyncFsync<'_> {
        AsyncFsync::new(self)
    }

    /// Writes data to the disk, and what metadata is needed to read it back.
    #[track_caller]
    pub fn sync_data(&self) -> AsyncFdatasync<'_> {
        AsyncFdatasync::new(self)
    }

    /// Makes the file exactly `len` bytes long.
    #[track_caller]
    pub fn set_len(&self, len: u64) -> AsyncFtruncate<'_> {
        AsyncFtruncate::new(self, len)
    }

    /// Reserves room on the disk for `len` bytes from `offset`; the file grows to hold them.
    #[track_caller]
    pub fn allocate(&self, offset: u64, len: u64) -> AsyncFallocate<'_> {
        AsyncFallocate::new(self, 0, offset, len)
    }

    /// The file's metadata.
    ///
    /// # Errors
    /// What `statx(2)` reports.
    pub async fn metadata(&self) -> io::Result<Metadata> {
        AsyncStatx::file(self).await
    }

    /// Closes the file, and reports what the file system has to say about it.
    ///
    /// # Errors
    /// What `close(2)` reports; `ResourceBusy` if an operation on this handle was leaked
    /// (`mem::forget`) while in flight, in which case the fd stays open for ever.
    #[track_caller]
    pub fn close(self) -> AsyncClose {
        AsyncClose::handle(self.0)
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

    /// Gives the fd away; `ResourceBusy` if an operation was leaked in flight.
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
