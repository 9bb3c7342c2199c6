//! Scale: the memory of 100,000 operations in flight and of 10,000 idle connections, and the CPU
//! time of a request on two workers compared with one.
//!
//! `cargo bench --bench many` runs all of it on each driver; `cargo test --benches` a small part.

// # Why this file has `unsafe`
// It raises the limit of open files, and asks for the process's CPU time.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use corio::net::{Stream, TcpListener, UnixStream};
use corio::server::{Balance, Server, Workers};
use corio::{DriverChoice, IoContext};
use support::is_measurement;

/// Returns the memory of this process that is in use, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// Raises the limit of open files to the hard limit.
fn open_files() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes, then reads, one `rlimit`.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
    limit.rlim_cur as usize
}

/// Returns the CPU time of the whole process.
fn process_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The order in which operations are cancelled: that in which they were started, or an unrelated
/// one.
fn orders(count: usize) -> [(&'static str, Vec<usize>); 3] {
    let oldest = || 0..count;
    // The prime 7919 divides no count used here, so this is a permutation.
    let mixed = oldest().map(|number| number * 7919 % count).collect();
    [
        ("oldest first", oldest().collect()),
        ("newest first", oldest().rev().collect()),
        ("mixed", mixed),
    ]
}

/// Measures receives that wait, one per task, many per socket, and their cancellation.
fn pending_operations(driver: DriverChoice, count: usize) {
    const PER_SOCKET: usize = 100;
    let mut context = IoContext::builder().driver(driver).build().unwrap();
    let name = context.driver_name();
    context.block_on(async {
        let pairs: Vec<_> = (0..count / PER_SOCKET).map(|_| UnixStream::pair().unwrap()).collect();
        let streams: Vec<_> = pairs.iter().map(|(a, _)| std::rc::Rc::new(dup(a))).collect();
        for (order, numbers) in orders(count) {
            let before = (resident(), Instant::now());
            let tasks: Vec<_> = (0..count)
                .map(|number| {
                    let stream = streams[number % streams.len()].clone();
                    corio::spawn(async move {
                        stream.recv([0; 64]).await.0.map_err(|error| error.kind())
                    })
                })
                .collect();
            while corio::stats().in_flight < count as u64 {
                corio::yield_now().await;
            }
            let (memory, started) = (resident().saturating_sub(before.0), before.1.elapsed());
            let cancelling = Instant::now();
            for number in numbers {
                tasks[number].cancel();
            }
            for task in tasks {
                assert!(task.await.unwrap().is_err());
            }
            println!(
                "{name:<9} {count} receives in flight: {} new bytes each (task, 64-byte buffer and \
                 handle included); started in {started:.0?}, cancelled {order} in {:.0?}",
                memory / count,
                cancelling.elapsed()
            );
        }
        drop(pairs);
    });
}

fn dup(stream: &UnixStream) -> UnixStream {
    use std::os::fd::AsFd;
    stream.as_fd().try_clone_to_owned().unwrap().into()
}

fn echo_server(driver: DriverChoice) -> Server {
    let context = IoContext::builder().driver(driver);
    Server::builder()
        .listen("127.0.0.1:0")
        .workers(Workers::builder().count(1).context(context))
        .start(|_| (), |stream, _| echo(stream))
        .unwrap()
}

/// Measures connections that have been used once and are idle since.
fn idle_connections(driver: DriverChoice, count: usize) {
    let server = echo_server(driver);
    let to = server.addresses()[0].as_inet().unwrap();
    let mut clients = Vec::with_capacity(count);
    let ping = |mut stream: &TcpStream| {
        stream.write_all(b"ping").unwrap();
        stream.read_exact(&mut [0; 4]).unwrap();
    };
    // What the first connections set up for all is not counted.
    for _ in 0..10 {
        clients.push(TcpStream::connect(to).unwrap());
        ping(clients.last().unwrap());
    }
    let before = resident();
    while clients.len() < count {
        clients.push(TcpStream::connect(to).unwrap());
        ping(clients.last().unwrap());
    }
    let memory = resident() - before;
    println!(
        "{driver:<9} {count} idle connections: {} bytes each, a 64-byte buffer included",
        memory / (count - 10)
    );
    drop(clients);
    server.stop();
    assert_eq!(server.join().started, count as u64);
}

/// Returns the CPU time per request. Each worker serves 32 connections whose clients are its own
/// tasks: clients on other threads would share a processor with one of the workers.
fn cost_per_request(driver: DriverChoice, workers: usize, requests: usize) -> Duration {
    const CONNECTIONS: usize = 32;
    let rounds = requests / CONNECTIONS;
    let before = process_cpu();
    let context = IoContext::builder().driver(driver);
    let workers = Workers::builder().count(workers).context(context).start(move |_| async move {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = Vec::new();
        for _ in 0..CONNECTIONS {
            let client = corio::net::TcpStream::connect(address).await.unwrap();
            let (server, _) = listener.accept().await.unwrap();
            drop(corio::spawn(echo(server.into())));
            tasks.push(corio::spawn(async move {
                let mut buf = Vec::with_capacity(4);
                for _ in 0..rounds {
                    client.send_all("ping").await.0.unwrap();
                    let (result, received) = client.recv(buf).await;
                    assert_eq!(result.unwrap(), 4);
                    buf = received;
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
    let results = workers.unwrap().join();
    let count = results.into_iter().map(Result::unwrap).count();
    (process_cpu() - before) / (count * rounds * CONNECTIONS) as u32
}

/// Returns how evenly connections are spread over two workers: the ratio of the most that one has
/// to the mean.
fn spread(driver: DriverChoice, balance: Balance, count: usize) -> f64 {
    let context = IoContext::builder().driver(driver);
    let server = Server::builder()
        .listen("127.0.0.1:0")
        .workers(Workers::builder().count(2).context(context))
        .balance(balance)
        .start(|_| (), |stream, _| echo(stream))
        .unwrap();
    let to = server.addresses()[0].as_inet().unwrap();
    let clients: Vec<_> = (0..count).map(|_| TcpStream::connect(to).unwrap()).collect();
    while server.totals().started < count as u64 {
        std::thread::yield_now();
    }
    let most = server.stats().iter().map(|worker| worker.started).max().unwrap_or(0);
    drop(clients);
    most as f64 / (count as f64 / 2.0)
}

async fn echo(stream: Stream) -> std::io::Result<()> {
    let mut buf = Vec::with_capacity(64);
    loop {
        let (result, received) = stream.recv(buf).await;
        if result? == 0 {
            return Ok(());
        }
        let (result, sent) = stream.send_all(received).await;
        result?;
        buf = sent;
    }
}

fn main() {
    let files = open_files();
    let (operations, connections, requests, rounds) = match is_measurement() {
        true => (100_000, 10_000.min(files / 2 - 100), 200_000, 7),
        false => (2000, 100, 2000, 1),
    };
    let Ok(driver) = std::env::var("DRIVER") else {
        // Each in a process of its own, so that none reuses another one's memory.
        for driver in ["uring", "readiness"] {
            let mut command = std::process::Command::new(std::env::current_exe().unwrap());
            command.args(std::env::args().skip(1)).env("DRIVER", driver);
            assert!(command.status().unwrap().success());
        }
        return;
    };
    let driver: DriverChoice = driver.parse().unwrap();
    if let Err(error) = IoContext::builder().driver(driver).build() {
        return println!("{driver}: {error}");
    }
    pending_operations(driver, operations);
    idle_connections(driver, connections);
    println!(
        "{driver:<9} 200 connections on two workers, the most to the mean: {:.2} spread by the \
         kernel, {:.2} by load",
        spread(driver, Balance::ReusePort, 200),
        spread(driver, Balance::LeastLoaded, 200)
    );
    let mut ratios: Vec<f64> = (0..rounds)
        .map(|_| {
            let one = cost_per_request(driver, 1, requests).as_secs_f64();
            cost_per_request(driver, 2, requests).as_secs_f64() / one
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    println!(
        "{driver:<9} CPU time per request, two to one: {:.3} ({:.3} to {:.3})",
        ratios[rounds / 2],
        ratios[0],
        ratios[rounds - 1]
    );
}
