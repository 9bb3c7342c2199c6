//! A bare loop on epoll: waits, then receives and sends once for each ready connection.

// # Why this file has `unsafe`
// It calls `epoll(7)` and `sendfile(2)` through `libc`.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};

use super::peer::Peer;
use crate::http;

pub(super) fn peers() -> Vec<Peer> {
    vec![Peer {
        name: "bare epoll",
        settings: "level-triggered; sendfile(2) for files",
        echo,
        http: hello,
        files: Some(files),
        reads: None,
        copy: None,
        tasks: None,
    }]
}

fn echo(listener: TcpListener, buffer: usize) {
    serve(&listener, buffer, |input, output, _| {
        output.extend_from_slice(input);
        None
    });
}

fn hello(listener: TcpListener) {
    serve(&listener, 4096, |input, output, held| {
        held.extend_from_slice(input);
        http::answer_hello(held, output);
        None
    });
}

fn files(listener: TcpListener, root: PathBuf) {
    serve(&listener, 4096, move |input, output, held| {
        held.extend_from_slice(input);
        let file =
            File::open(http::take_file_request(held, &root as &Path)?).expect("the file opens");
        let len = file.metadata().expect("the file has a size").len();
        http::head(output, len);
        Some(Body { file, at: 0, len })
    });
}

struct Body {
    file: File,
    at: u64,
    len: u64,
}

struct Connection {
    stream: TcpStream,
    /// The received part of an incomplete request.
    held: Vec<u8>,
    output: Vec<u8>,
    sent: usize,
    body: Option<Body>,
    waits_to_send: bool,
}

fn control(epoll: RawFd, operation: i32, fd: RawFd, events: i32) {
    let mut event = libc::epoll_event { events: events as u32, u64: fd as u64 };
    // SAFETY: `event` outlives the call.
    let result = unsafe { libc::epoll_ctl(epoll, operation, fd, &mut event) };
    assert_eq!(result, 0, "epoll_ctl: {}", std::io::Error::last_os_error());
}

fn serve(
    listener: &TcpListener,
    buffer: usize,
    answer: impl Fn(&[u8], &mut Vec<u8>, &mut Vec<u8>) -> Option<Body>,
) {
    // SAFETY: the call has no argument that points to memory.
    let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    assert!(epoll >= 0, "epoll_create1: {}", std::io::Error::last_os_error());
    listener.set_nonblocking(true).expect("the listener can be switched");
    control(epoll, libc::EPOLL_CTL_ADD, listener.as_raw_fd(), libc::EPOLLIN);
    // The index is the fd.
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; 1024];
    let mut input = vec![0; buffer];
    loop {
        // SAFETY: `events` has room for the number of events that the call is passed.
        let count =
            unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), events.len() as i32, -1) };
        for event in &events[..usize::try_from(count).unwrap_or(0)] {
            let fd = event.u64 as RawFd;
            if fd == listener.as_raw_fd() {
                loop {
                    let stream = match listener.accept() {
                        Ok((stream, _)) => stream,
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(_) => return,
                    };
                    stream.set_nonblocking(true).expect("a stream can be switched");
                    let fd = stream.as_raw_fd();
                    control(epoll, libc::EPOLL_CTL_ADD, fd, libc::EPOLLIN);
                    if connections.len() <= fd as usize {
                        connections.resize_with(fd as usize + 1, || None);
                    }
                    connections[fd as usize] = Some(Connection {
                        stream,
                        held: Vec::new(),
                        output: Vec::with_capacity(buffer),
                        sent: 0,
                        body: None,
                        waits_to_send: false,
                    });
                }
                continue;
            }
            let slot = &mut connections[fd as usize];
            let connection = slot.as_mut().expect("it is watched");
            let goes_on = if connection.waits_to_send {
                true
            } else {
                match connection.stream.read(&mut input) {
                    Ok(received @ 1..) => {
                        let Connection { output, held, .. } = &mut *connection;
                        output.clear();
                        let body = answer(&input[..received], output, held);
                        connection.sent = 0;
                        connection.body = body;
                        true
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => true,
                    _ => false,
                }
            };
            match goes_on.then(|| connection.send()) {
                Some(Ok(done)) => {
                    if done == connection.waits_to_send {
                        connection.waits_to_send = !done;
                        let events = if done { libc::EPOLLIN } else { libc::EPOLLOUT };
                        control(epoll, libc::EPOLL_CTL_MOD, fd, events);
                    }
                }
                // Closing the socket removes it from epoll's list.
                None | Some(Err(_)) => *slot = None,
            }
        }
    }
}

impl Connection {
    /// Returns `false` if the socket's send buffer is full.
    fn send(&mut self) -> std::io::Result<bool> {
        while self.sent < self.output.len() {
            match self.stream.write(&self.output[self.sent..]) {
                Ok(sent) => self.sent += sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        while let Some(body) = self.body.as_mut().filter(|body| body.at < body.len) {
            let mut at = body.at as libc::off_t;
            let (to, from) = (self.stream.as_raw_fd(), body.file.as_raw_fd());
            // SAFETY: `at` outlives the call.
            let sent = unsafe { libc::sendfile(to, from, &mut at, (body.len - body.at) as usize) };
            match sent {
                1.. => body.at = at as u64,
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                _ => match std::io::Error::last_os_error() {
                    error if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                    error => return Err(error),
                },
            }
        }
        self.body = None;
        Ok(true)
    }
}
