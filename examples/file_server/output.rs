//! A connection's output: heads and small files are gathered in a buffer, large files go straight
//! from the page cache.
//!
//! The time limit is one on progress: a client may be slow, as long as it accepts some bytes within
//! each limit.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use corio::buf::IoBuf;
use corio::fs::File;
use corio::net::Stream;
use corio::op::{AsyncSend, Incomplete};
use corio::server::ConnectionContext;

use super::Server;

/// Gathered bytes are sent when there are this many.
const FULL: usize = 64 << 10;

/// Files up to this length are read along with their head: one segment, and one system call less.
const SMALL: u64 = 16 << 10;

pub(crate) struct Output<'s> {
    stream: &'s Stream,
    buf: Vec<u8>,
    limit: Duration,
}

impl<'s> Output<'s> {
    /// `limit` is how long the peer may accept no byte.
    pub(crate) fn new(stream: &'s Stream, limit: Duration) -> Self {
        Output { stream, buf: Vec::new(), limit }
    }

    /// The same, with the server's limit.
    pub(crate) fn of(stream: &'s Stream, ctx: &ConnectionContext<Rc<Server>>) -> Self {
        Self::new(stream, ctx.state().options.write_timeout)
    }

    /// Returns the buffer whose bytes the next [`flush`](Self::flush) sends.
    pub(crate) fn buf(&mut self) -> &mut Vec<u8> {
        &mut self.buf
    }

    /// Sends what has been gathered.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        self.send(0).await
    }

    /// Sends the gathered bytes if there are many; otherwise those of the next response may join
    /// them.
    pub(crate) async fn settle(&mut self) -> io::Result<()> {
        if self.buf.len() >= FULL { self.flush().await } else { Ok(()) }
    }

    /// Adds `len` bytes of a file. If the file turns out to be shorter, the error is
    /// `UnexpectedEof`.
    pub(crate) async fn file(&mut self, file: &File, offset: u64, len: u64) -> io::Result<()> {
        if len <= SMALL {
            return self.read(file, offset, len as usize).await;
        }
        // The head waits in the kernel for the body's first bytes.
        self.send(libc::MSG_MORE).await?;
        let (mut offset, mut left) = (offset, len);
        loop {
            let sending = self.stream.send_file(file, offset, left).with_timeout(self.limit);
            let Err(error) = sending.await else { return Ok(()) };
            match Incomplete::of(&error) {
                Some(part) if error.kind() == io::ErrorKind::TimedOut && part.moved > 0 => {
                    offset += part.moved;
                    left -= part.moved;
                }
                _ => return Err(error),
            }
        }
    }

    /// Adds a page. A long one is not copied.
    pub(crate) async fn page(&mut self, page: String) -> io::Result<()> {
        if page.len() <= FULL {
            self.buf.extend_from_slice(page.as_bytes());
            return Ok(());
        }
        self.send(libc::MSG_MORE).await?;
        self.buf = page.into_bytes();
        self.flush().await
    }

    async fn read(&mut self, file: &File, offset: u64, len: usize) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        let at = self.buf.len();
        self.buf.reserve(len);
        let part = std::mem::take(&mut self.buf).slice(at..at + len);
        let (result, part) = file.read_exact_at(part, offset).await;
        self.buf = part.into_inner();
        if result.is_err() {
            // The length in the head can't be kept: send what there is before the connection ends.
            self.flush().await?;
        }
        result
    }

    async fn send(&mut self, flags: i32) -> io::Result<()> {
        let mut sent = 0;
        while sent < self.buf.len() {
            let part = std::mem::take(&mut self.buf).slice(sent..);
            let sending = AsyncSend::with_flags(self.stream, part, flags);
            let (result, part) = sending.with_timeout(self.limit).await;
            self.buf = part.into_inner();
            sent += result?;
        }
        self.buf.clear();
        // Frees the memory of a long listing.
        self.buf.shrink_to(2 * FULL);
        Ok(())
    }
}
