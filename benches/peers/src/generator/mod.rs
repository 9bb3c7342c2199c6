//! The load: many connections on one ring, each request's answer compared byte by byte.
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

use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{IoUring, opcode, types};

use crate::system;

pub(crate) use answer::Expected;
use answer::Progress;
pub(crate) use churn::churn;

/// When to stop asking.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    Elapsed(Duration),
    Answers(u64),
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) answers: u64,
    pub(crate) wall: Duration,
    /// In nanoseconds.
    pub(crate) latencies: Histogram<u64>,
}

/// For latencies of up to 100 s, to 0.1 %.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 100_000_000_000, 3).expect("the bounds are valid")
}

fn record(histogram: &mut Histogram<u64>, latency: Duration) {
    histogram.saturating_record(latency.as_nanos() as u64);
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

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    progress: Progress,
    /// When its request was sent, or due.
    since: Instant,
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
        let room = expected.buffer(&request);
        let connections = (0..connections)
            .map(|index| {
                let stream = TcpStream::connect(address)
                    .with_context(|| format!("connection {index} to {address}"))?;
                stream.set_nodelay(true)?;
                system::control_congestion(&stream)?;
                let buffer = vec![0; room];
                let progress = Progress::default();
                Ok(Connection { stream, buffer, progress, since: Instant::now() })
            })
            .collect::<Result<Vec<_>>>()?;
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

    /// Waits for something to come, but not for ever.
    fn wait(&self) -> Result<()> {
        const LIMIT: Timespec = Timespec::new().sec(10);
        let arguments = SubmitArgs::new().timespec(&LIMIT);
        match self.ring.submitter().submit_with_args(1, &arguments) {
            Err(error) if error.raw_os_error() == Some(libc::ETIME) => bail!("no answer for 10 s"),
            result => result.map(drop).context("waiting for answers"),
        }
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

    /// Asks on all connections, each as soon as its last answer is there.
    pub(crate) fn closed_loop(&mut self, until: Until) -> Result<Outcome> {
        let mut latencies = histogram();
        let (mut asked, mut answers) = (0, 0);
        let start = Instant::now();
        let mut completions = Vec::new();
        let over = |now: Instant, asked: u64| match until {
            Until::Elapsed(length) => now - start >= length,
            Until::Answers(most) => asked >= most,
        };
        for index in 0..self.connections.len() {
            if !over(start, asked) {
                self.send(index, start);
                asked += 1;
            }
        }
        while self.in_flight > 0 {
            self.wait()?;
            let now = Instant::now();
            self.reap(&mut completions);
            for (id, result) in completions.drain(..) {
                if !self.settle(id, result)? {
                    continue;
                }
                let index = id as usize / 2;
                record(&mut latencies, now - self.connections[index].since);
                answers += 1;
                if !over(now, asked) {
                    asked += 1;
                    self.send(index, now);
                }
            }
        }
        Ok(Outcome { answers, wall: start.elapsed(), latencies })
    }

    /// Asks `per_second` times a second, on whichever connections are free. The generator does not sleep.
    pub(crate) fn open_loop(&mut self, per_second: f64, length: Duration) -> Result<Outcome> {
        const GETEVENTS: u32 = 1; // IORING_ENTER_GETEVENTS
        let mut latencies = histogram();
        let total = (per_second * length.as_secs_f64()) as u64;
        let mut free: Vec<usize> = (0..self.connections.len()).collect();
        let (mut asked, mut answers) = (0u64, 0u64);
        let start = Instant::now();
        let due = |request: u64| start + Duration::from_secs_f64(request as f64 / per_second);
        let mut completions = Vec::new();
        while answers < total {
            let now = Instant::now();
            ensure!(
                now - start < 4 * length,
                "the server answers fewer than {per_second:.0} per second"
            );
            while asked < total && due(asked) <= now {
                let Some(index) = free.pop() else { break };
                self.send(index, due(asked));
                asked += 1;
            }
            let queued = self.ring.submission().len() as u32;
            // SAFETY: no argument is passed.
            unsafe { self.ring.submitter().enter::<libc::sigset_t>(queued, 0, GETEVENTS, None) }?;
            self.reap(&mut completions);
            let now = Instant::now();
            for (id, result) in completions.drain(..) {
                if self.settle(id, result)? {
                    let index = id as usize / 2;
                    record(&mut latencies, now - self.connections[index].since);
                    answers += 1;
                    free.push(index);
                }
            }
        }
        Ok(Outcome { answers, wall: start.elapsed(), latencies })
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
