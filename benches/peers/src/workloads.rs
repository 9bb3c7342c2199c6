//! The workloads: the columns of the tables.

// # Why this file has `unsafe`
// It maps the files that servers send, to compare the answers with them.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use memmap2::Mmap;

use crate::generator::Expected;
use crate::http;
use crate::program::{self, Job, Reads, Service};

/// How much a run measures.
#[derive(Clone, Copy)]
pub(crate) struct RunConfig {
    pub(crate) rounds: usize,
    /// The duration of one sample of a server.
    pub(crate) length: Duration,
    /// Fewer workloads, smaller files, fewer repetitions.
    pub(crate) quick: bool,
}

/// A workload, measured with every peer that has a program for it.
pub(crate) struct Workload {
    /// The table that it is part of.
    pub(crate) group: &'static str,
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

pub(crate) enum Kind {
    /// A server under a closed loop.
    Serve { service: Service, connections: usize, exchange: Exchange, client: Client },
    /// A server under an open loop, at this share of the bare ring loop's throughput.
    Paced { service: Service, connections: usize, exchange: Exchange, share: f64 },
    /// Connections that live for one exchange.
    Churn { at_once: usize },
    /// The memory of idle connections.
    Idle { connections: usize },
    /// A program without connections.
    Job(Job),
}

/// The load generator of a closed loop.
#[derive(Clone, Copy)]
pub(crate) enum Client {
    Ring,
    Epoll,
}

/// A request and the expected answer.
#[derive(Clone)]
pub(crate) struct Exchange {
    pub(crate) request: Vec<u8>,
    pub(crate) expected: Expected,
}

impl Exchange {
    pub(crate) fn echo(size: usize) -> Self {
        let request = (0..size).map(|byte| (byte * 31 + 7) as u8).collect();
        Exchange { request, expected: Expected::Echo }
    }

    pub(crate) fn get(path: &str, body: Rc<dyn AsRef<[u8]>>) -> Self {
        let request = format!("GET /{path} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n");
        Exchange { request: request.into_bytes(), expected: Expected::Body(body) }
    }
}

/// Files that are served, read and copied.
pub(crate) struct Files {
    root: PathBuf,
    reads: PathBuf,
}

impl Files {
    /// Writes the files into `scratch`.
    pub(crate) fn make(scratch: &Path, config: &RunConfig) -> Result<Self> {
        let root = scratch.join("site");
        std::fs::create_dir_all(&root)?;
        for (name, blocks) in sizes(config) {
            program::write_blocks(&root.join(name), blocks)?;
        }
        let reads = scratch.join("reads");
        program::write_blocks(&reads, if config.quick { 4096 } else { 65_536 })?;
        Ok(Files { root, reads })
    }

    pub(crate) fn service(&self) -> Service {
        Service::Files { root: self.root.clone() }
    }

    pub(crate) fn reads(&self, depth: u64, direct: bool, reads: u64) -> Job {
        Job::Reads(Reads { file: self.reads.clone(), direct, depth, reads })
    }

    pub(crate) fn get(&self, name: &str) -> Result<Exchange> {
        let file =
            std::fs::File::open(self.root.join(name)).with_context(|| format!("opening {name}"))?;
        // SAFETY: `make` has written the file completely into a temporary directory of this
        // process, and nothing changes it afterwards.
        let body = unsafe { Mmap::map(&file) }?;
        Ok(Exchange::get(name, Rc::new(body)))
    }
}

/// Names, and sizes in blocks of 4 KiB.
fn sizes(config: &RunConfig) -> Vec<(&'static str, u64)> {
    let mut sizes = vec![("4k", 1), ("64k", 16), ("1m", 256)];
    if !config.quick {
        sizes.push(("1g", 262_144));
    }
    sizes
}

/// Returns the workloads of a run, in the order of the tables.
pub(crate) fn all(config: &RunConfig, files: &Files) -> Result<Vec<Workload>> {
    let mut workloads = Vec::new();
    let mut add = |group, name: String, kind| workloads.push(Workload { group, name, kind });
    let (few, many) = (1, if config.quick { 200 } else { 1000 });
    let small = Service::Echo { buffer: 4096 };

    let counts: &[usize] = if config.quick { &[few, 50] } else { &[few, 50, 200, many] };
    let messages: &[(&str, usize, usize)] = if config.quick {
        &[("echo-64", 64, 4096), ("echo-16k", 16 * 1024, 4096)]
    } else {
        &[
            ("echo-64", 64, 4096),
            ("echo-1k", 1024, 4096),
            ("echo-16k", 16 * 1024, 4096),
            ("echo-16k-large", 16 * 1024, 16 * 1024),
        ]
    };
    for &(group, bytes, buffer) in messages {
        for &connections in counts {
            let (service, exchange) = (Service::Echo { buffer }, Exchange::echo(bytes));
            let client = Client::Ring;
            add(
                group,
                format!("{connections}"),
                Kind::Serve { service, connections, exchange, client },
            );
        }
    }
    for &connections in if config.quick { &[50][..] } else { counts } {
        let (service, exchange, client) = (small.clone(), Exchange::echo(64), Client::Epoll);
        let kind = Kind::Serve { service, connections, exchange, client };
        add("echo-64-epoll", format!("{connections}"), kind);
    }
    let hello = Exchange::get("", Rc::new(http::HELLO));
    for &connections in if config.quick { &[50][..] } else { &[1, 50, 1000][..] } {
        let (service, exchange, client) = (Service::Http, hello.clone(), Client::Ring);
        add(
            "http",
            format!("{connections}"),
            Kind::Serve { service, connections, exchange, client },
        );
    }
    let (service, exchange, client) = (Service::Http, hello, Client::Epoll);
    add("http", "50, by epoll".into(), Kind::Serve { service, connections: 50, exchange, client });
    for (name, blocks) in sizes(config) {
        let service = files.service();
        let connections = match blocks {
            1 => 50,
            16 | 256 => 10,
            _ => 1,
        };
        let (exchange, client) = (files.get(name)?, Client::Ring);
        let kind = Kind::Serve { service, connections, exchange, client };
        add("files", name.to_uppercase() + "iB", kind);
    }
    for share in [0.5, 0.8] {
        let (service, exchange) = (small.clone(), Exchange::echo(64));
        add(
            "latency",
            format!("{share}"),
            Kind::Paced { service, connections: 50, exchange, share },
        );
    }
    add("churn", "50 at a time".into(), Kind::Churn { at_once: 50 });

    let reads = |depth, direct, reads| Kind::Job(files.reads(depth, direct, reads));
    let scale = if config.quick { 1 } else { 4 };
    add("disk", "4 KiB at random, cached, 1".into(), reads(1, false, 50_000 * scale));
    add("disk", "4 KiB at random, cached, 64".into(), reads(64, false, 64_000 * scale));
    add("disk", "4 KiB at random, O_DIRECT, 64".into(), reads(64, true, 12_800 * scale));
    let to = files.root.join("copy");
    add(
        "disk",
        "copy, 64 KiB pieces".into(),
        Kind::Job(Job::Copy { from: files.reads.clone(), to }),
    );

    add(
        "tasks",
        "spawn and join".into(),
        Kind::Job(Job::Spawn { tasks: 500_000 * scale, at_once: 1 }),
    );
    add(
        "tasks",
        "spawn and join 10,000".into(),
        Kind::Job(Job::Spawn { tasks: 500_000 * scale, at_once: 10_000 }),
    );
    add(
        "tasks",
        "yield, 1 task".into(),
        Kind::Job(Job::Yield { tasks: 1, times: 1_000_000 * scale }),
    );
    add(
        "tasks",
        "yield, 1000 tasks".into(),
        Kind::Job(Job::Yield { tasks: 1000, times: 1000 * scale }),
    );
    add("tasks", "100,000 timers".into(), Kind::Job(Job::Timers { tasks: 100_000 }));
    add(
        "sleep",
        "1 ms".into(),
        Kind::Job(Job::Sleep { nanoseconds: 1_000_000, times: 100 * scale }),
    );
    add(
        "sleep",
        "100 µs".into(),
        Kind::Job(Job::Sleep { nanoseconds: 100_000, times: 500 * scale }),
    );
    add("threads", "messages".into(), Kind::Job(Job::Channel { messages: 500_000 * scale }));
    add("threads", "there and back".into(), Kind::Job(Job::Wake { round_trips: 10_000 * scale }));

    // Client and server each need a descriptor per connection.
    add(
        "idle",
        "10,000".into(),
        Kind::Idle { connections: if config.quick { 1000 } else { 10_000 } },
    );
    Ok(workloads)
}
