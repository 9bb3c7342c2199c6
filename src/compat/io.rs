//! A connection by the I/O traits of other libraries.

use std::io;
use std::task::{Context, Poll, ready};

use crate::buf::RecvBuf;
use crate::net::{OwnedRecvStream, SendQueue, Stream, polled};

/// A connection that other libraries read and write, by the traits of each feature:
///
/// | feature | traits |
/// |---|---|
/// | `hyper` | `hyper::rt::Read`, `hyper::rt::Write` |
/// | `tokio-io` | `tokio::io::AsyncRead`, `AsyncBufRead`, `AsyncWrite` |
/// | `futures-io` | `futures_io::AsyncRead`, `AsyncBufRead`, `AsyncWrite` |
///
/// Received bytes are copied once, into the library's buffer, or not at all by `AsyncBufRead`; sent
/// ones as [`SendQueue`] says. A connection that waits holds no buffer. It may be dropped at any
/// time: what it has taken to be sent is still sent.
///
/// # Examples
/// ```
/// use corio::compat::Io;
/// use corio::net::UnixStream;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let (a, _b) = UnixStream::pair()?;
/// let io = Io::new(a);
/// # drop(io);
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Io {
    receiver: OwnedRecvStream,
    sender: SendQueue,
    /// What was received and not read yet.
    received: Option<RecvBuf>,
}

impl Io {
    /// Takes over a connection.
    ///
    /// # Examples
    /// See [`Io`].
    pub fn new(stream: impl Into<Stream>) -> Self {
        let (receiver, sender) = polled(stream);
        Io { receiver, sender, received: None }
    }

    /// Receives, if all that was received has been read; returns what has not: nothing at the end.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        if self.received.is_none() {
            self.received = ready!(self.receiver.poll_recv(cx))?;
        }
        Poll::Ready(Ok(self.received.as_deref().unwrap_or_default()))
    }

    /// Reads at most `room` bytes, which `copy` takes; returns their number: 0 at the end, or if
    /// there is no room.
    pub(super) fn poll_copy(
        &mut self,
        cx: &mut Context<'_>,
        room: usize,
        copy: impl FnOnce(&[u8]),
    ) -> Poll<io::Result<usize>> {
        if room == 0 {
            return Poll::Ready(Ok(0));
        }
        let received = ready!(self.poll_fill(cx))?;
        let len = received.len().min(room);
        copy(&received[..len]);
        self.consume(len);
        Poll::Ready(Ok(len))
    }

    /// Records that `len` bytes have been read.
    pub(super) fn consume(&mut self, len: usize) {
        match &mut self.received {
            Some(received) if len < received.len() => received.advance(len),
            received if len > 0 => *received = None,
            _ => {}
        }
    }

    pub(super) fn sender(&mut self) -> &mut SendQueue {
        &mut self.sender
    }
}
