//! A connection's input: bytes that have come and are not used yet.

use std::io;
use std::time::Duration;

use corio::buf::IoBuf;
use corio::net::Stream;

/// What the buffer starts with; it grows up to the largest head that is allowed.
const INITIAL: usize = 4096;

/// One buffer for all of a connection's requests.
pub(crate) struct Input {
    buf: Vec<u8>,
    used: usize,
    limit: usize,
}

impl Input {
    /// At most `limit` bytes are held at a time.
    pub(crate) fn new(limit: usize) -> Self {
        Input { buf: Vec::with_capacity(INITIAL.min(limit)), used: 0, limit }
    }

    /// What has come and is not used.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buf[self.used..]
    }

    /// The first `len` bytes have served their purpose.
    pub(crate) fn consume(&mut self, len: usize) {
        self.used += len;
        if self.used == self.buf.len() {
            self.clear();
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.buf.clear();
        self.used = 0;
    }

    /// Waits for more; 0 bytes: there is no more.
    pub(crate) async fn fill(&mut self, stream: &Stream, limit: Duration) -> io::Result<usize> {
        self.buf.drain(..self.used);
        self.used = 0;
        let len = self.buf.len();
        if len == self.buf.capacity() {
            self.buf.reserve(len);
        }
        let part = std::mem::take(&mut self.buf).slice(len..self.limit.max(len));
        let (result, part) = stream.recv(part).with_timeout(limit).await;
        self.buf = part.into_inner();
        result
    }
}
