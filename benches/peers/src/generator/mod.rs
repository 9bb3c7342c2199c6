//! The load: many connections on one ring, each request's answer compared byte by byte. The closed loop
//! is there on epoll as well (`epoll.rs`).
//!
//! In a **closed loop** every connection has one request under way at all times: that measures
//! throughput. In an **open loop** requests are due at fixed times, whether the server has kept up or
//! not, and an answer's latency counts from when its request was *due*: a server that stalls can't hide
//! the requests that would have come meanwhile (coordinated omission; G. Tene, "How NOT to Measure
//! Latency", 2013).
//!
//! # Why this file has `unsafe`
//! It queues entries that name memory.

mod answer;
mod churn;
mod epoll;
mod tally;

use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{IoUring, opcode, types};

use crate::system;

pub(crate) use answer::Expected;
use answer::Progress;
pub(crate) use churn::churn;
pub(crate) use epoll::EpollGenerator;
use tally::Tally;
pub(crate) use tally::{Outcome, Until};

/// For how long nothing may come.
const LIMIT: Duration = Duration::from_secs(10);

/// Asks on all connections, each as soon as its last answer is there.
pub(crate) trait ClosedLoop {
    fn closed_loop(&mut self, until: Until) -> Result<Outcome>;
}

fn ring(entries: usize) -> Result<IoUring> {
    let entries = (2 * entries).next_power_of_two().max(64) as u32;
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_cqsize((2 * entries).min(65_536))
        .build(entries.min(32_768))
        .context("the generator needs io_uring, of Linux 6.1 or newer")
}

/// Waits for a completion, but not for ever.
fn wait(ring: &IoUring) -> Result<()> {
    let limit = Timespec::from(LIMIT);
    let arguments = SubmitArgs::new().timespec(&limit);
    match ring.submitter().submit_with_args(1, &arguments) {
        Err(error) if error.raw_os_error() == Some(libc::ETIME) => {
            bail!("no answer for {LIMIT:?}")
        }
        result => result.map(drop).context("waiting for answers"),
    }
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    progress: Progress,
    /// When its request was sent, or due.
    since: Instant,
}

impl Connection {
    fn open(address: SocketAddr, connections: usize, room: usize) -> Result<Vec<Self>> {
        (0..connections)
            .map(|index| {
                let stream = TcpStream::connect(address)
                    .with_context(|| format!("connection {index} to {address}"))?;
                stream.set_nodelay(true)?;
                system::control_congestion(&stream)?;
                let buffer = vec![0; room];
                let progress = Progress::default();
                Ok(Connection { stream, buffer, progress, since: Instant::now() })
            })
            .collect()
    }
}

/// Connections to one server.
pub(crate) struct Generator {
    ring: IoUring,
    request: Vec<u8>,
    expected: Expected,
    connections: Vec<Connection>,
    /// How many entries have no completion yet.
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
        // SAFETY: the request and the connections' buffers stay where they are until nothing is in
        // flight any more; see `drop`.
        unsafe { self.ring.submission().push(entry) }.expect("there is room for every connection");
        self.in_flight += 1;
    }

    fn reap(&mut self, completions: &mut Vec<(u64, i32)>) {
        completions.extend(self.ring.completion().map(|entry| (entry.user_data(), entry.result())));
        self.in_flight -= completions.len();
    }

    /// Takes in a completion; `true`: the connection's answer is complete, and was right.
    fn settle(&mut self, id: u64, result: i32) -> Result<bool> {
        let index = id as usize / 2;
        ensure!(
            result > 0,
            "connection {index} ended: {}",
            std::io::Error::from_raw_os_error(-result)
        );
        if id.is_multiple_of(2) {
            ensure!(result as usize == self.request.len(), "a request was sent in part");
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

    /// Asks `per_second` times a second, on whichever connections are free. The generator does not sleep.
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
                "the server answers fewer than {per_second:.0} per second"
            );
            while tally.asked < total && due(tally.asked) <= now {
                let Some(index) = free.pop() else { break };
                self.send(index, due(tally.asked));
                tally.asked += 1;
            }
            let queued = self.ring.submission().len() as u32;
            // SAFETY: no argument is passed.
            unsafe { self.ring.submitter().enter::<libc::sigset_t>(queued, 0, GETEVENTS, None) }?;
            self.reap(&mut completions);
            let now = Instant::now();
            for (id, result) in completions.drain(..) {
                if self.settle(id, result)? {
                    let index = id as usize / 2;
                    tally.answered(now - self.connections[index].since);
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
            if tally.asks(until, tally.start) {
                self.send(index, tally.start);
            }
        }
        while self.in_flight > 0 {
            wait(&self.ring)?;
            let now = Instant::now();
            self.reap(&mut completions);
            for (id, result) in completions.drain(..) {
                if !self.settle(id, result)? {
                    continue;
                }
                let index = id as usize / 2;
                tally.answered(now - self.connections[index].since);
                if tally.asks(until, now) {
                    self.send(index, now);
                }
            }
        }
        Ok(tally.outcome())
    }
}

impl Drop for Generator {
    /// After an error something may be in flight, into buffers that are about to go.
    fn drop(&mut self) {
        for connection in &self.connections {
            let _ = connection.stream.shutdown(std::net::Shutdown::Both);
        }
        // Sockets that are shut down complete whatever they had in flight.
        while self.in_flight > 0 {
            if self.ring.submit_and_wait(1).is_err() {
                std::process::abort();
            }
            self.in_flight -= self.ring.completion().count();
        }
    }
}
