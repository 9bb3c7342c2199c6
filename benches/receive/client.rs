//! The two clients: each keeps one message per connection in flight, and compares the echo with it.

// # Why this file has `unsafe`
// The ring's entries name memory.

use std::io::{self, Read, Write};
use std::mem::ManuallyDrop;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use io_uring::{opcode, squeue, types};

use crate::epoll::Epoll;
use crate::ring::{Sockets, Token, check_sent, push, received};
use crate::support;

/// How long a client waits for an answer before it fails. The servers have no limits of their own:
/// they end when the client does.
const LIMIT: Duration = Duration::from_secs(10);

#[derive(Clone, Copy)]
pub(crate) enum Client {
    Ring,
    Epoll,
}

impl Client {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Client::Ring => "ring",
            Client::Epoll => "epoll",
        }
    }

    /// Sends messages of `size` bytes for `length`; returns how many were answered, and how long
    /// that took.
    pub(crate) fn run(
        self,
        streams: Vec<TcpStream>,
        size: usize,
        length: Duration,
    ) -> (u64, Duration) {
        let messages: Vec<Vec<u8>> = (0..streams.len()).map(|index| message(index, size)).collect();
        match self {
            Client::Ring => run_on_ring(streams, &messages, length),
            Client::Epoll => run_on_epoll(streams, &messages, length),
        }
    }
}

pub(crate) fn connect(address: SocketAddr, connections: usize) -> Vec<TcpStream> {
    let connect = |_| {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        support::control_congestion(&stream);
        stream
    };
    (0..connections).map(connect).collect()
}

/// Returns a message whose bytes differ between connections, and between its parts.
fn message(index: usize, size: usize) -> Vec<u8> {
    (0..size).map(|at| (index * 7 + at + at / 251) as u8).collect()
}

fn run_on_ring(streams: Vec<TcpStream>, messages: &[Vec<u8>], length: Duration) -> (u64, Duration) {
    let size = messages[0].len();
    let answers: Vec<Vec<u8>> = messages.iter().map(|_| vec![0; size]).collect();
    // Not dropped in a panic, as receives may be in flight then.
    let mut answers = ManuallyDrop::new(answers);
    let mut ring = support::ring();
    let sockets = Sockets::new(&ring, streams, false);
    let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
    let send = |index: usize| {
        let bytes = messages[index].as_ptr();
        let entry = opcode::Send::new(sockets.fd(index), bytes, size as u32).flags(flags).build();
        sockets.finish(entry, Token::Send { index, len: size })
    };
    let receive = |index: usize, answer: &mut Vec<u8>| -> squeue::Entry {
        let bytes = answer.as_mut_ptr();
        let entry = opcode::Recv::new(sockets.fd(index), bytes, size as u32)
            .flags(libc::MSG_WAITALL)
            .build();
        sockets.finish(entry, Token::Receive { index })
    };
    let limit = types::Timespec::from(LIMIT);
    let args = types::SubmitArgs::new().timespec(&limit);
    let (submitter, mut sq, mut cq) = ring.split();
    for index in 0..sockets.len() {
        // SAFETY: here and below, messages are only read, and live until all sends have ended;
        // answers stay for good, unless the loop ends, which it does with nothing in flight. One is
        // looked at only between its receives.
        unsafe { push(&mut sq, &send(index)) };
    }
    let (mut count, mut in_flight) = (0, sockets.len());
    let start = Instant::now();
    while in_flight > 0 {
        sq.sync();
        match submitter.submit_with_args(1, &args) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => drop(result.expect("an answer in time")),
        }
        cq.sync();
        sq.sync();
        let over = start.elapsed() >= length;
        for done in &mut cq {
            let next = match Token::of(&done) {
                Token::Send { index, len } => {
                    check_sent(&done, len);
                    receive(index, &mut answers[index])
                }
                Token::Receive { index } => {
                    assert_eq!(received(&done), Some(size), "a short answer");
                    assert!(answers[index] == messages[index], "a wrong answer");
                    count += 1;
                    if over {
                        in_flight -= 1;
                        continue;
                    }
                    send(index)
                }
            };
            // SAFETY: as above.
            unsafe { push(&mut sq, &next) };
        }
    }
    let wall = start.elapsed();
    drop(ManuallyDrop::into_inner(answers));
    (count, wall)
}

fn run_on_epoll(
    streams: Vec<TcpStream>,
    messages: &[Vec<u8>],
    length: Duration,
) -> (u64, Duration) {
    let size = messages[0].len();
    let mut answers: Vec<Vec<u8>> = messages.iter().map(|_| vec![0; size]).collect();
    let mut filled = vec![0; streams.len()];
    let mut epoll = Epoll::new(&streams);
    let (mut count, mut in_flight) = (0, streams.len());
    let start = Instant::now();
    for (mut stream, message) in streams.iter().zip(messages) {
        stream.write_all(message).unwrap();
    }
    while in_flight > 0 {
        let over = start.elapsed() >= length;
        let mut ready = epoll.wait(Some(LIMIT)).peekable();
        assert!(ready.peek().is_some(), "no answer in time");
        for key in ready {
            let mut stream = &streams[key];
            let more = stream.read(&mut answers[key][filled[key]..]).unwrap();
            assert!(more > 0, "the server broke off");
            filled[key] += more;
            if filled[key] < size {
                continue;
            }
            assert!(answers[key] == messages[key], "a wrong answer");
            filled[key] = 0;
            count += 1;
            if over {
                in_flight -= 1;
            } else {
                stream.write_all(&messages[key]).unwrap();
            }
        }
    }
    (count, start.elapsed())
}
