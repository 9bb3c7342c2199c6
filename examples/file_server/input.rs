//! A connection's input: bytes that were received and are not parsed yet.

use std::io;
use std::time::Duration;

use corio::buf::RecvBuf;
use corio::net::Stream;
use corio::op::RecvStream;

/// Received bytes. Holds no buffer while it is empty.
pub(crate) struct Input<'a> {
    incoming: RecvStream<'a>,
    /// The last received buffer, unless `kept` holds its bytes.
    last: Option<RecvBuf>,
    /// A head that was incomplete at the end of its buffer, and the bytes received after that.
    kept: Vec<u8>,
    /// Number of bytes at the start of the one or the other that are consumed.
    used: usize,
}

impl<'a> Input<'a> {
    pub(crate) fn new(stream: &'a Stream) -> Self {
        Input { incoming: stream.recv_stream(), last: None, kept: Vec::new(), used: 0 }
    }

    /// Returns the bytes that were received and not consumed.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.last.as_deref().unwrap_or(&self.kept)[self.used..]
    }

    /// Consumes the first `len` bytes.
    pub(crate) fn consume(&mut self, len: usize) {
        self.used += len;
        if self.bytes().is_empty() {
            self.clear();
        }
    }

    /// Discards everything.
    pub(crate) fn clear(&mut self) {
        (self.last, self.kept, self.used) = (None, Vec::new(), 0);
    }

    /// Receives more bytes; returns their number, 0 at end of stream.
    pub(crate) async fn fill(&mut self, limit: Duration) -> io::Result<usize> {
        // Keeping the received buffer would keep its whole block of the context's memory in use.
        match self.last.take() {
            Some(bytes) => self.kept.extend_from_slice(&bytes[self.used..]),
            None => drop(self.kept.drain(..self.used)),
        }
        self.used = 0;
        let Some(bytes) = self.incoming.recv().with_timeout(limit).await? else { return Ok(0) };
        let len = bytes.len();
        match self.kept.is_empty() {
            true => self.last = Some(bytes),
            false => self.kept.extend_from_slice(&bytes),
        }
        Ok(len)
    }
}
