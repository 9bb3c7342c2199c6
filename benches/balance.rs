//! How evenly two workers share few connections, and how evenly connections are served with pinned
//! workers and with others.
//!
//! `cargo bench --bench balance` prints for each driver
//!
//! - *few connections*: how many of a burst are on the worker that has the fewest and the most, in
//!   the worst of 20 runs, with a socket per worker (`SO_REUSEPORT`) and with one that all share;
//! - *pinning*: for 64 connections that each send 64 bytes when the last ones are answered, the
//!   ratio between the connection with the most messages and the one with the fewest, and the part
//!   of the busier worker. Two threads are the clients: the load shares the processors.
//!
//! `ONLY=pinning ROUNDS=20` measures one of them.

// # Why this file has `unsafe`
// Only `support` has `unsafe` code.

mod support;

use std::cell::Cell;
use std::io;
use std::net::TcpStream as StdStream;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use corio::net::{SocketAddress, Stream, TcpStream};
use corio::server::{ConnectionContext, Server, ServerBuilder, Workers};
use corio::{DriverChoice, IoContext};
use support::{effort, is_measurement, spread};

/// How many connections clients have, each of two of them half.
const CONNECTIONS: usize = 64;
const MESSAGE: usize = 64;

/// A server with two workers on one listener, by whichever way.
fn builder(choice: DriverChoice, shared: bool, pin: bool) -> ServerBuilder {
    let context = IoContext::builder().driver(choice);
    let server = Server::builder().workers(Workers::builder().count(2).context(context).pin(pin));
    match shared {
        false => server.listen("127.0.0.1:0"),
        true => server.listen_on(std::net::TcpListener::bind("127.0.0.1:0").unwrap()),
    }
}

/// Sends everything back; counts messages.
async fn echo(stream: Stream, ctx: ConnectionContext<Counter>) -> io::Result<()> {
    let mut buf = [0; MESSAGE];
    loop {
        let (result, received) = stream.recv_exact(buf).await;
        if let Err(error) = result {
            // The client ends.
            return if error.kind() == io::ErrorKind::UnexpectedEof { Ok(()) } else { Err(error) };
        }
        let (result, sent) = stream.send_all(received).await;
        result?;
        buf = sent;
        ctx.state().messages.set(ctx.state().messages.get() + 1);
    }
}

/// Counts a worker's messages, and reports them at its end.
#[derive(Default)]
struct Counter {
    messages: Cell<u64>,
    all: Arc<Mutex<Vec<u64>>>,
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.all.lock().unwrap().push(self.messages.get());
    }
}

/// Returns the fewest and the most connections of a worker in the worst of `runs` bursts.
fn burst(choice: DriverChoice, shared: bool, count: u64, runs: usize) -> (u64, u64) {
    let mut worst = (count, 0);
    for _ in 0..runs {
        let server = builder(choice, shared, true).start(|_| Counter::default(), echo).unwrap();
        let to = server.addresses()[0].as_inet().unwrap();
        let streams: Vec<_> = (0..count).map(|_| StdStream::connect(to).unwrap()).collect();
        let active = || server.stats().iter().map(|worker| worker.active()).collect::<Vec<_>>();
        let until = Instant::now() + Duration::from_secs(20);
        while active().iter().sum::<u64>() < count {
            assert!(Instant::now() < until, "not all are served after 20 s");
            thread::sleep(Duration::from_millis(1));
        }
        let active = active();
        worst.0 = worst.0.min(active.iter().copied().min().unwrap_or(0));
        worst.1 = worst.1.max(active.iter().copied().max().unwrap_or(0));
        drop(streams);
        server.stop();
        server.join();
    }
    worst
}

/// One measurement of messages.
struct Sample {
    per_second: f64,
    /// The ratio of the best connection to the worst.
    best_to_worst: f64,
    /// The part of the busier worker.
    busier: f64,
}

fn measure(choice: DriverChoice, pin: bool, length: Duration) -> Sample {
    let all = Arc::<Mutex<Vec<u64>>>::default();
    let counter = {
        let all = all.clone();
        move |_: &_| Counter { messages: Cell::default(), all: all.clone() }
    };
    let server = builder(choice, false, pin).start(counter, echo).unwrap();
    let to = &server.addresses()[0];
    let mut each: Vec<u64> = thread::scope(|scope| {
        let client = || scope.spawn(|| client(choice, to, length));
        let clients = [client(), client()];
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    server.stop();
    server.join();
    each.sort();
    let workers = all.lock().unwrap();
    let (total, busier) = (workers.iter().sum::<u64>(), workers.iter().max());
    Sample {
        per_second: each.iter().sum::<u64>() as f64 / length.as_secs_f64(),
        best_to_worst: each[each.len() - 1] as f64 / each[0].max(1) as f64,
        busier: *busier.unwrap_or(&0) as f64 / total.max(1) as f64,
    }
}

/// Runs half of the connections; returns how many messages each has had answered.
fn client(choice: DriverChoice, to: &SocketAddress, length: Duration) -> Vec<u64> {
    let mut context = IoContext::builder().driver(choice).build().unwrap();
    context.block_on(async {
        let mut streams = Vec::new();
        for _ in 0..CONNECTIONS / 2 {
            streams.push(TcpStream::connect(to).await.unwrap());
        }
        let until = Instant::now() + length;
        let tasks: Vec<_> = streams
            .into_iter()
            .map(|stream| {
                let count = Rc::new(Cell::new(0));
                let counted = count.clone();
                let task = corio::spawn(async move {
                    while Instant::now() < until {
                        stream.send_all([7; MESSAGE]).await.0.unwrap();
                        stream.recv_exact([0; MESSAGE]).await.0.unwrap();
                        counted.set(counted.get() + 1);
                    }
                });
                (task, count)
            })
            .collect();
        let mut counts = Vec::new();
        for (task, count) in tasks {
            task.await.unwrap();
            counts.push(count.get());
        }
        counts
    })
}

fn main() {
    let (rounds, length) = effort();
    let only = std::env::var("ONLY").unwrap_or_default();
    let drivers = [DriverChoice::Uring, DriverChoice::Readiness];
    let drivers: Vec<_> = drivers
        .into_iter()
        .filter(|&choice| {
            let works = IoContext::builder().driver(choice).build().is_ok();
            if !works {
                eprintln!("left out: {choice}");
            }
            works
        })
        .collect();
    if "few connections".contains(&only) {
        let runs = if is_measurement() { 20 } else { 1 };
        println!("few connections: on a worker, in the worst of {runs} runs");
        for &choice in &drivers {
            for (shared, name) in [(false, "a socket per worker"), (true, "one socket")] {
                for count in [2, 4, 8, 16, 64] {
                    let (fewest, most) = burst(choice, shared, count, runs);
                    let name = format!("{choice}, {name}");
                    println!("  {name:<32} {count:>2}: {fewest:>2} to {most:>2}");
                }
            }
        }
    }
    if "pinning".contains(&only) {
        println!("pinning: {CONNECTIONS} connections, medians of {rounds} rounds and their range");
        for &choice in &drivers {
            let mut samples = [Vec::new(), Vec::new()];
            for round in 0..rounds {
                for step in 0..2 {
                    // Each round starts with the other way.
                    let way = (round + step) % 2;
                    samples[way].push(measure(choice, way == 0, length));
                }
            }
            for (name, of) in ["pinned", "not pinned"].iter().zip(&samples) {
                let each = |pick: fn(&Sample) -> f64| spread(of.iter().map(pick).collect());
                println!("  {choice}, {name}");
                println!("    messages/s             {}", each(|one| one.per_second));
                println!("    best to worst          {}", each(|one| one.best_to_worst));
                println!("    the busier worker has  {}", each(|one| one.busier));
            }
            let ratio = |pick: fn(&Sample) -> f64| {
                let pairs = samples[0].iter().zip(&samples[1]);
                spread(pairs.map(|(pinned, free)| pick(pinned) / pick(free)).collect())
            };
            println!("  {choice}, pinned to not pinned, of the same round");
            println!("    messages/s             {}", ratio(|one| one.per_second));
            println!("    best to worst          {}", ratio(|one| one.best_to_worst));
        }
    }
}
