//! Sending the whole of a buffer.

// # Why this file has `unsafe`
// It signs the contract of `Operation`.

use std::io;
use std::ops::ControlFlow;
use std::task::Waker;

use crate::buf::IoBuf;
use crate::driver::{OpCode, Request};
use crate::op::future::{Op, Operation, ended};
use crate::op::order::{Ordered, SENDING};
use crate::op::source::Source;
use crate::op::transfer::{Progress, clamp};
use crate::os;

/// Sends the whole buffer.
///
/// It is one operation for time limits and cancellation, however many system calls it takes. Whole
/// transfers that send on one handle, this and [`AsyncSendfile`](crate::op::AsyncSendfile), run one
/// after another, in the order of their first polls: messages of several tasks do not mix. One that
/// has begun, or whose turn has come, and that is no longer polled, holds up those behind it until
/// it is dropped; a leaked one does so for ever. One that waits for another is not in flight, and
/// may be dropped. A borrowed fd has no such order.
///
/// # Errors
/// What [`AsyncSend`](crate::op::AsyncSend) reports, with the number of bytes that the kernel took
/// as [`Incomplete`](crate::op::Incomplete).
///
/// # Examples
/// ```
/// use corio::op::AsyncSendAll;
/// use std::os::unix::net::UnixStream;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let (a, _b) = UnixStream::pair()?;
/// let (result, _buf) = AsyncSendAll::new(&a, "all of it").await;
/// result?;
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "write_all")]
pub type AsyncSendAll<'a, B> = Op<SendAll<'a, B>>;

/// The operation of [`AsyncSendAll`].
#[derive(Debug)]
pub struct SendAll<'a, B> {
    source: Ordered<'a, SENDING>,
    buf: B,
    progress: Progress,
}

// SAFETY: 1. The pointer leads to the part of `buf` that is not sent yet, and the length is that of
// this part; `buf` is owned until `finish`, and the kernel only reads there. 2. `source` is held.
// 3. A held source names its file without its borrow. 4. The results are counts and bring nothing.
unsafe impl<B: IoBuf> Operation for SendAll<'_, B> {
    type Output = (io::Result<()>, B);
    const CODE: OpCode = OpCode::Send;

    #[inline(always)]
    fn prepare(&mut self) -> ControlFlow<i32> {
        if self.progress.wanted == 0 {
            return ended(0);
        }
        self.source.hold()
    }
    fn wait(&mut self, waker: &Waker) {
        self.source.wait(waker);
    }
    #[inline(always)]
    fn request(&mut self) -> Request {
        let moved = self.progress.moved as usize;
        let ptr = self.buf.buf_ptr().wrapping_add(moved);
        let len = clamp(self.buf.buf_len() - moved);
        let flags = os::MSG_WAITALL | os::MSG_NOSIGNAL;
        Request::Send { fd: self.source.source.target(), ptr, len, flags }
    }
    #[inline(always)]
    fn goes_on(&mut self, result: i32) -> bool {
        self.progress.advance(result)
    }
    #[inline(always)]
    fn finish(self, result: i32) -> Self::Output {
        (self.progress.outcome(result), self.buf)
    }
}

impl<'a, B: IoBuf> Op<SendAll<'a, B>> {
    /// Sends to `source`.
    #[inline(always)]
    #[track_caller]
    pub fn new(source: impl Into<Source<'a>>, buf: B) -> Self {
        let progress = Progress::new(buf.buf_len() as u64);
        Op::of(SendAll { source: Ordered::new(source.into()), buf, progress })
    }
}
