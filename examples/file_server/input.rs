//! A connection's input: bytes that were received and are not parsed yet.

use std::time::Duration;

use corio::buf::RecvBuf;
use corio::net::Stream;
use corio::op::{RecvProvided, RecvStream, WithTimeout};

/// Received bytes. Holds no buffer while it is empty.
pub(crate) struct Input<'a> {
    incoming: RecvStream<'a>,
    held: Held,
    /// Number of bytes at the start of those held that are consumed.
    used: usize,
}

enum Held {
    /// The last received buffer.
    Last(RecvBuf),
    /// A head that was incomplete at the end of its buffer, and the bytes received after that.
    Kept(Vec<u8>),
}

impl<'a> Input<'a> {
    pub(crate) fn new(stream: &'a Stream) -> Self {
        Input { incoming: stream.recv_stream(), held: Held::Kept(Vec::new()), used: 0 }
    }

    /// Returns the bytes that were received and not consumed.
    pub(crate) fn bytes(&self) -> &[u8] {
        let held = match &self.held {
            Held::Last(bytes) => bytes,
            Held::Kept(bytes) => &bytes[..],
        };
        &held[self.used..]
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
        (self.held, self.used) = (Held::Kept(Vec::new()), 0);
    }

    /// Receives more bytes, which are to be [added](Self::add); `None` at the end of the stream.
    ///
    /// It may be dropped in flight.
    pub(crate) fn receive(&mut self, limit: Duration) -> WithTimeout<RecvProvided<'_>> {
        // Keeping the received buffer would keep its whole block of the context's memory in use.
        match &mut self.held {
            Held::Last(bytes) => self.held = Held::Kept(bytes[self.used..].to_vec()),
            Held::Kept(bytes) => drop(bytes.drain(..self.used)),
        }
        self.used = 0;
        self.incoming.recv().with_timeout(limit)
    }

    /// Adds received bytes.
    pub(crate) fn add(&mut self, bytes: RecvBuf) {
        match &mut self.held {
            Held::Kept(kept) if !kept.is_empty() => kept.extend_from_slice(&bytes),
            _ => (self.held, self.used) = (Held::Last(bytes), 0),
        }
    }
}
