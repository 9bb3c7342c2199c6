//! Connections for code that polls, lends slices and drops futures half-way: frameworks that were
//! written for readiness.
//!
//! A connection has two halves. [`OwnedRecvStream`] hands out received memory, and [`SendQueue`]
//! takes bytes to be sent. Neither has a lifetime, and both may be dropped at any time.

mod recv;
mod send;
mod spare;

pub use recv::OwnedRecvStream;
pub use send::SendQueue;

use std::rc::Rc;

use super::Stream;

/// Makes a connection that is polled: its receiving and its sending half.
///
/// # Examples
/// ```
/// use std::future::poll_fn;
/// use std::io::IoSlice;
/// use std::pin::pin;
/// use corio::net::{UnixStream, polled};
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let (a, b) = UnixStream::pair()?;
/// let (mut receiver, mut sender) = polled(a);
/// let hello = [IoSlice::new(b"hello, "), IoSlice::new(b"world")];
/// assert_eq!(poll_fn(|cx| sender.poll_write(cx, &hello)).await?, 12);
/// poll_fn(|cx| sender.poll_close(cx)).await?;
/// let (result, text) = b.recv_exact([0; 12]).await;
/// result?;
/// assert_eq!(&text, b"hello, world");
/// b.send_all("hi").await.0?;
/// let received = poll_fn(|cx| receiver.poll_recv(cx)).await?;
/// assert_eq!(received.as_deref(), Some(&b"hi"[..]));
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "into_split")]
pub fn polled(stream: impl Into<Stream>) -> (OwnedRecvStream, SendQueue) {
    let descriptor = Rc::new(stream.into().0);
    (OwnedRecvStream::new(descriptor.clone()), SendQueue::new(descriptor))
}
