//! Moving the bytes of one direction, by a pipe or through a buffer.

use std::cell::Cell;
use std::io;

use crate::driver::seams::sockets;
#[cfg(target_os = "linux")]
use crate::op::{AsyncRead, AsyncSplice};
use crate::op::{AsyncRecv, AsyncSendAll, Descriptor};
#[cfg(target_os = "linux")]
use crate::os;
use crate::os::AsFd;

/// The most bytes that are moved at once; a pipe holds as many by default.
const CHUNK: usize = 64 * 1024;

/// An error, and the side that it came from.
pub(super) enum Failure {
    Receive(io::Error),
    Send(io::Error),
}

/// Moves bytes until the sender's end, and counts those that the receiver has taken.
pub(super) async fn transfer(
    from: &Descriptor,
    to: &Descriptor,
    moved: &Cell<u64>,
) -> Result<(), Failure> {
    copy_all(from, to, moved).await?;
    // Its error may have gone to a send of the other direction, even to one that has succeeded: a
    // splice whose second half fails returns the first.
    match sockets::was_reset(from.as_fd()) {
        true => Err(Failure::Receive(io::ErrorKind::ConnectionReset.into())),
        false => Ok(()),
    }
}

async fn copy_all(from: &Descriptor, to: &Descriptor, moved: &Cell<u64>) -> Result<(), Failure> {
    #[cfg(target_os = "linux")]
    if let Ok(pipe) = Pipe::new() {
        if by_pipe(from, to, &pipe, moved).await? == Spliced::All {
            return Ok(());
        }
    }
    let mut buf = Vec::with_capacity(CHUNK);
    loop {
        let len;
        (len, buf) = through(buf, from, to, moved).await?;
        if len == 0 {
            return Ok(());
        }
    }
}

/// Receives once, and sends that; returns its length, 0 at the end.
async fn through(
    buf: Vec<u8>,
    from: &Descriptor,
    to: &Descriptor,
    moved: &Cell<u64>,
) -> Result<(usize, Vec<u8>), Failure> {
    let (received, buf) = AsyncRecv::new(from, buf).await;
    match received.map_err(Failure::Receive)? {
        0 => Ok((0, buf)),
        _ => send(buf, to, moved).await,
    }
}

async fn send(
    buf: Vec<u8>,
    to: &Descriptor,
    moved: &Cell<u64>,
) -> Result<(usize, Vec<u8>), Failure> {
    let (sent, buf) = AsyncSendAll::new(to, buf).await;
    sent.map_err(Failure::Send)?;
    moved.set(moved.get() + buf.len() as u64);
    Ok((buf.len(), buf))
}

/// Receives and discards until the end.
pub(super) async fn discard(from: &Descriptor) -> io::Result<()> {
    let mut buf = Vec::with_capacity(CHUNK);
    loop {
        let received;
        (received, buf) = AsyncRecv::new(from, buf).await;
        if received? == 0 {
            return Ok(());
        }
    }
}

/// A pipe: the way from socket to socket within the kernel.
#[cfg(target_os = "linux")]
struct Pipe {
    reader: Descriptor,
    writer: Descriptor,
}

/// How far a transfer by a pipe has come.
#[cfg(target_os = "linux")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spliced {
    /// To the end.
    All,
    /// To where a splice was refused; the pipe is empty.
    Part,
}

#[cfg(target_os = "linux")]
impl Pipe {
    fn new() -> io::Result<Self> {
        let (reader, writer) = sockets::pipe()?;
        Ok(Pipe { reader: Descriptor::pipe(reader), writer: Descriptor::pipe(writer) })
    }
}

#[cfg(target_os = "linux")]
async fn by_pipe(
    from: &Descriptor,
    to: &Descriptor,
    pipe: &Pipe,
    moved: &Cell<u64>,
) -> Result<Spliced, Failure> {
    loop {
        let mut held = match AsyncSplice::into_pipe(from, &pipe.writer, CHUNK).await {
            Ok(0) => return Ok(Spliced::All),
            Ok(held) => held,
            Err(error) if is_refused(&error) => return Ok(Spliced::Part),
            Err(error) if error.raw_os_error() == Some(os::EBADMSG) => {
                // Only a receive passes urgent data.
                let buf = Vec::with_capacity(CHUNK);
                match through(buf, from, to, moved).await?.0 {
                    0 => return Ok(Spliced::All),
                    _ => continue,
                }
            }
            Err(error) => return Err(Failure::Receive(error)),
        };
        while held > 0 {
            match AsyncSplice::out_of_pipe(&pipe.reader, to, held).await {
                Ok(0) => return Err(Failure::Send(io::ErrorKind::WriteZero.into())),
                Ok(sent) => {
                    held -= sent;
                    moved.set(moved.get() + sent as u64);
                }
                Err(error) if is_refused(&error) => {
                    let buf = Vec::with_capacity(held);
                    let (read, buf) = AsyncRead::at_position(&pipe.reader, buf).await;
                    read.map_err(Failure::Receive)?;
                    held -= buf.len();
                    send(buf, to, moved).await?;
                    if held == 0 {
                        return Ok(Spliced::Part);
                    }
                }
                Err(error) => return Err(Failure::Send(error)),
            }
        }
    }
}

/// Returns `true` if the sockets cannot be spliced, such as one that encrypts, or a sandbox forbids
/// the call.
#[cfg(target_os = "linux")]
fn is_refused(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(os::EINVAL | os::ENOSYS | os::EPERM))
}
