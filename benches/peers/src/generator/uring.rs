//! The load generator on a ring: submits all requests that are due with one call.

// # Why this file has `unsafe`
// It queues entries that point to memory.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use io_uring::{IoUring, opcode, types};

use super::answer::{Expected, Progress};
use super::connection::{ClosedLoop, Connection};
use super::ring::{ring, wait};
use super::tally::{Outcome, Tally, Until};

/// A load generator on one ring, with all its connections to one server.
pub(crate) struct Generator {
    ring: IoUring,
    request: Vec<u8>,
    expected: Expected,
    connections: Vec<Connection>,
    /// The number of entries without a completion.
    in_flight: usize,
}

impl Generator {
    pub(crate) fn connect(
        address: SocketAddr,
        connections: usize,
        request: Vec<u8>,
        expected: Expected,
    ) -> Result<Self> {
        let connections = Connection::open(address, connections, expected.buffer(&request))?;
        Ok(Generator {
            ring: ring(connections.len())?,
            request,
            expected,
            connections,
            in_flight: 0,
        })
    }

    /// Sends the request on a connection.
    fn send(&mut self, index: usize, since: Instant) {
        let connection = &mut self.connections[index];
        connection.since = since;
        connection.progress = Progress::default();
        let fd = types::Fd(connection.stream.as_raw_fd());
        let entry = opcode::Send::new(fd, self.request.as_ptr(), self.request.len() as u32)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build()
            .user_data(index as u64 * 2);
        self.push(&entry);
    }

    fn receive(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let fd = types::Fd(connection.stream.as_raw_fd());
        let room = connection.progress.room(&self.expected, &self.request, connection.buffer.len());
        let entry = opcode::Recv::new(fd, connection.buffer.as_mut_ptr(), room as u32)
            .build()
            .user_data(index as u64 * 2 + 1);
        self.push(&entry);
    }

    fn push(&mut self, entry: &io_uring::squeue::Entry) {
        // SAFETY: the request and the buffers of the connections are neither moved nor freed while
        // an entry is in flight: `drop` waits for all completions.
        unsafe { self.ring.submission().push(entry) }
            .expect("the ring has room for two entries per connection");
        self.in_flight += 1;
    }

    fn reap(&mut self, completions: &mut Vec<(u64, i32)>) {
        completions.extend(self.ring.completion().map(|entry| (entry.user_data(), entry.result())));
        self.in_flight -= completions.len();
    }

    /// Handles a completion; returns `true` if the answer is complete, after having compared it.
    fn complete(&mut self, id: u64, result: i32) -> Result<bool> {
        let index = id as usize / 2;
        ensure!(
            result > 0,
            "connection {index} failed: {}",
            std::io::Error::from_raw_os_error(-result)
        );
        if id.is_multiple_of(2) {
            ensure!(
                result as usize == self.request.len(),
                "sent {result} bytes of a request of {} bytes",
                self.request.len()
            );
            self.receive(index);
            return Ok(false);
        }
        let connection = &mut self.connections[index];
        let bytes = &connection.buffer[..result as usize];
        let complete = connection.progress.take(bytes, &self.expected, &self.request)?;
        if !complete {
            self.receive(index);
        }
        Ok(complete)
    }

    /// Sends `per_second` requests a second, each on a free connection. Polls without sleeping.
    pub(crate) fn open_loop(&mut self, per_second: f64, length: Duration) -> Result<Outcome> {
        const GETEVENTS: u32 = 1; // IORING_ENTER_GETEVENTS
        let mut tally = Tally::start();
        let start = tally.start;
        let total = (per_second * length.as_secs_f64()) as u64;
        let mut free: Vec<usize> = (0..self.connections.len()).collect();
        let due = |request: u64| start + Duration::from_secs_f64(request as f64 / per_second);
        let mut completions = Vec::new();
        while tally.answers < total {
            let now = Instant::now();
            ensure!(
                now - start < 4 * length,
                "the server answers fewer than {per_second:.0} requests per second"
            );
            while tally.sent < total && due(tally.sent) <= now {
                let Some(index) = free.pop() else { break };
                self.send(index, due(tally.sent));
                tally.sent += 1;
            }
            let queued = self.ring.submission().len() as u32;
            // SAFETY: the call has no argument that points to memory.
            unsafe { self.ring.submitter().enter::<libc::sigset_t>(queued, 0, GETEVENTS, None) }?;
            self.reap(&mut completions);
            let now = Instant::now();
            for (id, result) in completions.drain(..) {
                if self.complete(id, result)? {
                    let index = id as usize / 2;
                    tally.record(now - self.connections[index].since);
                    free.push(index);
                }
            }
        }
        Ok(tally.outcome())
    }
}

impl ClosedLoop for Generator {
    fn closed_loop(&mut self, until: Until) -> Result<Outcome> {
        let mut tally = Tally::start();
        let mut completions = Vec::new();
        for index in 0..self.connections.len() {
            if tally.may_send(until, tally.start) {
                self.send(index, tally.start);
            }
        }
        while self.in_flight > 0 {
            wait(&self.ring)?;
            let now = Instant::now();
            self.reap(&mut completions);
            for (id, result) in completions.drain(..) {
                if !self.complete(id, result)? {
                    continue;
                }
                let index = id as usize / 2;
                tally.record(now - self.connections[index].since);
                if tally.may_send(until, now) {
                    self.send(index, now);
                }
            }
        }
        Ok(tally.outcome())
    }
}

impl Drop for Generator {
    /// Waits for the entries in flight, which after an error still point to the buffers.
    fn drop(&mut self) {
        for connection in &self.connections {
            let _ = connection.stream.shutdown(std::net::Shutdown::Both);
        }
        // A shutdown completes all operations on the socket.
        while self.in_flight > 0 {
            if self.ring.submit_and_wait(1).is_err() {
                std::process::abort();
            }
            self.in_flight -= self.ring.completion().count();
        }
    }
}
