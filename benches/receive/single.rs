//! A ring server with one receive at a time per connection, into the connection's own buffer.

// # Why this file has `unsafe`
// It pushes entries that name memory, and lends such memory to system calls in between.

use std::io;
use std::mem::MaybeUninit;
use std::net::TcpStream;

use io_uring::{IoUring, cqueue, opcode, squeue};
use socket2::SockRef;

use crate::Server;
use crate::pages::Pages;
use crate::ring::{Sockets, Token, check_sent, push, received, submit_and_wait};
use crate::support;

/// `IORING_RECVSEND_POLL_FIRST` of `linux/io_uring.h`, which the io-uring crate does not export.
const POLL_FIRST: u16 = 1;
/// How many messages of one connection are handled in a row, so that the others get their turn.
const MOST_AT_ONCE: usize = 64;

#[derive(Clone, Copy)]
pub(crate) struct Options {
    /// The buffers' size.
    pub(crate) buffer: usize,
    pub(crate) answer: Answer,
    /// Receive only after the socket is reported as readable (`POLL_FIRST`).
    pub(crate) poll_first: bool,
    pub(crate) registered_files: bool,
    /// The time to wait for several completions, in microseconds.
    pub(crate) gather: Option<u32>,
    pub(crate) huge_pages: bool,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Answer {
    /// Sends by an entry.
    OnTheRing,
    /// Sends by `send(2)`.
    AtOnce,
    /// While a receive reports that the socket has more: calls `send(2)` and `recv(2)` until it has
    /// not.
    AtOnceWhileMoreWaits,
}

/// The ring is the first field, so that it is dropped before the memory and the sockets.
pub(crate) struct Single {
    ring: IoUring,
    connections: Connections,
}

struct Connections {
    sockets: Sockets,
    buffers: Pages,
    options: Options,
}

impl Single {
    pub(crate) fn new(streams: Vec<TcpStream>, options: Options) -> Self {
        let ring = support::ring();
        let buffers = Pages::new(streams.len() * options.buffer, options.huge_pages);
        let sockets = Sockets::new(&ring, streams, options.registered_files);
        Single { ring, connections: Connections { sockets, buffers, options } }
    }
}

impl Server for Single {
    fn run(&mut self) {
        let connections = &self.connections;
        let (mut submitter, mut sq, mut cq) = self.ring.split();
        submitter.register_ring_fd().unwrap();
        let mut open = connections.sockets.len();
        for index in 0..open {
            // SAFETY: here and below, an entry names its connection's buffer, which lives until the
            // ring is dropped, and a connection has one entry at a time.
            unsafe { push(&mut sq, &connections.receive(index)) };
        }
        while open > 0 {
            sq.sync();
            submit_and_wait(&submitter, connections.options.gather, open);
            cq.sync();
            sq.sync();
            for done in &mut cq {
                match connections.next(&done) {
                    // SAFETY: as above.
                    Some(entry) => unsafe { push(&mut sq, &entry) },
                    None => open -= 1,
                }
            }
        }
    }
}

impl Connections {
    fn receive(&self, index: usize) -> squeue::Entry {
        let buffer = self.buffer(index).as_ptr();
        let entry = opcode::Recv::new(self.sockets.fd(index), buffer, self.options.buffer as u32)
            .ioprio(if self.options.poll_first { POLL_FIRST } else { 0 })
            .build();
        self.sockets.finish(entry, Token::Receive { index })
    }

    /// Returns the entry that sends `len` bytes of the buffer, from `start`.
    fn send(&self, index: usize, start: usize, len: usize) -> squeue::Entry {
        let bytes = self.buffers.part(index * self.options.buffer + start, len);
        let entry = opcode::Send::new(self.sockets.fd(index), bytes.as_ptr(), len as u32)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build();
        self.sockets.finish(entry, Token::Send { index, len })
    }

    fn buffer(&self, index: usize) -> std::ptr::NonNull<u8> {
        self.buffers.part(index * self.options.buffer, self.options.buffer)
    }

    /// Returns the entry that follows a completion; `None` at the connection's end.
    fn next(&self, done: &cqueue::Entry) -> Option<squeue::Entry> {
        let index = match Token::of(done) {
            Token::Send { index, len } => {
                check_sent(done, len);
                return Some(self.receive(index));
            }
            Token::Receive { index } => index,
        };
        let count = received(done)?;
        match self.options.answer {
            Answer::AtOnce => {
                Some(self.send_at_once(index, count).unwrap_or_else(|| self.receive(index)))
            }
            Answer::AtOnceWhileMoreWaits if cqueue::sock_nonempty(done.flags()) => {
                self.answer_what_waits(index, count)
            }
            Answer::OnTheRing | Answer::AtOnceWhileMoreWaits => Some(self.send(index, 0, count)),
        }
    }

    /// Returns the entry that sends the rest, if the socket did not take everything.
    fn send_at_once(&self, index: usize, len: usize) -> Option<squeue::Entry> {
        // SAFETY: the first `len` bytes are the buffer's, all of it was written to when it was
        // mapped, and the connection has no entry in flight that could change them.
        let bytes = unsafe { std::slice::from_raw_parts(self.buffer(index).as_ptr(), len) };
        let sent = send_now(&self.sockets.streams[index], bytes);
        (sent < len).then(|| self.send(index, sent, len - sent))
    }

    fn answer_what_waits(&self, index: usize, mut count: usize) -> Option<squeue::Entry> {
        for _ in 0..MOST_AT_ONCE {
            if let Some(rest) = self.send_at_once(index, count) {
                return Some(rest);
            }
            let buffer = self.buffer(index).as_ptr().cast::<MaybeUninit<u8>>();
            // SAFETY: the connection's buffer, with no entry in flight that uses it, and no other
            // slice: that of `send_at_once` has ended.
            let buffer = unsafe { std::slice::from_raw_parts_mut(buffer, self.options.buffer) };
            let socket = SockRef::from(&self.sockets.streams[index]);
            count = match socket.recv_with_flags(buffer, libc::MSG_DONTWAIT) {
                Ok(0) => return None,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Some(self.receive(index));
                }
                Err(error) => panic!("a receive failed: {error}"),
            };
        }
        Some(self.send(index, 0, count))
    }
}

/// Sends without waiting; returns how many bytes the socket took.
pub(crate) fn send_now(stream: &TcpStream, bytes: &[u8]) -> usize {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    match SockRef::from(stream).send_with_flags(bytes, flags) {
        Ok(count) => count,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        Err(error) => panic!("a send failed: {error}"),
    }
}
