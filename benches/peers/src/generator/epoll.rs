//! The closed loop on epoll: for each ready connection a read, and at once the write of the next
//! request. The server's wake-ups have another pattern than with the ring, which submits its
//! requests together; the order of the peers may depend on that.

// # Why this file has `unsafe`
// `epoll(7)` is called through `libc`.

use std::io::{Error, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use super::answer::{Expected, Progress};
use super::connection::{ClosedLoop, Connection, LIMIT};
use super::tally::{Outcome, Tally, Until};

/// A load generator on epoll, with all its connections to one server.
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
        // SAFETY: the call has no argument that points to memory.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        ensure!(epoll >= 0, "epoll_create1: {}", Error::last_os_error());
        // SAFETY: the call above has created this fd, and nothing else owns it.
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

    /// Waits for ready connections, at most for `LIMIT`; returns their number.
    fn wait(&mut self) -> Result<usize> {
        let (events, room) = (self.events.as_mut_ptr(), self.events.len() as i32);
        let limit = LIMIT.as_millis() as i32;
        // SAFETY: `events` points to `room` events, which nothing else accesses during the call.
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
        // The last request has been answered, so the socket's send buffer is empty.
        let sent = connection
            .stream
            .write(&self.request)
            .with_context(|| format!("sending on connection {index}"))?;
        ensure!(
            sent == self.request.len(),
            "sent {sent} bytes of a request of {} bytes",
            self.request.len()
        );
        Ok(())
    }

    /// Receives once; returns `true` if the answer is complete, after having compared it.
    fn receive(&mut self, index: usize) -> Result<bool> {
        let Connection { stream, buffer, progress, .. } = &mut self.connections[index];
        let room = progress.room(&self.expected, &self.request, buffer.len());
        match stream.read(&mut buffer[..room]) {
            Ok(0) => bail!("the server closed connection {index}"),
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
            if tally.may_send(until, tally.start) {
                self.send(index, tally.start)?;
            }
        }
        while tally.answers < tally.sent {
            for ready in 0..self.wait()? {
                let index = self.events[ready].u64 as usize;
                if !self.receive(index)? {
                    continue;
                }
                let now = Instant::now();
                tally.record(now - self.connections[index].since);
                if tally.may_send(until, now) {
                    self.send(index, now)?;
                }
            }
        }
        Ok(tally.outcome())
    }
}
