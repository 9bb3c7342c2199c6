//! A ring server with one multishot receive per connection, into buffers that the kernel chooses.

// # Why this file has `unsafe`
// It pushes entries that name memory.

use std::collections::VecDeque;
use std::net::TcpStream;

use io_uring::{IoUring, cqueue, opcode, squeue};

use crate::Server;
use crate::pool::{GROUP, Pool};
use crate::ring::{Sockets, Token, check_sent, push, received, submit_and_wait};
use crate::single::send_now;
use crate::support;

/// The most parts of one send.
const PARTS: usize = 16;

#[derive(Clone, Copy)]
pub(crate) struct Options {
    /// The buffers' size.
    pub(crate) buffer: usize,
    /// The number of buffers; a power of two.
    pub(crate) count: u16,
    /// Receive bundles: one completion may stand for several buffers.
    pub(crate) bundles: bool,
    /// Send by `send(2)` instead of an entry.
    pub(crate) answer_at_once: bool,
    /// Answer all buffers received meanwhile together, with one entry.
    pub(crate) gather: bool,
    pub(crate) registered_files: bool,
    pub(crate) huge_pages: bool,
    /// Each buffer takes several receives, one after the other (`IOU_PBUF_RING_INC`).
    pub(crate) by_parts: bool,
}

/// The ring is the first field, so that it is dropped before the memory and the sockets.
pub(crate) struct Multishot {
    ring: IoUring,
    state: State,
}

struct State {
    sockets: Sockets,
    pool: Pool,
    options: Options,
    /// Never moved: the kernel reads the messages' heads in there.
    connections: Box<[Connection]>,
    /// The connections that may have something to send.
    touched: Vec<usize>,
    /// The connections whose receive ended as there was no free buffer.
    starved: Vec<usize>,
    open: usize,
    sends: usize,
}

struct Connection {
    /// The parts to send, in this order.
    parts: VecDeque<Part>,
    /// How many of the first parts the send in flight covers.
    sending: usize,
    vectors: [libc::iovec; PARTS],
    header: libc::msghdr,
}

#[derive(Clone, Copy)]
struct Part {
    id: u16,
    start: usize,
    len: usize,
}

impl Multishot {
    pub(crate) fn new(streams: Vec<TcpStream>, options: Options) -> Self {
        let ring = support::ring();
        // SAFETY: both go into the same struct, where the ring comes first and so is dropped first.
        let pool = unsafe {
            Pool::new(&ring, options.count, options.buffer, options.huge_pages, options.by_parts)
        };
        let pool = pool.expect("a pool of buffers");
        let connections = streams.iter().map(|_| Connection::new()).collect();
        let sockets = Sockets::new(&ring, streams, options.registered_files);
        let open = sockets.len();
        let state = State {
            sockets,
            pool,
            options,
            connections,
            touched: Vec::with_capacity(open),
            starved: Vec::new(),
            open,
            sends: 0,
        };
        Multishot { ring, state }
    }
}

impl Server for Multishot {
    fn run(&mut self) {
        let state = &mut self.state;
        let (mut submitter, mut sq, mut cq) = self.ring.split();
        submitter.register_ring_fd().unwrap();
        for index in 0..state.sockets.len() {
            // SAFETY: here and below, a receive names no memory but the pool, which the kernel
            // knows.
            unsafe { push(&mut sq, &state.receive(index)) };
        }
        while state.open > 0 || state.sends > 0 {
            sq.sync();
            submit_and_wait(&submitter, None, state.open);
            cq.sync();
            sq.sync();
            for done in &mut cq {
                if let Some(receive) = state.take_in(&done) {
                    // SAFETY: as above.
                    unsafe { push(&mut sq, &receive) };
                }
            }
            while let Some(index) = state.touched.pop() {
                if let Some(send) = state.send(index) {
                    // SAFETY: the bytes are in buffers that are given back only when this send has
                    // completed, the heads in the connection's place, which stays where it is and
                    // is written to again only for its next send.
                    unsafe { push(&mut sq, &send) };
                }
            }
            state.pool.publish();
            while state.pool.free() > 0
                && let Some(index) = state.starved.pop()
            {
                // SAFETY: as above.
                unsafe { push(&mut sq, &state.receive(index)) };
            }
        }
    }
}

impl State {
    fn receive(&self, index: usize) -> squeue::Entry {
        let fd = self.sockets.fd(index);
        let entry = if self.options.bundles {
            opcode::RecvMultiBundle::new(fd, GROUP).build()
        } else {
            opcode::RecvMulti::new(fd, GROUP).build()
        };
        self.sockets.finish(entry, Token::Receive { index })
    }

    /// Handles a completion. Returns the next receive if it was the last of a multishot receive.
    fn take_in(&mut self, done: &cqueue::Entry) -> Option<squeue::Entry> {
        let index = match Token::of(done) {
            Token::Send { index, len } => {
                check_sent(done, len);
                self.sends -= 1;
                let connection = &mut self.connections[index];
                for part in connection.parts.drain(..connection.sending) {
                    self.pool.give_back(part.id);
                }
                connection.sending = 0;
                self.touched.push(index);
                return None;
            }
            Token::Receive { index } => index,
        };
        if done.result() == -libc::ENOBUFS {
            self.starved.push(index);
            return None;
        }
        let Some(count) = received(done) else {
            self.open -= 1;
            return None;
        };
        let first = cqueue::buffer_select(done.flags()).expect("a buffer");
        let parts = &mut self.connections[index].parts;
        let goes_on = cqueue::buffer_more(done.flags());
        self.pool.take(first, count, goes_on, |id, start, len| {
            parts.push_back(Part { id, start, len });
        });
        self.touched.push(index);
        (!cqueue::more(done.flags())).then(|| self.receive(index))
    }

    /// Sends a connection's parts; returns the entry if one is needed.
    fn send(&mut self, index: usize) -> Option<squeue::Entry> {
        if self.connections[index].sending > 0 {
            return None;
        }
        if self.options.answer_at_once {
            self.send_at_once(index);
        }
        let most = if self.options.gather { PARTS } else { 1 };
        let connection = &mut self.connections[index];
        let fd = self.sockets.fd(index);
        let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        let (entry, len) = match connection.parts.len().min(most) {
            0 => return None,
            1 => {
                connection.sending = 1;
                let Part { id, start, len } = connection.parts[0];
                let bytes = self.pool.bytes(id, start, len).as_ptr();
                (opcode::Send::new(fd, bytes, len as u32).flags(flags).build(), len)
            }
            count => {
                connection.sending = count;
                let mut sum = 0;
                for (vector, part) in connection.vectors.iter_mut().zip(&connection.parts) {
                    let bytes = self.pool.bytes(part.id, part.start, part.len);
                    *vector = libc::iovec { iov_base: bytes.as_ptr().cast(), iov_len: part.len };
                    sum += part.len;
                }
                connection.header.msg_iov = connection.vectors.as_mut_ptr();
                connection.header.msg_iovlen = count as _;
                let header = &raw const connection.header;
                (opcode::SendMsg::new(fd, header).flags(flags as u32).build(), sum)
            }
        };
        self.sends += 1;
        Some(self.sockets.finish(entry, Token::Send { index, len }))
    }

    fn send_at_once(&mut self, index: usize) {
        let parts = &mut self.connections[index].parts;
        while let Some(part) = parts.front_mut() {
            let bytes = self.pool.bytes(part.id, part.start, part.len).as_ptr();
            // SAFETY: a part of a buffer that has been received into and not been given back, so
            // that the kernel leaves it alone.
            let bytes = unsafe { std::slice::from_raw_parts(bytes, part.len) };
            let sent = send_now(&self.sockets.streams[index], bytes);
            if sent < part.len {
                part.start += sent;
                part.len -= sent;
                return;
            }
            self.pool.give_back(part.id);
            parts.pop_front();
        }
    }
}

impl Connection {
    fn new() -> Self {
        Connection {
            parts: VecDeque::with_capacity(PARTS),
            sending: 0,
            vectors: [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; PARTS],
            // SAFETY: zeroes are an empty head.
            header: unsafe { std::mem::zeroed() },
        }
    }
}
