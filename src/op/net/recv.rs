//! Receiving into one buffer.

// # Why this file has `unsafe`
// It signs the contract of `Operation`.

use std::io;
use std::ops::ControlFlow;

use crate::buf::IoBufMut;
use crate::driver::{OpCode, Request};
use crate::op::ahead;
use crate::op::future::{Op, Operation, io_result};
use crate::op::source::Source;
use crate::op::transfer::{check_room, clamp, filled};
use crate::os;

/// Receives into one buffer. [`recv(2)`](https://man7.org/linux/man-pages/man2/recv.2.html).
///
/// Returns the number of bytes received; 0 when the peer has ended its side. Concurrent receives on
/// one socket have no order among each other; [`AsyncRecvExact`](crate::op::AsyncRecvExact)s have.
///
/// # Errors
/// What `recv(2)` reports, such as `ConnectionReset`; `InvalidInput` if the buffer has no room.
///
/// # Examples
/// See [`Source`], or [`TcpStream::recv`](crate::net::TcpStream::recv).
#[doc(alias = "IORING_OP_RECV")]
#[doc(alias = "read")]
pub type AsyncRecv<'a, B> = Op<Recv<'a, B>>;

/// The operation of [`AsyncRecv`].
#[derive(Debug)]
pub struct Recv<'a, B> {
    source: Source<'a>,
    buf: B,
    flags: i32,
}

// SAFETY: 1. The pointer and length are one pair from `buf`, which the value owns and does not
// touch until `finish`. 2. `source` is held. 3. A held source names its file without its borrow.
// 4. With the flags that `with_flags` lets through, the result is the number of bytes written from
// the pointer on.
unsafe impl<B: IoBufMut> Operation for Recv<'_, B> {
    type Output = (io::Result<usize>, B);
    const CODE: OpCode = OpCode::Recv;

    #[inline(always)]
    fn prepare(&mut self) -> ControlFlow<i32> {
        check_room(self.buf.buf_capacity())?;
        match self.source.hold_to_receive()? {
            Some(handle) if self.flags & (os::MSG_OOB | os::MSG_ERRQUEUE) == 0 => {
                ahead::into_one(handle, &mut self.buf, 0, self.flags & os::MSG_PEEK != 0)
            }
            _ => ControlFlow::Continue(()),
        }
    }
    #[inline(always)]
    fn request(&mut self) -> Request {
        let (ptr, len) = (self.buf.buf_mut_ptr(), clamp(self.buf.buf_capacity()));
        Request::Recv { fd: self.source.target(), ptr, len, flags: self.flags }
    }
    #[inline(always)]
    fn left_more(&self, more: bool) {
        // With any flags: it only decides whether the next receive is tried inline.
        self.source.set_eager(more);
    }
    #[inline(always)]
    fn finish(mut self, result: i32) -> Self::Output {
        filled(&mut self.buf, result);
        (io_result(result), self.buf)
    }
}

/// The flags with which a receive's result is the number of bytes written: `MSG_TRUNC` is not one.
const RECV_FLAGS: i32 =
    os::MSG_PEEK | os::MSG_WAITALL | os::MSG_DONTWAIT | os::MSG_OOB | os::MSG_ERRQUEUE;

impl<'a, B: IoBufMut> Op<Recv<'a, B>> {
    /// Receives from `source`.
    #[inline(always)]
    #[track_caller]
    pub fn new(source: impl Into<Source<'a>>, buf: B) -> Self {
        Op::of(Recv { source: source.into(), buf, flags: 0 })
    }

    /// Receives with flags: `MSG_PEEK`, `MSG_WAITALL`, `MSG_DONTWAIT`, `MSG_OOB`, `MSG_ERRQUEUE`.
    ///
    /// Bytes that a [receive stream](crate::op::RecvStream) of the handle has received ahead are
    /// returned alone, whatever their number, with `MSG_WAITALL` too.
    ///
    /// # Panics
    /// For any other flag, and for `MSG_PEEK` with `MSG_WAITALL`.
    #[track_caller]
    pub fn with_flags(source: impl Into<Source<'a>>, buf: B, flags: i32) -> Self {
        assert!(
            flags & !RECV_FLAGS == 0,
            "recv does not support the flags {:#x}: remove them",
            flags & !RECV_FLAGS
        );
        // A ring would continue behind the bytes that it peeked at, and see them again.
        let both = os::MSG_PEEK | os::MSG_WAITALL;
        assert!(flags & both != both, "recv does not support MSG_PEEK with MSG_WAITALL: drop one");
        Op::of(Recv { source: source.into(), buf, flags })
    }
}
