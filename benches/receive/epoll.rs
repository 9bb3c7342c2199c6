//! A server on `epoll(7)`: one wait, then receives and sends for each connection that is ready.

// # Why this file has `unsafe`
// It makes epoll's system calls.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use crate::Server;

const EVENTS: usize = 256;

/// An epoll instance that waits for connections to become readable, level-triggered.
pub(crate) struct Epoll {
    fd: OwnedFd,
    events: [libc::epoll_event; EVENTS],
}

impl Epoll {
    /// Creates an instance that waits for `streams`, each with its index as the key.
    pub(crate) fn new(streams: &[TcpStream]) -> Self {
        // SAFETY: passes no memory.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        assert!(fd >= 0, "{}", io::Error::last_os_error());
        // SAFETY: the fd is new, and has no other owner.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let epoll = Epoll { fd, events: [libc::epoll_event { events: 0, u64: 0 }; EVENTS] };
        for (key, stream) in streams.iter().enumerate() {
            epoll.control(libc::EPOLL_CTL_ADD, stream, key);
        }
        epoll
    }

    pub(crate) fn remove(&self, stream: &TcpStream) {
        self.control(libc::EPOLL_CTL_DEL, stream, 0);
    }

    fn control(&self, operation: i32, stream: &TcpStream, key: usize) {
        let (epoll, fd) = (self.fd.as_raw_fd(), stream.as_raw_fd());
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: key as u64 };
        // SAFETY: the event is valid for the call.
        let result = unsafe { libc::epoll_ctl(epoll, operation, fd, &mut event) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
    }

    /// Waits; returns the keys of ready connections, none if the limit was reached.
    pub(crate) fn wait(&mut self, limit: Option<Duration>) -> impl Iterator<Item = usize> {
        let limit = limit.map_or(-1, |limit| limit.as_millis() as i32);
        let (fd, events) = (self.fd.as_raw_fd(), self.events.as_mut_ptr());
        let count = loop {
            // SAFETY: there is room for that many events.
            let count = unsafe { libc::epoll_wait(fd, events, EVENTS as i32, limit) };
            if count >= 0 {
                break count as usize;
            }
            // A debugger, or a process that was stopped for a while, interrupts the wait.
            let error = io::Error::last_os_error();
            assert_eq!(error.kind(), io::ErrorKind::Interrupted, "{error}");
        };
        self.events[..count].iter().map(|event| event.u64 as usize)
    }
}

pub(crate) struct EpollServer {
    epoll: Epoll,
    streams: Vec<TcpStream>,
    buffers: Vec<Box<[u8]>>,
}

impl EpollServer {
    pub(crate) fn new(streams: Vec<TcpStream>, buffer: usize) -> Self {
        for stream in &streams {
            stream.set_nonblocking(true).unwrap();
        }
        let buffers = streams.iter().map(|_| vec![0; buffer].into()).collect();
        EpollServer { epoll: Epoll::new(&streams), streams, buffers }
    }
}

impl Server for EpollServer {
    fn run(&mut self) {
        let mut open = self.streams.len();
        let mut ended = Vec::new();
        while open > 0 {
            for key in self.epoll.wait(None) {
                let mut stream = &self.streams[key];
                match stream.read(&mut self.buffers[key]) {
                    Ok(0) => ended.push(key),
                    // The socket's buffer has room: it holds more than a client has in flight.
                    Ok(count) => stream.write_all(&self.buffers[key][..count]).unwrap(),
                    Err(error) => panic!("a receive failed: {error}"),
                }
            }
            for key in ended.drain(..) {
                self.epoll.remove(&self.streams[key]);
                open -= 1;
            }
        }
    }
}
