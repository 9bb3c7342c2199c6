//! A bare loop on a ring: the bound for a runtime on io_uring.

// # Why this file has `unsafe`
// It queues entries that point to memory, and takes ownership of accepted fds.

use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use io_uring::squeue::Entry;
use io_uring::{IoUring, opcode, types};

use super::peer::Peer;
use crate::block::Block;
use crate::http;
use crate::program::{BLOCK, Done, Reads, Stopwatch, check_block};

pub(super) fn peers() -> Vec<Peer> {
    vec![Peer {
        name: "bare io_uring",
        settings: "single issuer, deferred task run",
        echo,
        http: hello,
        files: None,
        reads: Some(reads),
        copy: None,
        tasks: None,
    }]
}

fn ring() -> IoUring {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_cqsize(32768)
        .build(4096)
        .expect("a ring can be made")
}

/// A connection, which has either a receive or a send in flight.
struct Connection {
    socket: OwnedFd,
    input: Vec<u8>,
    output: Vec<u8>,
    sent: usize,
}

const ACCEPT: u64 = u64::MAX;

fn echo(listener: TcpListener, buffer: usize) {
    // Send the received bytes: swap the buffers.
    serve(&listener, buffer, std::mem::swap);
}

fn hello(listener: TcpListener) {
    serve(&listener, 4096, http::answer_hello);
}

fn serve(listener: &TcpListener, buffer: usize, answer: fn(&mut Vec<u8>, &mut Vec<u8>)) {
    let mut ring = ring();
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let accept = opcode::Accept::new(
        types::Fd(listener.as_raw_fd()),
        std::ptr::null_mut(),
        std::ptr::null_mut(),
    )
    .build()
    .user_data(ACCEPT);
    let mut queue = vec![accept.clone()];
    loop {
        for entry in queue.drain(..) {
            // SAFETY: an entry points to a buffer of its connection, which is neither moved nor
            // freed before the entry's completion.
            while unsafe { ring.submission().push(&entry) }.is_err() {
                ring.submit().expect("entries are taken");
            }
        }
        ring.submit_and_wait(1).expect("the ring waits");
        for completion in ring.completion() {
            let (id, result) = (completion.user_data(), completion.result());
            if id == ACCEPT {
                if result < 0 {
                    return;
                }
                // SAFETY: the accept has returned a new fd, which nothing else owns.
                let socket = unsafe { OwnedFd::from_raw_fd(result) };
                let slot =
                    connections.iter().position(Option::is_none).unwrap_or(connections.len());
                if slot == connections.len() {
                    connections.push(None);
                }
                let connection = connections[slot].insert(Connection {
                    socket,
                    input: Vec::with_capacity(buffer),
                    output: Vec::with_capacity(buffer),
                    sent: 0,
                });
                queue.extend([connection.receive(slot), accept.clone()]);
                continue;
            }
            let (slot, sends) = (id as usize / 2, id % 2 == 1);
            let connection = connections[slot].as_mut().expect("it has something in flight");
            if result <= 0 {
                connections[slot] = None;
                continue;
            }
            queue.push(if sends {
                connection.sent += result as usize;
                if connection.sent < connection.output.len() {
                    connection.send(slot)
                } else {
                    connection.input.clear();
                    connection.receive(slot)
                }
            } else {
                // SAFETY: the kernel has written this number of bytes to the buffer.
                unsafe { connection.input.set_len(result as usize) };
                connection.output.clear();
                connection.sent = 0;
                answer(&mut connection.input, &mut connection.output);
                connection.send(slot)
            });
        }
    }
}

impl Connection {
    fn receive(&mut self, slot: usize) -> Entry {
        let fd = types::Fd(self.socket.as_raw_fd());
        opcode::Recv::new(fd, self.input.as_mut_ptr(), self.input.capacity() as u32)
            .build()
            .user_data(slot as u64 * 2)
    }

    fn send(&self, slot: usize) -> Entry {
        let fd = types::Fd(self.socket.as_raw_fd());
        let rest = &self.output[self.sent..];
        opcode::Send::new(fd, rest.as_ptr(), rest.len() as u32)
            .build()
            .user_data(slot as u64 * 2 + 1)
    }
}

fn reads(reads: Reads) -> Done {
    let mut ring = ring();
    let file = reads.open();
    let mut readers: Vec<_> =
        (0..reads.depth).map(|reader| (Block::new(), reads.blocks(reader), 0)).collect();
    let watch = Stopwatch::start();
    let mut next: Vec<usize> = (0..readers.len()).collect();
    let mut in_flight = 0;
    loop {
        for index in next.drain(..) {
            let (buf, blocks, current) = &mut readers[index];
            let Some(block) = blocks.next() else { continue };
            *current = block;
            let fd = types::Fd(file.as_raw_fd());
            let entry = opcode::Read::new(fd, buf.bytes_mut().as_mut_ptr(), BLOCK as u32)
                .offset(block * BLOCK as u64)
                .build()
                .user_data(index as u64);
            // SAFETY: the reader's buffer is neither freed nor accessed before the completion.
            unsafe { ring.submission().push(&entry) }.expect("there is room for all readers");
            in_flight += 1;
        }
        if in_flight == 0 {
            return watch.stop(reads.count());
        }
        ring.submit_and_wait(1).expect("the ring waits");
        for completion in ring.completion() {
            let index = completion.user_data() as usize;
            let (buf, _, block) = &readers[index];
            let len = usize::try_from(completion.result()).expect("a read works");
            check_block(&buf.bytes()[..len], *block);
            in_flight -= 1;
            next.push(index);
        }
    }
}
