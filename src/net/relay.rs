//! Two connections joined to one.

use std::cell::Cell;
use std::io;
use std::net::Shutdown;

use super::Stream;
#[cfg(target_os = "linux")]
use crate::op::AsyncSplice;
#[cfg(target_os = "linux")]
use crate::os;
use crate::task::{RaceOutput, race};

/// How much is moved in one go; a pipe holds as much by default.
const CHUNK: usize = 64 * 1024;

/// Joins two connections: what comes from one is sent to the other, in both directions at once,
/// until both have ended. Gives how many bytes went from `a` to `b`, and from `b` to `a`.
///
/// When one side ends its sending, the other is told, after everything before that
/// ([`shutdown(2)`](https://man7.org/linux/man-pages/man2/shutdown.2.html)), and the other direction
/// goes on. On Linux the bytes move by
/// [`splice(2)`](https://man7.org/linux/man-pages/man2/splice.2.html), without a copy through user
/// space; elsewhere, or when that is refused or the process has no fds for pipes, through a buffer
/// of 64 KiB per direction.
///
/// What is on its way when the relay ends early, by an error or because it is dropped, is lost.
///
/// # Errors
/// The first error of either side; the other direction is cancelled then.
///
/// # Examples
/// ```
/// use corio::net::{Stream, relay};
/// # use corio::net::UnixStream;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// # let ((client, a), (b, server)) = (UnixStream::pair()?, UnixStream::pair()?);
/// # let (a, b) = (Stream::from(a), Stream::from(b));
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
pub async fn relay(a: &Stream, b: &Stream) -> io::Result<(u64, u64)> {
    let (there, back) = (Cell::new(0), Cell::new(0));
    let under_way = Cell::new(2);
    // The first error ends the race, and else the last end.
    let direction = async |from: &Stream, to: &Stream, moved: &Cell<u64>| -> io::Result<()> {
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

/// One direction, to its end.
async fn forward(from: &Stream, to: &Stream) -> io::Result<u64> {
    let moved = transfer(from, to).await?;
    match to.shutdown(Shutdown::Write).await {
        // It is gone as a whole: that is told by what is received from it.
        Err(error) if error.kind() != io::ErrorKind::NotConnected => Err(error),
        _ => Ok(moved),
    }
}

#[cfg(target_os = "linux")]
async fn transfer(from: &Stream, to: &Stream) -> io::Result<u64> {
    let Ok((reader, writer)) = os::pipe() else {
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

/// Nothing to be spliced from, such as a socket that decrypts; or a sandbox that knows no such call.
#[cfg(target_os = "linux")]
fn is_refused(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::EPERM))
}

#[cfg(not(target_os = "linux"))]
async fn transfer(from: &Stream, to: &Stream) -> io::Result<u64> {
    through_buffer(from, to).await
}

async fn through_buffer(from: &Stream, to: &Stream) -> io::Result<u64> {
    let mut moved = 0;
    let mut buf = Vec::with_capacity(CHUNK);
    loop {
        let (result, received) = from.recv(buf).await;
        let len = result?;
        if len == 0 {
            return Ok(moved);
        }
        let (result, sent) = to.send_all(received).await;
        result?;
        moved += len as u64;
        buf = sent;
    }
}
