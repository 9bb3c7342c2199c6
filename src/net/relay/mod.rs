//! Copying between two connections in both directions.

mod limits;
mod pair;
mod transfer;

use std::io;

pub use limits::RelayLimits;
use pair::Pair;

#[cfg(unix)]
use super::UnixStream;
use super::{Stream, TcpStream};
use crate::op::Descriptor;

/// A connected stream socket: [`TcpStream`], [`UnixStream`] or [`Stream`]; sealed.
///
/// # Examples
/// ```
/// use corio::net::{StreamSocket, UnixStream, relay};
/// async fn proxy(client: impl StreamSocket, upstream: &UnixStream) -> std::io::Result<u64> {
///     let (sent, received) = relay(&client, upstream).await?;
///     Ok(sent + received)
/// }
/// ```
#[allow(private_bounds)]
pub trait StreamSocket: HasDescriptor {}

/// The sealed part of [`StreamSocket`].
pub(crate) trait HasDescriptor {
    fn descriptor(&self) -> &Descriptor;
}

macro_rules! stream_sockets {
    ($($(#[$attr:meta])* $ty:ty),+ $(,)?) => {$(
        $(#[$attr])*
        impl StreamSocket for $ty {}

        $(#[$attr])*
        impl HasDescriptor for $ty {
            fn descriptor(&self) -> &Descriptor {
                &self.0
            }
        }
    )+};
}

stream_sockets!(
    TcpStream,
    Stream,
    #[cfg(unix)]
    UnixStream
);

/// Copies bytes between two connections in both directions until both have ended; returns how many
/// went from `a` to `b`, and from `b` to `a`.
///
/// When one side shuts its sending side down, so does the relay towards the other, after all bytes
/// before it ([`shutdown(2)`](https://man7.org/linux/man-pages/man2/shutdown.2.html)), and the
/// other direction goes on. If nothing moves in that one for 60 s, the relay ends; while both are
/// open, it waits for ever. [`relay_with`] takes other limits.
///
/// On Linux the bytes move by
/// [`splice(2)`](https://man7.org/linux/man-pages/man2/splice.2.html), without a copy through user
/// space, which takes four fds; elsewhere, or where that is refused or the process has no fds for
/// pipes, through a buffer of 64 KiB per direction. An urgent byte (`MSG_OOB`) is not relayed; what
/// follows it is.
///
/// A side that takes no more bytes may still have sent some, such as the answer of a server that
/// does not want to receive all of a request. So when a send fails, the relay delivers what that
/// side sends until its end, and discards what the other one sends meanwhile. Only then it returns
/// the error, after TCP peers have acknowledged (on Linux) what was sent to them, which may take as
/// long as they go on receiving.
///
/// A relay that ends early, by an error, a time limit or because it is dropped, makes both sockets
/// reset their connection when they are closed (`SO_LINGER` of 0 s; Unix sockets have no resets),
/// so that neither side takes what it has got for the whole. Bytes in transit are lost then.
///
/// Bytes that a receive stream of `a` or `b` has received and left are relayed first.
///
/// # Errors
/// The first error of either side; `TimedOut`, by [`Elapsed`](crate::Elapsed), if nothing has moved
/// for too long.
///
/// # Examples
/// ```
/// use corio::net::relay;
/// # use corio::net::UnixStream;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// # let ((client, a), (b, server)) = (UnixStream::pair()?, UnixStream::pair()?);
/// let task = corio::spawn(async move { relay(&a, &b).await });
/// client.send_all("a question").await.0?;
/// client.shutdown(std::net::Shutdown::Write).await?;
/// let (result, question) = server.recv_exact(vec![0; 10]).await;
/// result?;
/// assert_eq!(question, b"a question");
/// server.send_all("an answer").await.0?;
/// drop(server);
/// assert_eq!(task.await.unwrap()?, (10, 9));
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "copy_bidirectional")]
#[doc(alias = "splice")]
pub async fn relay<A, B>(a: &A, b: &B) -> io::Result<(u64, u64)>
where
    A: StreamSocket + ?Sized,
    B: StreamSocket + ?Sized,
{
    Pair::new(a.descriptor(), b.descriptor()).run(RelayLimits::new()).await
}

/// The same as [`relay`], with other time limits.
///
/// # Errors
/// As for [`relay`].
///
/// # Examples
/// ```
/// use std::io;
/// use std::time::Duration;
/// use corio::net::{RelayLimits, TcpStream, relay_with};
///
/// async fn proxy(client: &TcpStream, upstream: &TcpStream) -> io::Result<()> {
///     let limits = RelayLimits::new().idle(Duration::from_secs(600));
///     relay_with(client, upstream, limits).await?;
///     Ok(())
/// }
/// ```
pub async fn relay_with<A, B>(a: &A, b: &B, limits: RelayLimits) -> io::Result<(u64, u64)>
where
    A: StreamSocket + ?Sized,
    B: StreamSocket + ?Sized,
{
    Pair::new(a.descriptor(), b.descriptor()).run(limits).await
}
