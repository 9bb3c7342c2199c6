//! Receiving until the buffer is full.

// # Why this file has `unsafe`
// It signs the contract of `Operation`.

use std::io;
use std::ops::ControlFlow;
use std::task::Waker;

use crate::buf::IoBufMut;
use crate::driver::{OpCode, Request};
use crate::op::ahead;
use crate::op::future::{Op, Operation, ended};
use crate::op::order::{Ordered, RECEIVING};
use crate::op::source::Source;
use crate::op::transfer::{Progress, clamp, filled_by};

/// Receives until the whole capacity of the buffer is filled; at once if it has none.
///
/// For fewer bytes lend a part of the buffer: `buf.slice(..n)` of
/// [`IoBuf`](crate::buf::IoBuf::slice). It is one operation for time limits and cancellation,
/// however many system calls it takes. Several on one handle run one after another, in the order of
/// their first polls, as [`AsyncSendAll`](crate::op::AsyncSendAll)s do.
///
/// # Errors
/// `UnexpectedEof` if the peer ends its side early. This and any other error carries the number of
/// bytes received as [`Incomplete`](crate::op::Incomplete); they are in the buffer.
///
/// # Examples
/// See [`Incomplete`](crate::op::Incomplete).
#[doc(alias = "read_exact")]
pub type AsyncRecvExact<'a, B> = Op<RecvExact<'a, B>>;

/// The operation of [`AsyncRecvExact`].
#[derive(Debug)]
pub struct RecvExact<'a, B> {
    source: Ordered<'a, RECEIVING>,
    buf: B,
    progress: Progress,
}

// SAFETY: 1. The pointer leads to the part of `buf` that is not filled yet, and the length is that
// of this part: no more was moved than there was room for. `buf` is owned and not touched until
// `finish`. 2. `source` is held. 3. A held source names its file without its borrow. 4. `progress`
// is the sum of the results, each a number of bytes that `recv(2)` wrote from its pointer on.
unsafe impl<B: IoBufMut> Operation for RecvExact<'_, B> {
    type Output = (io::Result<()>, B);
    const CODE: OpCode = OpCode::Recv;

    #[inline(always)]
    fn prepare(&mut self) -> ControlFlow<i32> {
        // A receive of no bytes would wait for some.
        if self.progress.wanted == 0 {
            return ended(0);
        }
        self.source.hold()?;
        match self.source.source.hold_to_receive()? {
            Some(_) => self.receive_ahead(),
            None => ControlFlow::Continue(()),
        }
    }
    fn wait(&mut self, waker: &Waker) {
        self.source.wait(waker);
    }
    #[inline(always)]
    fn request(&mut self) -> Request {
        let moved = self.progress.moved as usize;
        let ptr = self.buf.buf_mut_ptr().wrapping_add(moved);
        let len = clamp(self.buf.buf_capacity() - moved);
        // Without `MSG_WAITALL`: if an error ends the wait, the ring reports the bytes received so
        // far, and the socket has forgotten the error by then: a reset would look like an end.
        Request::Recv { fd: self.source.source.target(), ptr, len, flags: 0 }
    }
    #[inline(always)]
    fn goes_on(&mut self, result: i32) -> bool {
        self.progress.advance(result)
    }
    #[inline(always)]
    fn left_more(&self, more: bool) {
        self.source.source.set_eager(more);
    }
    #[inline(always)]
    fn finish(mut self, result: i32) -> Self::Output {
        filled_by(&mut self.buf, self.progress.moved as usize);
        (self.progress.outcome(result), self.buf)
    }
}

impl<B: IoBufMut> RecvExact<'_, B> {
    /// Takes what a receive stream of the handle has received ahead; breaks at the end of the
    /// buffer, or with an error.
    #[cold]
    fn receive_ahead(&mut self) -> ControlFlow<i32> {
        while let Some(handle) = self.source.source.hold_to_receive()? {
            let filled = self.progress.moved as usize;
            match ahead::into_one(handle, &mut self.buf, filled, false) {
                ControlFlow::Break(result) if self.progress.advance(result) => {}
                ended => return ended,
            }
        }
        ControlFlow::Continue(())
    }
}

impl<'a, B: IoBufMut> Op<RecvExact<'a, B>> {
    /// Receives from `source`.
    #[inline(always)]
    #[track_caller]
    pub fn new(source: impl Into<Source<'a>>, buf: B) -> Self {
        let progress = Progress::new(buf.buf_capacity() as u64);
        Op::of(RecvExact { source: Ordered::new(source.into()), buf, progress })
    }
}
