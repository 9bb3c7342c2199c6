//! The receiving half.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::buf::RecvBuf;
use crate::op::{Descriptor, SharedRecvStream};

/// The receiving half of a connection that is polled: a [`RecvStream`](crate::op::RecvStream)
/// without a lifetime. Made by [`polled`](super::polled()).
///
/// Nothing is held while nothing comes. It may be dropped at any time under every
/// [policy](crate::DropPolicy); what was received and not handed out is lost then, as nothing else
/// receives from the connection.
#[derive(Debug)]
pub struct OwnedRecvStream {
    stream: SharedRecvStream,
    ended: bool,
}

impl OwnedRecvStream {
    pub(super) fn new(descriptor: Rc<Descriptor>) -> Self {
        OwnedRecvStream { stream: SharedRecvStream::new(descriptor), ended: false }
    }

    /// Receives the next buffer; `None` when the peer has ended its side. The task of the last poll
    /// is woken when there is one.
    ///
    /// # Errors
    /// As for [`RecvStream::recv`](crate::op::RecvStream::recv).
    ///
    /// # Panics
    /// If no context is running on this thread.
    ///
    /// # Examples
    /// See [`polled`](super::polled()).
    #[track_caller]
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<RecvBuf>>> {
        if self.ended {
            return Poll::Ready(Ok(None));
        }
        let received = std::task::ready!(self.stream.poll_recv(cx));
        self.ended = matches!(received, Ok(None));
        Poll::Ready(received)
    }

    /// Receives the next buffer, as [`poll_recv`](Self::poll_recv) does. What this returns may be
    /// dropped at any time: nothing is lost.
    ///
    /// # Examples
    /// ```
    /// # use corio::net::{UnixStream, polled};
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let (a, b) = UnixStream::pair()?;
    /// let (mut receiver, _sender) = polled(a);
    /// b.send_all("hi").await.0?;
    /// assert_eq!(receiver.recv().await?.as_deref(), Some(&b"hi"[..]));
    /// drop(b);
    /// assert!(receiver.recv().await?.is_none());
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn recv(&mut self) -> io::Result<Option<RecvBuf>> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }
}
