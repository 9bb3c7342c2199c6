//! A connection's input: bytes that have come and are not used yet.

use std::io;
use std::time::Duration;

use corio::buf::RecvBuf;
use corio::net::Stream;
use corio::op::RecvStream;

/// Takes no memory while there is nothing in it.
pub(crate) struct Input<'a> {
    chunks: RecvStream<'a>,
    /// What came last, unless it is the continuation of what is kept.
    chunk: Option<RecvBuf>,
    /// Something whose end had not come with it, and what came after that.
    kept: Vec<u8>,
    /// So many bytes of the one or the other have served their purpose.
    used: usize,
}

impl<'a> Input<'a> {
    pub(crate) fn new(stream: &'a Stream) -> Self {
        Input { chunks: stream.recv_stream(), chunk: None, kept: Vec::new(), used: 0 }
    }

    /// What has come and is not used.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.chunk.as_deref().unwrap_or(&self.kept)[self.used..]
    }

    /// The first `len` bytes have served their purpose.
    pub(crate) fn consume(&mut self, len: usize) {
        self.used += len;
        if self.bytes().is_empty() {
            self.clear();
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        (self.chunk, self.kept, self.used) = (None, Vec::new(), 0);
    }

    /// Waits for more; 0 bytes: there is no more.
    pub(crate) async fn fill(&mut self, limit: Duration) -> io::Result<usize> {
        // A chunk that waits for its continuation would hold back more memory than its own.
        match self.chunk.take() {
            Some(chunk) => self.kept.extend_from_slice(&chunk[self.used..]),
            None => drop(self.kept.drain(..self.used)),
        }
        self.used = 0;
        let Some(chunk) = self.chunks.recv().with_timeout(limit).await? else { return Ok(0) };
        let len = chunk.len();
        match self.kept.is_empty() {
            true => self.chunk = Some(chunk),
            false => self.kept.extend_from_slice(&chunk),
        }
        Ok(len)
    }
}
