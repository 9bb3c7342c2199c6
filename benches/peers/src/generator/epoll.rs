//! The closed loop once more, on epoll: a read, and at once the next request's write, for each connection
//! that is ready. A server's wake-ups come in another pattern than from a ring, which sends its requests
//! all together; who is ahead may depend on that.
//!
//! # Why this file has `unsafe`
//! `epoll` is bare C calls.

use std::io::{Error, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use super::{ClosedLoop, Connection, Expected, LIMIT, Outcome, Progress, Tally, Until};

/// Connections to one server.
pub(crate) struct EpollGenerator {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
    request: Vec<u8>,
    expected: Expected,
    connections: Vec<Connection>,
}

impl EpollGenerator {
    pub(crate) fn connect(
        address: SocketAddr,
        connections: usize,
        request: Vec<u8>,
        expected: Expected,
    ) -> Result<Self> {
        let connections = Connection::open(address, connections, expected.buffer(&request))?;
        // SAFETY: no memory is involved.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        ensure!(epoll >= 0, "epoll_create1: {}", Error::last_os_error());
        // SAFETY: the kernel has just made this fd for us.
        let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
        for (index, connection) in connections.iter().enumerate() {
            connection.stream.set_nonblocking(true)?;
            let fd = connection.stream.as_raw_fd();
            let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: index as u64 };
            // SAFETY: `event` outlives the call.
            let result =
                unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) };
            ensure!(result == 0, "epoll_ctl: {}", Error::last_os_error());
        }
        let events = vec![libc::epoll_event { events: 0, u64: 0 }; connections.len().max(1)];
        Ok(EpollGenerator { epoll, events, request, expected, connections })
    }

    /// Waits for something to come, but not for ever; how many are ready.
    fn wait(&mut self) -> Result<usize> {
        let (events, room) = (self.events.as_mut_ptr(), self.events.len() as i32);
        let limit = LIMIT.as_millis() as i32;
        // SAFETY: there is room for so many events.
        match unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), events, room, limit) } {
            0 => bail!("no answer for {LIMIT:?}"),
            count @ 1.. => Ok(count as usize),
            _ => match Error::last_os_error() {
                error if error.kind() == ErrorKind::Interrupted => Ok(0),
                error => Err(error).context("waiting for answers"),
            },
        }
    }

    fn send(&mut self, index: usize, since: Instant) -> Result<()> {
        let connection = &mut self.connections[index];
        connection.since = since;
        connection.progress = Progress::default();
        // Whatever was sent before has been answered, so a request finds an empty buffer.
        let sent = connection
            .stream
            .write(&self.request)
            .with_context(|| format!("sending on connection {index}"))?;
        ensure!(sent == self.request.len(), "a request was sent in part");
        Ok(())
    }

    /// `true`: the connection's answer is complete, and was right.
    fn receive(&mut self, index: usize) -> Result<bool> {
        let Connection { stream, buffer, progress, .. } = &mut self.connections[index];
        let room = progress.room(&self.expected, &self.request, buffer.len());
        match stream.read(&mut buffer[..room]) {
            Ok(0) => bail!("connection {index} ended"),
            Ok(received) => progress.take(&buffer[..received], &self.expected, &self.request),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error).with_context(|| format!("connection {index}")),
        }
    }
}

impl ClosedLoop for EpollGenerator {
    fn closed_loop(&mut self, until: Until) -> Result<Outcome> {
        let mut tally = Tally::start();
        for index in 0..self.connections.len() {
            if tally.asks(until, tally.start) {
                self.send(index, tally.start)?;
            }
        }
        while tally.answers < tally.asked {
            for ready in 0..self.wait()? {
                let index = self.events[ready].u64 as usize;
                if !self.receive(index)? {
                    continue;
                }
                let now = Instant::now();
                tally.answered(now - self.connections[index].since);
                if tally.asks(until, now) {
                    self.send(index, now)?;
                }
            }
        }
        Ok(tally.outcome())
    }
}
