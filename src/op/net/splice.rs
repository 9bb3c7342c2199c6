//! Moving bytes from socket to pipe to socket without a copy through user space.

// # Why this file has `unsafe`
// It signs the contract of `Operation`.

use std::io;
use std::ops::ControlFlow;

use crate::driver::{OpCode, Request};
use crate::op::descriptor::Descriptor;
use crate::op::future::{Op, Operation, io_result};
use crate::op::source::Source;
use crate::op::transfer::{CURRENT_POSITION, clamp};

/// Moves bytes between a socket and a pipe, without a copy through user space (Linux).
/// [`splice(2)`](https://man7.org/linux/man-pages/man2/splice.2.html).
///
/// Returns the number of bytes moved, which may be fewer than asked for; 0 at the end of the
/// stream. It waits for the socket, but not for the pipe: empty a pipe before filling it again, as
/// [`net::relay`](crate::net::relay) does.
///
/// Bytes that a [receive stream](crate::op::RecvStream) of the handle has received ahead come
/// first; they are written to the pipe, which this waits for.
///
/// # Errors
/// What `splice(2)` reports; `ResourceBusy` if the pipe has no room, or no bytes; `EBADMSG` (74)
/// if the next byte of the socket is urgent data (`MSG_OOB`), which a splice cannot pass: a
/// [`recv`](crate::net::TcpStream::recv) skips it and goes on behind it. No bytes were moved then.
///
/// # Examples
/// ```
/// use corio::net::UnixStream;
/// use corio::op::AsyncSplice;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let ((a, b), (c, d)) = (UnixStream::pair()?, UnixStream::pair()?);
/// let (reader, writer) = std::io::pipe()?;
/// a.send_all("hello").await.0?;
/// assert_eq!(AsyncSplice::into_pipe(&b, &writer, 1 << 16).await?, 5);
/// assert_eq!(AsyncSplice::out_of_pipe(&reader, &c, 5).await?, 5);
/// let (result, buf) = d.recv_exact([0; 5]).await;
/// result?;
/// assert_eq!(&buf, b"hello");
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "splice")]
pub type AsyncSplice<'a> = Op<Splice<'a>>;

/// The operation of [`AsyncSplice`].
#[derive(Debug)]
pub struct Splice<'a> {
    socket: Source<'a>,
    pipe: Source<'a>,
    len: u32,
    into_pipe: bool,
    /// Bytes that a receive stream has received ahead, which are written to the pipe.
    ahead: Vec<u8>,
}

// SAFETY: 1. The only pointer leads to `ahead`, on the heap, which nothing changes before the end.
// 2. Socket and pipe are held. 3. A held source names its file without its borrow. 4. The result is
// a count.
unsafe impl Operation for Splice<'_> {
    type Output = io::Result<usize>;
    const CODE: OpCode = OpCode::Splice;

    fn prepare(&mut self) -> ControlFlow<i32> {
        self.pipe.hold()?;
        match self.socket.hold_to_receive()? {
            // Once: a task that has yielded comes here again.
            Some(handle) if self.into_pipe && self.ahead.is_empty() => {
                take_ahead(handle, self.len, &mut self.ahead)
            }
            _ => ControlFlow::Continue(()),
        }
    }
    fn request(&mut self) -> Request {
        if !self.ahead.is_empty() {
            let (ptr, len) = (self.ahead.as_ptr(), self.ahead.len() as u32);
            return Request::Write { fd: self.pipe.target(), ptr, len, offset: CURRENT_POSITION };
        }
        let (socket, pipe) = (self.socket.target(), self.pipe.target());
        Request::Splice { socket, pipe, len: self.len, into_pipe: self.into_pipe }
    }
    fn finish(mut self, result: i32) -> Self::Output {
        let written = (result.max(0) as usize).min(self.ahead.len());
        let rest = self.ahead.split_off(written);
        if let Some(handle) = self.socket.handle().filter(|_| !rest.is_empty()) {
            handle.ahead().put_back(rest);
        }
        io_result(result)
    }
}

/// Takes at most `len` bytes that were received ahead; breaks with an error behind them.
#[cold]
fn take_ahead(handle: &Descriptor, len: u32, bytes: &mut Vec<u8>) -> ControlFlow<i32> {
    let taken = handle.ahead().receive(false, |held| {
        let len = held.len().min(len as usize);
        bytes.extend_from_slice(&held[..len]);
        len
    });
    match taken {
        Some(error @ ..0) => ControlFlow::Break(error),
        _ => ControlFlow::Continue(()),
    }
}

impl<'a> Op<Splice<'a>> {
    /// Moves up to `len` bytes from `socket` into `pipe`, the writing end.
    #[track_caller]
    pub fn into_pipe(
        socket: impl Into<Source<'a>>,
        pipe: impl Into<Source<'a>>,
        len: usize,
    ) -> Self {
        let (socket, pipe) = (socket.into(), pipe.into());
        Op::of(Splice { socket, pipe, len: clamp(len), into_pipe: true, ahead: Vec::new() })
    }

    /// Moves up to `len` bytes out of `pipe`, the reading end, to `socket`.
    #[track_caller]
    pub fn out_of_pipe(
        pipe: impl Into<Source<'a>>,
        socket: impl Into<Source<'a>>,
        len: usize,
    ) -> Self {
        let (socket, pipe) = (socket.into(), pipe.into());
        Op::of(Splice { socket, pipe, len: clamp(len), into_pipe: false, ahead: Vec::new() })
    }
}
