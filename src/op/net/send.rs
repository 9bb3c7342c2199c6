//! Sending one buffer.

// # Why this file has `unsafe`
// It signs the contract of `Operation`.

use std::io;
use std::ops::ControlFlow;

use crate::buf::IoBuf;
use crate::driver::{OpCode, Request};
use crate::op::future::{Op, Operation, io_result};
use crate::op::source::Source;
use crate::op::transfer::clamp;
use crate::os;

/// Sends one buffer. [`send(2)`](https://man7.org/linux/man-pages/man2/send.2.html).
///
/// Returns the number of bytes that the kernel took, which may be fewer than asked for. A peer that
/// has gone is the error `EPIPE`, never a signal.
///
/// Concurrent sends on one socket have no order; [`AsyncSendAll`](crate::op::AsyncSendAll)s have.
///
/// # Examples
/// ```
/// use corio::op::AsyncSend;
/// use std::os::unix::net::UnixStream;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let (a, _b) = UnixStream::pair()?;
/// let (result, _buf) = AsyncSend::new(&a, "hi").await;
/// assert_eq!(result?, 2);
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_SEND")]
#[doc(alias = "write")]
pub type AsyncSend<'a, B> = Op<Send<'a, B>>;

/// The operation of [`AsyncSend`].
#[derive(Debug)]
pub struct Send<'a, B> {
    source: Source<'a>,
    buf: B,
    flags: i32,
}

// SAFETY: 1. The pointer and length are one pair from `buf`, which the value owns until `finish`;
// with the flags that `with_flags` lets through the kernel is done with it when the operation ends.
// 2. `source` is held. 3. A held source names its file without its borrow. 4. The result is a
// count.
unsafe impl<B: IoBuf> Operation for Send<'_, B> {
    type Output = (io::Result<usize>, B);
    const CODE: OpCode = OpCode::Send;

    #[inline(always)]
    fn prepare(&mut self) -> ControlFlow<i32> {
        self.source.hold()
    }
    #[inline(always)]
    fn request(&mut self) -> Request {
        let (ptr, len) = (self.buf.buf_ptr(), clamp(self.buf.buf_len()));
        let mut fd = self.source.target();
        // An inline attempt would report a part to a caller that wants all of it sent.
        fd.eager &= self.flags & os::MSG_WAITALL == 0;
        Request::Send { fd, ptr, len, flags: self.flags }
    }
    #[inline(always)]
    fn finish(self, result: i32) -> Self::Output {
        (io_result(result), self.buf)
    }
}

/// The flags of a send after which the kernel is done with the buffer: `MSG_ZEROCOPY` is not one.
const SEND_FLAGS: i32 = os::MSG_CONFIRM
    | os::MSG_DONTROUTE
    | os::MSG_DONTWAIT
    | os::MSG_EOR
    | os::MSG_FASTOPEN
    | os::MSG_MORE
    | os::MSG_NOSIGNAL
    | os::MSG_OOB
    | os::MSG_WAITALL;

/// Panics for flags with which the kernel may use the buffer beyond the end of the operation.
#[inline(always)]
#[track_caller]
pub(super) fn check_send_flags(flags: i32) {
    assert!(
        flags & !SEND_FLAGS == 0,
        "send does not support the flags {:#x}: remove them",
        flags & !SEND_FLAGS
    );
}

impl<'a, B: IoBuf> Op<Send<'a, B>> {
    /// Sends to `source`.
    #[inline(always)]
    #[track_caller]
    pub fn new(source: impl Into<Source<'a>>, buf: B) -> Self {
        Self::with_flags(source, buf, 0)
    }

    /// Sends with flags, such as `MSG_MORE`.
    ///
    /// # Panics
    /// For a flag that would let the kernel keep the buffer beyond the end (`MSG_ZEROCOPY`), or
    /// that is not one of a send.
    #[inline(always)]
    #[track_caller]
    pub fn with_flags(source: impl Into<Source<'a>>, buf: B, flags: i32) -> Self {
        check_send_flags(flags);
        Op::of(Send { source: source.into(), buf, flags: flags | os::MSG_NOSIGNAL })
    }
}
