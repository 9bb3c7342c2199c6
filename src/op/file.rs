//! Operations on open files.
//!
//! # Why this file has `unsafe`
//! It tells buffers how much of them the kernel has filled.

use crate::os::{AsRawFd, IntoRawFd, OwnedFd};
use std::io;

use super::future::{Op, Operation, io_result};
use super::source::Source;
use crate::buf::{IoBuf, IoBufMut, IoBufs, IoBufsMut, IoVecs};
use crate::driver::{OpCode, Request};

/// The most bytes that one system call moves, `MAX_RW_COUNT`: longer buffers are used in part.
pub(super) const MAX_LEN: usize = 0x7fff_f000;

#[inline(always)]
pub(super) fn clamp(len: usize) -> u32 {
    len.min(MAX_LEN) as u32
}

/// An offset that means: at the file's own position, and move it; for pipes, terminals and the
/// like it is the only one. A pipe can also be read with [`AsyncRecv`](super::AsyncRecv)'s file
/// sibling at any offset, since it has none.
pub(super) use crate::driver::CURRENT_POSITION;

/// An offset in a request: no file is so long that the one number with another meaning matters,
/// and the kernel refuses its neighbour, too.
#[inline(always)]
pub(super) fn at(offset: u64) -> u64 {
    offset.min(CURRENT_POSITION - 1)
}

macro_rules! held {
    () => {
        #[inline(always)]
        fn prepare(&mut self) -> Result<(), i32> {
            self.source.hold()
        }
    };
}
pub(super) use held;

/// Does nothing, by way of the kernel: for measuring, and for a turn of the loop.
///
/// # Examples
/// ```
/// # let mut context = corio::IoContext::new(8)?;
/// context.block_on(async { corio::op::AsyncNop::new().await })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_NOP")]
pub type AsyncNop = Op<Nop>;

/// See [`AsyncNop`].
#[derive(Debug)]
pub struct Nop(());

impl Operation for Nop {
    type Output = io::Result<()>;
    const CODE: OpCode = OpCode::Nop;

    #[inline(always)]
    fn prepare(&mut self) -> Result<(), i32> {
        Ok(())
    }
    #[inline(always)]
    #[allow(private_interfaces)]
    fn request(&mut self) -> Request {
        Request::Nop
    }
    #[inline(always)]
    fn finish(self, result: i32) -> Self::Output {
        io_result(result).map(drop)
    }
}

impl Op<Nop> {
    /// A no-op.
    #[inline(always)]
    #[track_caller]
    pub fn new() -> Self {
        Op::of(Nop(()))
    }
}

impl Default for Op<Nop> {
    #[track_caller]
    fn default() -> Self {
        Self::new()
    }
}

/// Reads at an offset into one buffer. [`pread(2)`](https://man7.org/linux/man-pages/man2/pread.2.html).
///
/// Gives the number of bytes read, 0 at the end of the file. At most 2,147,479,552 bytes are read
/// at once.
///
/// # Examples
/// ```
/// use corio::op::AsyncRead;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let file = std::fs::File::open("Cargo.toml")?;
/// let (result, buf) = AsyncRead::new(&file, Vec::with_capacity(9), 0).await;
/// assert_eq!((result?, &buf[..]), (9, &b"[package]"[..]));
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_READ")]
#[doc(alias = "pread")]
pub type AsyncRead<'a, B> = Op<Read<'a, B>>;

/// See [`AsyncRead`].
#[derive(Debug)]
pub struct Read<'a, B> {
    source: Source<'a>,
    buf: B,
    offset: u64,
}

impl<B: IoBufMut> Operation for Read<'_, B> {
    type Output = (io::Result<usize>, B);
    const CODE: OpCode = OpCode::Read;

    held!();
    #[inline(always)]
    #[allow(private_interfaces)]
    fn request(&mut self) -> Request {
        let (ptr, len) = (self.buf.buf_mut_ptr(), clamp(self.buf.buf_capacity()));
        Request::Read { fd: self.source.target(), ptr, len, offset: self.offset }
    }
    #[inline(always)]
    fn finish(mut self, result: i32) -> Self::Output {
        filled(&mut self.buf, result);
        (io_result(result), self.buf)
    }
}

/// Tells a buffer what the kernel has written into it.
#[inline(always)]
pub(super) fn filled(buf: &mut impl IoBufMut, result: i32) {
    if result >= 0 {
        filled_by(buf, result as usize);
    }
}

/// The same for a transfer of several steps, which may be longer than any one result can say.
#[inline(always)]
pub(super) fn filled_by(buf: &mut impl IoBufMut, len: usize) {
    // SAFETY: the kernel says it has written that many bytes from the start, and was given no
    // more room than there is.
    unsafe { buf.set_filled(len) };
}

impl<'a, B: IoBufMut> Op<Read<'a, B>> {
    /// Reads from `source` at `offset` bytes from the file's start.
    #[inline(always)]
    #[track_caller]
    pub fn new(source: impl Into<Source<'a>>, buf: B, offset: u64) -> Self {
        Op::of(Read { source: source.into(), buf, offset: at(offset) })
    }

    /// Reads at the file's own position and moves it; the way for pipes and terminals.
    /// [`read(2)`](https://man7.org/linux/man-pages/man2/read.2.html).
    #[track_caller]
    pub fn at_position(source: impl Into<Source<'a>>, buf: B) -> Self {
        Op::of(Read { source: source.into(), buf, offset: CURRENT_POSITION })
    }
}

/// Writes one buffer at an offset. [`pwrite(2)`](https://man7.org/linux/man-pages/man2/pwrite.2.html).
///
/// Gives the number of bytes written, which may be fewer than asked. Writing to a pipe or socket whose
/// reader has gone is the error `EPIPE`, and, as with `write(2)`, also raises `SIGPIPE` in a program
/// that does not ignore it; Rust programs do by default.
///
/// # Examples
/// ```
/// use corio::op::AsyncWrite;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let file = tempfile::tempfile()?;
/// let (result, _buf) = AsyncWrite::new(&file, "hello", 0).await;
/// assert_eq!(result?, 5);
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_WRITE")]
#[doc(alias = "pwrite")]
pub type AsyncWrite<'a, B> = Op<Write<'a, B>>;

/// See [`AsyncWrite`].
#[derive(Debug)]
pub struct Write<'a, B> {
    source: Source<'a>,
    buf: B,
    offset: u64,
}

impl<B: IoBuf> Operation for Write<'_, B> {
    type Output = (io::Result<usize>, B);
    const CODE: OpCode = OpCode::Write;

    held!();
    #[inline(always)]
    #[allow(private_interfaces)]
    fn request(&mut self) -> Request {
        let (ptr, len) = (self.buf.buf_ptr(), clamp(self.buf.buf_len()));
        Request::Write { fd: self.source.target(), ptr, len, offset: self.offset }
    }
    #[inline(always)]
    fn finish(self, result: i32) -> Self::Output {
        (io_result(result), self.buf)
    }
}

impl<'a, B: IoBuf> Op<Write<'a, B>> {
    /// Writes to `source` at `offset` bytes from the file's start.
    #[inline(always)]
    #[track_caller]
    pub fn new(source: impl Into<Source<'a>>, buf: B, offset: u64) -> Self {
        Op::of(Write { source: source.into(), buf, offset: at(offset) })
    }

    /// Writes at the file's own position and moves it; the way for pipes and terminals.
    /// [`write(2)`](https://man7.org/linux/man-pages/man2/write.2.html).
    #[track_caller]
    pub fn at_position(source: impl Into<Source<'a>>, buf: B) -> Self {
        Op::of(Write { source: source.into(), buf, offset: CURRENT_POSITION })
    }
}

/// Reads at an offset into several buffers, in order.
/// [`preadv(2)`](https://man7.org/linux/man-pages/man2/preadv.2.html).
///
/// # Examples
/// ```
/// use corio::op::AsyncReadv;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let file = std::fs::File::open("Cargo.toml")?;
/// let (result, bufs) = AsyncReadv::new(&file, [[0; 1], [0; 1]], 0).await;
/// assert_eq!((result?, bufs), (2, [*b"[", *b"p"]));
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_READV")]
pub type AsyncReadv<'a, B> = Op<Readv<'a, B>>;

/// See [`AsyncReadv`].
pub struct Readv<'a, B> {
    source: Source<'a>,
    bufs: B,
    vecs: IoVecs,
    offset: u64,
}

impl<B: IoBufsMut> Operation for Readv<'_, B> {
    type Output = (io::Result<usize>, B);
    const CODE: OpCode = OpCode::Readv;

    held!();
    #[allow(private_interfaces)]
    fn request(&mut self) -> Request {
        self.vecs.fill_mut(&mut self.bufs);
        let (iov, count) = (self.vecs.as_mut_ptr(), self.vecs.len() as u32);
        Request::Readv { fd: self.source.target(), iov, count, offset: self.offset }
    }
    fn finish(mut self, result: i32) -> Self::Output {
        if result >= 0 {
            // SAFETY: the kernel fills buffers in order and says how far it came.
            unsafe { self.bufs.set_all_filled(result as usize) };
        }
        (io_result(result), self.bufs)
    }
}

impl<'a, B: IoBufsMut> Op<Readv<'a, B>> {
    /// Reads from `source` at `offset` bytes from the file's start.
    #[track_caller]
    pub fn new(source: impl Into<Source<'a>>, bufs: B, offset: u64) -> Self {
        Op::of(Readv { source: source.into(), bufs, vecs: IoVecs::new(), offset: at(offset) })
    }
}

/// Writes several buffers at an offset, in order.
/// [`pwritev(2)`](https://man7.org/linux/man-pages/man2/pwritev.2.html).
///
/// # Examples
/// ```
/// use corio::op::AsyncWritev;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let file = tempfile::tempfile()?;
/// let (result, _bufs) = AsyncWritev::new(&file, ["head", "body"], 0).await;
/// assert_eq!(result?, 8);
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_WRITEV")]
pub type AsyncWritev<'a, B> = Op<Writev<'a, B>>;

/// See [`AsyncWritev`].
pub struct Writev<'a, B> {
    source: Source<'a>,
    bufs: B,
    vecs: IoVecs,
    offset: u64,
}

impl<B: IoBufs> Operation for Writev<'_, B> {
    type Output = (io::Result<usize>, B);
    const CODE: OpCode = OpCode::Writev;

    held!();
    #[allow(private_interfaces)]
    fn request(&mut self) -> Request {
        self.vecs.fill(&self.bufs);
        let (iov, count) = (self.vecs.as_mut_ptr(), self.vecs.len() as u32);
        Request::Writev { fd: self.source.target(), iov, count, offset: self.offset }
    }
    fn finish(self, result: i32) -> Self::Output {
        (io_result(result), self.bufs)
    }
}

impl<'a, B: IoBufs> Op<Writev<'a, B>> {
    /// Writes to `source` at `offset` bytes from the file's start.
    #[track_caller]
    pub fn new(source: impl Into<Source<'a>>, bufs: B, offset: u64) -> Self {
        Op::of(Writev { source: source.into(), bufs, vecs: IoVecs::new(), offset: at(offset) })
    }
}

/// Writes a file's data and metadata to the disk.
/// [`fsync(2)`](https://man7.org/linux/man-pages/man2/fsync.2.html).
///
/// Covers writes that have *ended* before it starts; await them first.
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
pub type AsyncFsync<'a> = Op<Fsync<'a, false>>;

/// Writes a file's data to the disk, and as much metadata as is needed to read it back.
/// [`fdatasync(2)`](https://man7.org/linux/man-pages/man2/fdatasync.2.html).
///
/// # Examples
/// See [`AsyncFsync`].
#[doc(alias = "IORING_OP_FSYNC")]
#[doc(alias = "IORING_FSYNC_DATASYNC")]
pub type AsyncFdatasync<'a> = Op<Fsync<'a, true>>;

/// See [`AsyncFsync`] and [`AsyncFdatasync`].
#[derive(Debug)]
pub struct Fsync<'a, const DATA_ONLY: bool> {
    source: Source<'a>,
}

impl<const DATA_ONLY: bool> Operation for Fsync<'_, DATA_ONLY> {
    type Output = io::Result<()>;
    const CODE: OpCode = if DATA_ONLY { OpCode::Fdatasync } else { OpCode::Fsync };

    held!();
    #[allow(private_interfaces)]
    fn request(&mut self) -> Request {
        Request::Fsync { fd: self.source.target(), data_only: DATA_ONLY }
    }
    fn finish(self, result: i32) -> Self::Output {
        io_result(result).map(drop)
    }
}

impl<'a, const DATA_ONLY: bool> Op<Fsync<'a, DATA_ONLY>> {
    /// Syncs `source`.
    #[track_caller]
    pub fn new(source: impl Into<Source<'a>>) -> Self {
        Op::of(Fsync { source: source.into() })
    }
}

/// Reserves or frees room in a file.
/// [`fallocate(2)`](https://man7.org/linux/man-pages/man2/fallocate.2.html).
///
/// # Examples
/// ```
/// use corio::op::AsyncFallocate;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let file = tempfile::tempfile()?;
/// AsyncFallocate::new(&file, 0, 0, 4096).await?;
/// assert_eq!(file.metadata()?.len(), 4096);
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_FALLOCATE")]
pub type AsyncFallocate<'a> = Op<Fallocate<'a>>;

/// See [`AsyncFallocate`].
#[derive(Debug)]
pub struct Fallocate<'a> {
    source: Source<'a>,
    mode: i32,
    offset: u64,
    len: u64,
}

impl Operation for Fallocate<'_> {
    type Output = io::Result<()>;
    const CODE: OpCode = OpCode::Fallocate;

    held!();
    #[allow(private_interfaces)]
    fn request(&mut self) -> Request {
        let Fallocate { mode, offset, len, .. } = *self;
        Request::Fallocate { fd: self.source.target(), mode, offset, len }
    }
    fn finish(self, result: i32) -> Self::Output {
        io_result(result).map(drop)
    }
}

impl<'a> Op<Fallocate<'a>> {
    /// Works on `len` bytes from `offset`; `mode` is 0 to reserve, or `FALLOC_FL_*` flags.
    #[track_caller]
    pub fn new(source: impl Into<Source<'a>>, mode: i32, offset: u64, len: u64) -> Self {
        Op::of(Fallocate { source: source.into(), mode, offset, len })
    }
}

/// Sets a file's length. [`ftruncate(2)`](https://man7.org/linux/man-pages/man2/ftruncate.2.html).
///
/// Kernel: `IORING_OP_FTRUNCATE` since 6.9; before, the system call is made directly, which may
/// block for as long as the file system takes.
///
/// # Examples
/// ```
/// use corio::op::AsyncFtruncate;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let file = tempfile::tempfile()?;
/// AsyncFtruncate::new(&file, 100).await?;
/// assert_eq!(file.metadata()?.len(), 100);
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_FTRUNCATE")]
pub type AsyncFtruncate<'a> = Op<Ftruncate<'a>>;

/// See [`AsyncFtruncate`].
#[derive(Debug)]
pub struct Ftruncate<'a> {
    source: Source<'a>,
    len: u64,
}

impl Operation for Ftruncate<'_> {
    type Output = io::Result<()>;
    const CODE: OpCode = OpCode::Ftruncate;

    held!();
    #[allow(private_interfaces)]
    fn request(&mut self) -> Request {
        Request::Ftruncate { fd: self.source.target(), len: self.len }
    }
    fn finish(self, result: i32) -> Self::Output {
        io_result(result).map(drop)
    }
}

impl<'a> Op<Ftruncate<'a>> {
    /// Makes `source` exactly `len` bytes long.
    #[track_caller]
    pub fn new(source: impl Into<Source<'a>>, len: u64) -> Self {
        Op::of(Ftruncate { source: source.into(), len })
    }
}

/// Closes a file and reports what the file system has to say about it.
/// [`close(2)`](https://man7.org/linux/man-pages/man2/close.2.html).
///
/// The fd is gone afterwards in any case, so a close that is under way is not cancelled but waited
/// for. Most code can just drop the handle, which closes it without waiting; this is for those who
/// want to know.
///
/// # Examples
/// ```
/// use corio::op::AsyncClose;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// AsyncClose::new(tempfile::tempfile()?).await?;
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_CLOSE")]
pub type AsyncClose = Op<Close>;

/// See [`AsyncClose`].
#[derive(Debug)]
pub struct Close {
    fd: OwnedFd,
    /// Handed to the driver, which never cancels it: the fd is gone at the end.
    submitted: bool,
}

impl Operation for Close {
    type Output = io::Result<()>;
    const CODE: OpCode = OpCode::Close;

    fn prepare(&mut self) -> Result<(), i32> {
        Ok(())
    }
    #[allow(private_interfaces)]
    fn request(&mut self) -> Request {
        self.submitted = true;
        Request::Close { fd: self.fd.as_raw_fd() }
    }
    fn finish(self, result: i32) -> Self::Output {
        if self.submitted {
            // Linux has given up the fd whatever the result.
            let _ = self.fd.into_raw_fd();
        }
        // Else it never ran. The fd is not to be lost: dropping it closes it here.
        io_result(result).map(drop)
    }
}

impl Op<Close> {
    /// Closes `fd`.
    #[track_caller]
    pub fn new(fd: impl Into<OwnedFd>) -> Self {
        Op::of(Close { fd: fd.into(), submitted: false })
    }
}
