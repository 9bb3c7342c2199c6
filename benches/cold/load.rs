//! The load: warm requests in an open loop, beside clients that ask for what is cold.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The number of connections that send warm requests.
const PROBES: u32 = 16;
/// How often each of them is due to send one.
const PACE: Duration = Duration::from_millis(80);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection that asks for files.
struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Client { stream: BufReader::with_capacity(64 << 10, stream) })
    }

    /// Requests a file; returns the length of the answer's body, of which nothing is read yet.
    fn ask(&mut self, path: &str) -> io::Result<usize> {
        let request = format!("GET /{path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.stream.get_ref().write_all(request.as_bytes())?;
        let (mut line, mut len) = (String::new(), None);
        self.stream.read_line(&mut line)?;
        if !line.starts_with("HTTP/1.1 200 ") {
            return Err(io::Error::other(format!("{path}: {line:?}")));
        }
        while line != "\r\n" {
            line.clear();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                len = value.trim().parse().ok();
            }
        }
        len.ok_or_else(|| io::Error::other("an answer without a length"))
    }

    /// Requests a file, and reads it.
    fn get(&mut self, path: &str) -> io::Result<()> {
        let len = self.ask(path)?;
        let body = Read::by_ref(&mut self.stream).take(len as u64);
        match io::copy(&mut { body }, &mut io::sink())? {
            read if read == len as u64 => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// What the cold clients ask for.
#[derive(Clone, Copy)]
pub(crate) enum Cold<'a> {
    /// Each downloads one of these, once: again, it would be in memory.
    Downloads(&'a [String]),
    /// So many clients ask for the small files of a range of directories, one after the other.
    Paths { clients: usize, count: usize },
}

impl Cold<'_> {
    fn clients(self) -> usize {
        match self {
            Cold::Downloads(files) => files.len(),
            Cold::Paths { clients, .. } => clients,
        }
    }

    /// Runs one client until `stop`; adds to `done` the bytes or the files that it received.
    fn run(self, index: usize, to: SocketAddr, done: &AtomicU64, stop: &AtomicBool) {
        // A client that is stopped may have waited for too long.
        let check = |result: io::Result<()>| match result {
            Err(error) if !stop.load(Ordering::Relaxed) => panic!("a cold client: {error}"),
            _ => {}
        };
        check(match self {
            Cold::Downloads(files) => download(&files[index], to, done, stop),
            Cold::Paths { clients, count } => {
                let mut numbers = (index..count).step_by(clients);
                Client::connect(to).and_then(|mut client| {
                    while let Some(number) =
                        numbers.next().filter(|_| !stop.load(Ordering::Relaxed))
                    {
                        client.get(&format!("paths/{number}/file"))?;
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
            }
        });
    }
}

fn download(path: &str, to: SocketAddr, done: &AtomicU64, stop: &AtomicBool) -> io::Result<()> {
    let mut client = Client::connect(to)?;
    let mut buf = vec![0; 64 << 10];
    let mut left = client.ask(path)?;
    while left > 0 && !stop.load(Ordering::Relaxed) {
        let room = left.min(buf.len());
        let read = client.stream.read(&mut buf[..room])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        left -= read;
        done.fetch_add(read as u64, Ordering::Relaxed);
    }
    Ok(())
}

/// One measurement.
pub(crate) struct Sample {
    /// How long warm requests took from when they were due.
    pub(crate) median: Duration,
    pub(crate) p99: Duration,
    pub(crate) most: Duration,
    /// The bytes or files per second that cold clients received.
    pub(crate) cold_per_second: f64,
}

/// Measures warm requests beside cold clients for `length`.
pub(crate) fn measure(to: SocketAddr, cold: Cold<'_>, length: Duration) -> Sample {
    let (done, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    // The server's code and the warm file are in memory then.
    Client::connect(to).and_then(|mut client| client.get("warm")).expect("an answer");
    thread::scope(|scope| {
        for index in 0..cold.clients() {
            let (done, stop) = (&done, &stop);
            scope.spawn(move || cold.run(index, to, done, stop));
        }
        // Without a start, nothing would be measured.
        let began = Instant::now();
        while done.load(Ordering::Relaxed) == 0 && began.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(5));
        }
        let (start, before) = (Instant::now(), done.load(Ordering::Relaxed));
        let probes: Vec<_> = (0..PROBES)
            .map(|number| {
                scope.spawn(move || probe(to, start + PACE * number / PROBES, start + length))
            })
            .collect();
        let mut took: Vec<Duration> = Vec::new();
        for probe in probes {
            took.extend(probe.join().expect("no panic"));
        }
        let received = done.load(Ordering::Relaxed) - before;
        let cold_per_second = received as f64 / start.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        took.sort();
        let at = |percent: usize| took[(took.len() - 1) * percent / 100];
        Sample { median: at(50), p99: at(99), most: at(100), cold_per_second }
    })
}

/// Sends a request whenever one is due, or at once if the last answer came late.
fn probe(to: SocketAddr, first: Instant, end: Instant) -> Vec<Duration> {
    let mut client = Client::connect(to).expect("a connection");
    let (mut due, mut took) = (first, Vec::new());
    while due < end {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        client.get("warm").expect("an answer");
        took.push(due.elapsed());
        due += PACE;
    }
    took
}
