//! Receiving into the context's own memory.

// # Why this file has `unsafe`
// It signs the contract of `Operation`.

use std::io;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::buf::RecvBuf;
use crate::driver::{OpCode, RecvQueue, Request, Reservation};
use crate::op::descriptor::Descriptor;
use crate::op::future::{Op, Operation, failed, io_error};
use crate::op::source::Source;
use crate::os;
use crate::runtime::Runtime;

/// A stream of received buffers in the context's own memory, for readers that bring no buffer.
///
/// Made by [`TcpStream::recv_stream`](crate::net::TcpStream::recv_stream). A connection that waits
/// holds no buffer, and a received buffer has the size of what has arrived, up to 64 KiB: small
/// messages take little memory, and large ones come in few pieces. On io_uring with Linux 6.12 or
/// newer the kernel receives by itself until the stream ends (`IORING_RECV_MULTISHOT` with
/// `IOU_PBUF_RING_INC`); elsewhere each buffer is one call, made once there are bytes.
///
/// The kernel may receive more than was asked for, up to what the socket's buffer holds (about
/// 256 KiB that are not taken stop it). None of it is lost: what this has received and not handed
/// out comes first from whatever receives next on the same handle, whether this still exists or was
/// dropped: another receive stream, [`recv`](crate::net::TcpStream::recv), `recv_exact`,
/// `recv_msg`, [`relay`](crate::net::relay()). So does an error of the connection that no operation
/// has returned. Other fds of the socket, and code that is given the handle's fd, see only what is
/// still in the socket: [`into_received`](Self::into_received) hands them the rest.
///
/// Dropping it within its running context stops the kernel's receive at once, by one system call if
/// the stream has not ended. It belongs to the first context that uses it.
///
/// # Examples
/// An echo server's connection:
/// ```
/// use corio::net::UnixStream;
///
/// async fn echo(stream: UnixStream) -> std::io::Result<()> {
///     let mut received = stream.recv_stream();
///     while let Some(buf) = received.recv().await? {
///         stream.send_all(buf).await.0?;
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
    queue: Rc<RecvQueue>,
}

impl<'a> RecvStream<'a> {
    pub(crate) fn new(stream: &'a Descriptor) -> Self {
        RecvStream { stream, queue: Rc::default() }
    }

    /// Receives the next buffer; `None` when the peer has ended its side.
    ///
    /// This operation may be dropped in flight under any [`DropPolicy`](crate::DropPolicy): the
    /// next one gets what arrives.
    ///
    /// # Errors
    /// What `recv(2)` reports, such as `ConnectionReset`. `OutOfMemory` when no memory is left, or
    /// received buffers that have not been dropped take 2 GiB; try again after dropping some.
    /// `ResourceBusy` in another context than the first, and after an operation of this stream was
    /// leaked in flight.
    #[inline(always)]
    #[track_caller]
    pub fn recv(&mut self) -> AsyncRecvBuf<'_> {
        let reservation = Reservation::new(self.queue.clone());
        Op::of(RecvProvided { source: self.stream.into(), reservation })
    }

    /// Ends the stream, and returns the bytes that were received ahead and not handed out: for code
    /// that goes on with the socket in another way, such as on another fd. Empty if there are none.
    ///
    /// An error of the connection behind these bytes stays with the handle: its next receive
    /// returns it.
    ///
    /// # Examples
    /// ```
    /// # use corio::net::UnixStream;
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let (a, b) = UnixStream::pair()?;
    /// a.send_all("head, ").await.0?;
    /// let mut stream = b.recv_stream();
    /// assert_eq!(stream.recv().await?.as_deref(), Some(&b"head, "[..]));
    /// a.send_all("body").await.0?;
    /// let mut body = stream.into_received();
    /// while body.len() < 4 {
    ///     let (result, more) = b.recv(Vec::with_capacity(4)).await;
    ///     result?;
    ///     body.extend(more);
    /// }
    /// assert_eq!(body, b"body");
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "into_parts")]
    #[must_use = "the bytes are in no other place"]
    pub fn into_received(self) -> Vec<u8> {
        let ahead = self.stream.ahead();
        drop(self);
        ahead.take_rest()
    }
}

impl Drop for RecvStream<'_> {
    fn drop(&mut self) {
        end(self.stream, &self.queue);
    }
}

/// Ends a stream: what it has received stays with the handle.
fn end(stream: &Descriptor, queue: &Rc<RecvQueue>) {
    if queue.context() != 0 {
        stream.ahead().end(queue);
    }
}

/// A [`RecvStream`] that owns its part of the handle, and that is polled.
#[derive(Debug)]
pub(crate) struct SharedRecvStream {
    stream: Rc<Descriptor>,
    queue: Rc<RecvQueue>,
    /// The operation in flight. On the heap for as long as the stream exists.
    operation: Pin<Box<Option<AsyncRecvBuf<'static>>>>,
}

impl SharedRecvStream {
    pub(crate) fn new(stream: Rc<Descriptor>) -> Self {
        SharedRecvStream { stream, queue: Rc::default(), operation: Box::pin(None) }
    }

    /// Receives the next buffer; see [`RecvStream::recv`].
    #[track_caller]
    pub(crate) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<RecvBuf>>> {
        if self.operation.is_none() {
            let reservation = Reservation::new(self.queue.clone());
            let source = Source::from(self.stream.clone());
            self.operation.set(Some(Op::of(RecvProvided { source, reservation })));
        }
        let Some(operation) = self.operation.as_mut().as_pin_mut() else { unreachable!() };
        let received = std::task::ready!(operation.poll(cx));
        self.operation.set(None);
        Poll::Ready(received)
    }
}

impl Drop for SharedRecvStream {
    fn drop(&mut self) {
        self.operation.set(None);
        end(&self.stream, &self.queue);
    }
}

/// Receives one buffer of a stream. See [`RecvStream::recv`].
#[doc(alias = "IORING_RECV_MULTISHOT")]
pub type AsyncRecvBuf<'a> = Op<RecvProvided<'a>>;

/// The operation of [`AsyncRecvBuf`].
#[derive(Debug)]
pub struct RecvProvided<'a> {
    source: Source<'a>,
    reservation: Reservation,
}

// SAFETY: 1. The request leads to the receive queue, on the heap and counted by `reservation`; the
// memory received into is the driver's. 2. `source` is held. 3. Neither the queue nor a held source
// is read through a borrow. 4. A positive result means that the driver left a buffer in the queue.
unsafe impl Operation for RecvProvided<'_> {
    type Output = io::Result<Option<RecvBuf>>;
    const CODE: OpCode = OpCode::Recv;
    const MAY_BE_DROPPED: bool = true;

    #[inline(always)]
    fn prepare(&mut self) -> ControlFlow<i32> {
        let here = Runtime::try_with(|runtime| runtime.map_or(0, |runtime| runtime.id));
        match self.reservation.queue().context() {
            0 => self.begin(here),
            first if first == here => {}
            _ => return failed(os::EBUSY),
        }
        if let Err(errno) = self.reservation.take() {
            return failed(errno);
        }
        self.source.hold()
    }
    #[inline(always)]
    fn request(&mut self) -> Request {
        Request::RecvProvided {
            fd: self.source.target(),
            queue: Rc::as_ptr(self.reservation.queue()),
        }
    }
    #[inline(always)]
    fn finish(self, result: i32) -> Self::Output {
        match result {
            1.. => Ok(self.reservation.queue().take()),
            0 => Ok(None),
            error => Err(explain(-error)),
        }
    }
    fn discard(mut self, result: i32) {
        self.reservation.queue().take_back();
        let kept = ![os::ECANCELED, os::TIME_LIMIT, os::ENOBUFS].contains(&-result);
        if result < 0 && kept {
            self.reservation.leave_error(-result);
        }
    }
}

impl RecvProvided<'_> {
    /// Begins the stream, in the context `here`.
    #[cold]
    fn begin(&self, here: u64) {
        let queue = self.reservation.queue();
        queue.set_context(here);
        if let Some(stream) = self.source.handle() {
            stream.ahead().begin(queue);
        }
    }
}

#[cold]
fn explain(errno: i32) -> io::Error {
    if errno == os::ENOBUFS {
        return io::Error::new(
            io::ErrorKind::OutOfMemory,
            "no memory for received buffers, or they take 2 GiB: drop received buffers sooner",
        );
    }
    if errno == os::EBUSY {
        return io::Error::new(
            io::ErrorKind::ResourceBusy,
            "this receive stream is in use: another of its operations is in flight, or it was \
             begun in another context; await that operation first, or receive where it was begun",
        );
    }
    io_error(errno)
}
