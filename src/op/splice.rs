//! Socket to pipe to socket, without a copy through user space.

use std::io;

use super::file::clamp;
use super::future::{Op, Operation, io_result};
use super::source::Source;
use crate::driver::{OpCode, Request};

/// Moves bytes between a socket and a pipe, without a copy through user space (Linux).
/// [`splice(2)`](https://man7.org/linux/man-pages/man2/splice.2.html).
///
/// Gives the number of bytes moved, perhaps fewer than asked for; 0 at the end of the stream. It
/// waits for the socket, but not for the pipe: whoever fills a pipe empties it before filling it
/// again ([`net::relay`](crate::net::relay) does).
///
/// # Errors
/// What `splice(2)` reports; `ResourceBusy` if the pipe has no room, or no bytes. Nothing has been
/// moved then.
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

/// See [`AsyncSplice`].
#[derive(Debug)]
pub struct Splice<'a> {
    socket: Source<'a>,
    pipe: Source<'a>,
    len: u32,
    into_pipe: bool,
}

impl Operation for Splice<'_> {
    type Output = io::Result<usize>;
    const CODE: OpCode = OpCode::Splice;

    fn prepare(&mut self) -> Result<(), i32> {
        self.socket.hold()?;
        self.pipe.hold()
    }
    #[allow(private_interfaces)]
    fn request(&mut self) -> Request {
        let (socket, pipe) = (self.socket.target(), self.pipe.target());
        Request::Splice { socket, pipe, len: self.len, into_pipe: self.into_pipe }
    }
    fn finish(self, result: i32) -> Self::Output {
        io_result(result)
    }
}

impl<'a> Op<Splice<'a>> {
    /// Moves up to `len` bytes from `socket` to the end of `pipe` that is written to.
    #[track_caller]
    pub fn into_pipe(
        socket: impl Into<Source<'a>>,
        pipe: impl Into<Source<'a>>,
        len: usize,
    ) -> Self {
        let (socket, pipe) = (socket.into(), pipe.into());
        Op::of(Splice { socket, pipe, len: clamp(len), into_pipe: true })
    }

    /// Moves up to `len` bytes from the end of `pipe` that is read from to `socket`.
    #[track_caller]
    pub fn out_of_pipe(
        pipe: impl Into<Source<'a>>,
        socket: impl Into<Source<'a>>,
        len: usize,
    ) -> Self {
        let (socket, pipe) = (socket.into(), pipe.into());
        Op::of(Splice { socket, pipe, len: clamp(len), into_pipe: false })
    }
}
