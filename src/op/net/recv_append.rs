//! Receiving behind what a buffer holds.

// # Why this file has `unsafe`
// It signs the contract of `Operation`, and sets the length of the buffer.

use std::io;
use std::ops::ControlFlow;

use crate::buf::IoBufMut;
use crate::driver::{OpCode, Request};
use crate::op::ahead;
use crate::op::future::{Op, Operation, io_result};
use crate::op::source::Source;
use crate::op::transfer::clamp;

/// Receives behind the bytes that a `Vec` holds, which grows if it is full.
///
/// Returns the number of bytes received; 0 when the peer has ended its side. It fills the capacity
/// that is left, however little. Only a full `Vec` is reallocated, to twice its capacity, and to
/// 4 KiB more at least.
///
/// # Errors
/// What [`AsyncRecv`](crate::op::AsyncRecv) reports. The bytes that were in the buffer stay there.
///
/// # Examples
/// See [`TcpStream::recv_append`](crate::net::TcpStream::recv_append).
#[doc(alias = "IORING_OP_RECV")]
#[doc(alias = "read_buf")]
pub type AsyncRecvAppend<'a> = Op<RecvAppend<'a>>;

/// The operation of [`AsyncRecvAppend`].
#[derive(Debug)]
pub struct RecvAppend<'a> {
    source: Source<'a>,
    buf: Vec<u8>,
}

// SAFETY: 1. The pointer leads behind the bytes of `buf`, and the length is that of the rest of its
// capacity; the value owns it and does not touch it until `finish`. 2. `source` is held. 3. A held
// source names its file without its borrow. 4. The result is the number of bytes written from the
// pointer on.
unsafe impl Operation for RecvAppend<'_> {
    type Output = (io::Result<usize>, Vec<u8>);
    const CODE: OpCode = OpCode::Recv;

    fn prepare(&mut self) -> ControlFlow<i32> {
        let filled = self.buf.len();
        match self.source.hold_to_receive()? {
            Some(handle) => ahead::into_one(handle, &mut self.buf, filled, false),
            None => ControlFlow::Continue(()),
        }
    }
    fn request(&mut self) -> Request {
        let filled = self.buf.len();
        let ptr = self.buf.buf_mut_ptr().wrapping_add(filled);
        let len = clamp(self.buf.capacity() - filled);
        Request::Recv { fd: self.source.target(), ptr, len, flags: 0 }
    }
    fn left_more(&self, more: bool) {
        self.source.set_eager(more);
    }
    fn finish(mut self, result: i32) -> Self::Output {
        let received = io_result(result);
        if let Ok(len) = received {
            // SAFETY: the kernel, or `into_one`, has written that many bytes from the pointer on.
            unsafe { self.buf.set_len(self.buf.len() + len) };
        }
        (received, self.buf)
    }
}

impl<'a> Op<RecvAppend<'a>> {
    /// Receives from `source`, behind the bytes of `buf`.
    #[track_caller]
    pub fn new(source: impl Into<Source<'a>>, mut buf: Vec<u8>) -> Self {
        const LEAST: usize = 4096;
        if buf.len() == buf.capacity() {
            buf.reserve(LEAST);
        }
        Op::of(RecvAppend { source: source.into(), buf })
    }
}
