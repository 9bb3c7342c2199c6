//! Receiving into the context's own memory.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use super::future::{Op, Operation};
use super::source::{Descriptor, Source};
use crate::buf::RecvBuf;
use crate::driver::{OpCode, RecvQueue, Request, Reservation};
use crate::os;
use crate::runtime::Runtime;

/// What a stream receives, chunk by chunk, in memory of the context: for readers that bring no
/// buffer.
///
/// Made by [`TcpStream::recv_stream`](crate::net::TcpStream::recv_stream). A connection that waits takes no
/// buffer, and a chunk has what has come, up to 64 KiB: small messages take little memory, large
/// ones come in few pieces. On io_uring with Linux 6.12 or newer the kernel receives by itself
/// until the stream ends (`IORING_RECV_MULTISHOT` with `IOU_PBUF_RING_INC`); elsewhere each chunk
/// is a call, once there is something.
///
/// The kernel may have received more than was asked for, up to what the socket's own buffer holds
/// (some 256 KiB of one that nobody reads from are enough to stop it). So nothing else should
/// receive from the stream while this is there; and what has come but was not taken is lost when
/// this is dropped, like what a [`BufReader`](std::io::BufReader) holds. Only the context's next
/// reservation tells the kernel that this is gone: until then bytes may be lost to whoever else receives,
/// also on another thread, and the peer of a stream that was dropped does not see the end. It
/// belongs to the first context in which it is used.
///
/// # Examples
/// An echo server's connection:
/// ```
/// use corio::net::UnixStream;
///
/// async fn echo(stream: UnixStream) -> std::io::Result<()> {
///     let mut chunks = stream.recv_stream();
///     while let Some(chunk) = chunks.recv().await? {
///         stream.send_all(chunk).await.0?;
///     }
///     Ok(())
/// }
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let (a, b) = UnixStream::pair()?;
/// let serving = corio::spawn(echo(b));
/// a.send_all("hello").await.0?;
/// let mut answer = a.recv_stream();
/// assert_eq!(answer.recv().await?.as_deref(), Some(&b"hello"[..]));
/// drop(answer);
/// drop(a);
/// serving.await.unwrap()?;
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct RecvStream<'a> {
    stream: &'a Descriptor,
    feed: Rc<RecvQueue>,
    /// The context that it belongs to; 0: none yet.
    context: Cell<u64>,
}

impl<'a> RecvStream<'a> {
    pub(crate) fn new(stream: &'a Descriptor) -> Self {
        RecvStream { stream, feed: Rc::default(), context: Cell::new(0) }
    }

    /// The next chunk; `None` when the peer has ended its side.
    ///
    /// This is the one operation that may be dropped in flight, under any
    /// [`DropPolicy`](crate::DropPolicy): nothing is lost, what comes is there for the next.
    ///
    /// # Errors
    /// What `recv(2)` reports, such as `ConnectionReset`; `OutOfMemory` when there is none left, or
    /// chunks that have not been dropped take 2 GiB, after which one may try again; `ResourceBusy`
    /// in another context than the first, and after an operation of this was leaked in flight.
    #[inline(always)]
    #[track_caller]
    pub fn recv(&mut self) -> AsyncRecvBuf<'_> {
        let reservation = Reservation::new(self.feed.clone());
        Op::of(RecvProvided { source: self.stream.into(), reservation, context: &self.context })
    }
}

impl Drop for RecvStream<'_> {
    fn drop(&mut self) {
        self.feed.abandon();
    }
}

/// Receives one chunk. See [`RecvStream::recv`].
#[doc(alias = "IORING_RECV_MULTISHOT")]
pub type AsyncRecvBuf<'a> = Op<RecvProvided<'a>>;

/// See [`AsyncRecvBuf`].
#[derive(Debug)]
pub struct RecvProvided<'a> {
    source: Source<'a>,
    reservation: Reservation,
    context: &'a Cell<u64>,
}

impl Operation for RecvProvided<'_> {
    type Output = io::Result<Option<RecvBuf>>;
    const CODE: OpCode = OpCode::Recv;
    const MAY_BE_DROPPED: bool = true;

    #[inline(always)]
    fn prepare(&mut self) -> Result<(), i32> {
        let here = Runtime::try_with(|runtime| runtime.map_or(0, |runtime| runtime.id));
        match self.context.get() {
            0 => self.context.set(here),
            first if first == here => {}
            _ => return Err(os::EBUSY),
        }
        self.reservation.take()?;
        self.source.hold()
    }
    #[inline(always)]
    #[allow(private_interfaces)]
    fn request(&mut self) -> Request {
        Request::RecvProvided {
            fd: self.source.target(),
            feed: Rc::as_ptr(self.reservation.feed()),
        }
    }
    #[inline(always)]
    fn finish(self, result: i32) -> Self::Output {
        match result {
            1.. => Ok(self.reservation.feed().take()),
            0 => Ok(None),
            error => Err(explain(-error)),
        }
    }
    fn discard(self, _result: i32) {
        self.reservation.feed().take_back();
    }
}

#[cold]
fn explain(errno: i32) -> io::Error {
    if errno == os::ENOBUFS {
        return io::Error::new(
            io::ErrorKind::OutOfMemory,
            "no memory is left for chunks, or they take 2 GiB: drop them sooner",
        );
    }
    super::future::io_error(errno)
}
