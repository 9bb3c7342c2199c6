//! Reading into one buffer.

// # Why this file has `unsafe`
// It signs the contract of `Operation`.

use std::io;
use std::ops::ControlFlow;

use crate::buf::IoBufMut;
use crate::driver::{OpCode, Request};
use crate::op::ahead;
use crate::op::future::{Op, Operation, io_result};
use crate::op::source::Source;
use crate::op::transfer::{CURRENT_POSITION, at, check_room, clamp, filled};

/// An operation (a future), not the trait: reads at an offset into one buffer.
/// [`pread(2)`](https://man7.org/linux/man-pages/man2/pread.2.html).
///
/// A file without positions, such as a pipe, is read as by `read(2)`, where `pread(2)` fails.
///
/// Returns the number of bytes read, 0 at the end of the file. One operation reads at most
/// 2,147,479,552 bytes.
///
/// # Errors
/// What `pread(2)` reports; `InvalidInput` if the buffer has no room.
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

/// The operation of [`AsyncRead`].
#[derive(Debug)]
pub struct Read<'a, B> {
    source: Source<'a>,
    buf: B,
    offset: u64,
}

// SAFETY: 1. The pointer and length are one pair from `buf`, which the value owns and does not
// touch until `finish`. 2. `source` is held. 3. A held source names its file without its borrow.
// 4. The result is the number of bytes that `read(2)` wrote from the pointer on.
unsafe impl<B: IoBufMut> Operation for Read<'_, B> {
    type Output = (io::Result<usize>, B);
    const CODE: OpCode = OpCode::Read;

    #[inline(always)]
    fn prepare(&mut self) -> ControlFlow<i32> {
        check_room(self.buf.buf_capacity())?;
        match self.source.hold_to_receive()? {
            Some(socket) => ahead::into_one(socket, &mut self.buf, 0, false),
            None => ControlFlow::Continue(()),
        }
    }
    #[inline(always)]
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

impl<'a, B: IoBufMut> Op<Read<'a, B>> {
    /// Reads from `source`, starting `offset` bytes after the start of the file.
    #[inline(always)]
    #[track_caller]
    pub fn new(source: impl Into<Source<'a>>, buf: B, offset: u64) -> Self {
        Op::of(Read { source: source.into(), buf, offset: at(offset) })
    }

    /// Reads at the file's own position and moves it; for pipes and terminals too.
    /// [`read(2)`](https://man7.org/linux/man-pages/man2/read.2.html).
    #[track_caller]
    pub fn at_position(source: impl Into<Source<'a>>, buf: B) -> Self {
        Op::of(Read { source: source.into(), buf, offset: CURRENT_POSITION })
    }
}
