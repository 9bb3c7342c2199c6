//! Copying between two connections in both directions.

use std::cell::Cell;
use std::io;
use std::net::Shutdown;

#[cfg(unix)]
use super::UnixStream;
use super::{Stream, TcpStream};
#[cfg(target_os = "linux")]
use crate::driver::seams::sockets;
#[cfg(target_os = "linux")]
use crate::op::AsyncSplice;
use crate::op::{AsyncRecv, AsyncSendAll, AsyncShutdown, Descriptor};
#[cfg(target_os = "linux")]
use crate::os;
use crate::task::{RaceOutput, race};

/// The most bytes that are moved at once; a pipe holds as many by default.
const CHUNK: usize = 64 * 1024;

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
/// other direction goes on. On Linux the bytes move by
/// [`splice(2)`](https://man7.org/linux/man-pages/man2/splice.2.html), without a copy through user
/// space; elsewhere, or where that is refused or the process has no fds for pipes, through a buffer
/// of 64 KiB per direction.
///
/// Bytes in transit are lost when the relay ends early, by an error or because it is dropped. Bytes
/// that a received stream of `a` or `b` has taken are not relayed.
///
/// # Errors
/// The first error of either side; the other direction is cancelled then.
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
    join(a.descriptor(), b.descriptor()).await
}

async fn join(a: &Descriptor, b: &Descriptor) -> io::Result<(u64, u64)> {
    let (there, back) = (Cell::new(0), Cell::new(0));
    let under_way = Cell::new(2);
    // The race ends with the first error, or else with the second direction.
    let direction =
        async |from: &Descriptor, to: &Descriptor, moved: &Cell<u64>| -> io::Result<()> {
            moved.set(forward(from, to).await?);
            under_way.set(under_way.get() - 1);
            if under_way.get() > 0 {
                std::future::pending::<()>().await;
            }
            Ok(())
        };
    match race(direction(a, b, &there), direction(b, a, &back)).await {
        RaceOutput::First(result, _) | RaceOutput::Second(_, result) => result?,
    }
    Ok((there.get(), back.get()))
}

/// Copies one direction until its end, and shuts the receiver's side down.
async fn forward(from: &Descriptor, to: &Descriptor) -> io::Result<u64> {
    let moved = transfer(from, to).await?;
    match AsyncShutdown::new(to, Shutdown::Write).await {
        // The connection is gone: the other direction ends too.
        Err(error) if error.kind() != io::ErrorKind::NotConnected => Err(error),
        _ => Ok(moved),
    }
}

#[cfg(target_os = "linux")]
async fn transfer(from: &Descriptor, to: &Descriptor) -> io::Result<u64> {
    let Ok((reader, writer)) = sockets::pipe() else {
        return through_buffer(from, to).await;
    };
    let mut moved = 0;
    loop {
        let mut held = match AsyncSplice::into_pipe(from, &writer, CHUNK).await {
            Err(error) if moved == 0 && is_refused(&error) => {
                return through_buffer(from, to).await;
            }
            held => held?,
        };
        if held == 0 {
            return Ok(moved);
        }
        while held > 0 {
            let sent = AsyncSplice::out_of_pipe(&reader, to, held).await?;
            if sent == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            held -= sent;
            moved += sent as u64;
        }
    }
}

/// Returns `true` if the socket can't be spliced from, such as one that decrypts, or a sandbox
/// forbids the call.
#[cfg(target_os = "linux")]
fn is_refused(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(os::EINVAL | os::ENOSYS | os::EPERM))
}

#[cfg(not(target_os = "linux"))]
async fn transfer(from: &Descriptor, to: &Descriptor) -> io::Result<u64> {
    through_buffer(from, to).await
}

async fn through_buffer(from: &Descriptor, to: &Descriptor) -> io::Result<u64> {
    let mut moved = 0;
    let mut buf = Vec::with_capacity(CHUNK);
    loop {
        let (result, received) = AsyncRecv::new(from, buf).await;
        let len = result?;
        if len == 0 {
            return Ok(moved);
        }
        let (result, sent) = AsyncSendAll::new(to, received).await;
        result?;
        moved += len as u64;
        buf = sent;
    }
}
