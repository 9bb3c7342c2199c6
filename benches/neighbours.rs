//! How late a timer and a message are beside a task whose operations all end at once, and how many
//! operations that task gets done meanwhile.
//!
//! - `cargo bench --bench neighbours` prints a row per driver and neighbour.
//! - `ONLY='64 KiB' MILLISECONDS=3000` runs one kind of neighbour, for that long.

mod support;

use std::cell::Cell;
use std::io::Write;
use std::rc::Rc;
use std::time::{Duration, Instant};

use corio::fs::File;
use corio::net::UnixStream;
use corio::{DriverChoice, IoContext};
use support::effort;

const NAP: Duration = Duration::from_millis(1);

/// What the neighbour does, over and over.
#[derive(Clone, Copy)]
enum Work {
    /// Reads of so many bytes from a cached file, in so many tasks.
    Reads { bytes: usize, tasks: usize },
    /// Opens of a file whose path is cached.
    Opens,
    /// Transfers of a cached file to `/dev/null`, 64 MiB each.
    Transfers,
}

const NEIGHBOURS: &[(&str, Work)] = &[
    ("reads of 4 KiB", Work::Reads { bytes: 4 << 10, tasks: 1 }),
    ("reads of 64 KiB", Work::Reads { bytes: 64 << 10, tasks: 1 }),
    ("reads of 1 MiB", Work::Reads { bytes: 1 << 20, tasks: 1 }),
    ("reads of 32 MiB", Work::Reads { bytes: 32 << 20, tasks: 1 }),
    ("reads of 4 KiB, 64 tasks", Work::Reads { bytes: 4 << 10, tasks: 64 }),
    ("reads of 1 MiB, 64 tasks", Work::Reads { bytes: 1 << 20, tasks: 64 }),
    ("opens", Work::Opens),
    ("sendfile to /dev/null", Work::Transfers),
];

/// The size of the file.
const FILE: usize = 64 << 20;

async fn work(work: Work, path: &std::path::Path, until: Instant, done: Rc<Cell<u64>>) {
    let file = File::open(path).await.unwrap();
    let null = File::options().write(true).open("/dev/null").await.unwrap();
    let count = || done.set(done.get() + 1);
    match work {
        Work::Reads { bytes, .. } => {
            let (mut buf, mut offset) = (Vec::with_capacity(bytes), 0);
            while Instant::now() < until {
                let (read, filled) = file.read_at(buf, offset).await;
                assert_eq!(read.unwrap(), bytes);
                count();
                buf = filled;
                offset = (offset + bytes as u64) % (FILE - bytes) as u64;
            }
        }
        Work::Opens => {
            while Instant::now() < until {
                drop(File::open(path).await.unwrap());
                count();
            }
        }
        Work::Transfers => {
            while Instant::now() < until {
                corio::op::AsyncSendfile::new(&null, &file, 0, FILE as u64).await.unwrap();
                count();
            }
        }
    }
}

/// How late naps of 1 ms end.
async fn naps(until: Instant) -> Vec<Duration> {
    let mut late = Vec::new();
    while Instant::now() < until {
        let began = Instant::now();
        corio::sleep(NAP).await;
        late.push(began.elapsed().saturating_sub(NAP));
    }
    late
}

/// How long messages of one byte take, there and back, one every millisecond.
async fn messages(until: Instant) -> Vec<Duration> {
    let (near, far) = UnixStream::pair().unwrap();
    let echo = corio::spawn(async move {
        let mut buf = vec![0];
        while far.recv_exact(buf).await.0.is_ok() {
            buf = vec![0];
            far.send_all([7]).await.0.unwrap();
        }
    });
    let mut took = Vec::new();
    while Instant::now() < until {
        corio::sleep(NAP).await;
        let began = Instant::now();
        near.send_all([7]).await.0.unwrap();
        near.recv_exact([0]).await.0.unwrap();
        took.push(began.elapsed());
    }
    drop(near);
    echo.await.unwrap();
    took
}

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3;
    format!("{:7.3} {:7.3} {:7.3}", at(50), at(99), at(100))
}

fn main() {
    let (_, time) = effort();
    let only = std::env::var("ONLY").unwrap_or_default();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&vec![7; FILE]).unwrap();
    println!("milliseconds: median, 99th percentile, most");
    println!("{:34} {:>23}   {:>23}   operations/s", "neighbour", "timer late by", "message");
    for choice in [DriverChoice::Uring, DriverChoice::Readiness] {
        for &(name, kind) in NEIGHBOURS.iter().filter(|(name, _)| name.contains(&only)) {
            let Ok(mut context) = IoContext::builder().driver(choice).build() else {
                eprintln!("left out: {choice}");
                break;
            };
            let tasks = if let Work::Reads { tasks, .. } = kind { tasks } else { 1 };
            let path = file.path().to_owned();
            let (late, took, done) = context.block_on(async {
                let until = Instant::now() + time;
                let done = Rc::<Cell<u64>>::default();
                let busy: Vec<_> = (0..tasks)
                    .map(|_| {
                        let (path, done) = (path.clone(), done.clone());
                        corio::spawn(async move { work(kind, &path, until, done).await })
                    })
                    .collect();
                let took = corio::spawn(messages(until));
                let late = naps(until).await;
                for task in busy {
                    task.await.unwrap();
                }
                (late, took.await.unwrap(), done.get())
            });
            println!(
                "{:34} {}   {}   {:.0}",
                format!("{choice}: {name}"),
                percentiles(late),
                percentiles(took),
                done as f64 / time.as_secs_f64(),
            );
        }
    }
}
