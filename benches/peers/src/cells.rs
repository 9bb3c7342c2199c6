//! What is measured: the cells of the tables.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use memmap2::Mmap;

use crate::generator::Expected;
use crate::http;
use crate::program::{self, Job, Reads, Service};

/// How much of it all.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    /// Of one sample of a server.
    pub(crate) length: Duration,
    /// Fewer cells, smaller files, fewer repetitions.
    pub(crate) quick: bool,
}

/// One thing that is asked of every peer that can do it.
pub(crate) struct Cell {
    /// The table it is in.
    pub(crate) group: &'static str,
    pub(crate) name: String,
    pub(crate) work: Work,
}

pub(crate) enum Work {
    /// A closed loop.
    Serve {
        service: Service,
        connections: usize,
        ask: Ask,
        client: Client,
    },
    /// An open loop, at so much of what the bare ring loop can do with the same.
    Paced {
        service: Service,
        connections: usize,
        ask: Ask,
        share: f64,
    },
    Churn {
        at_once: usize,
    },
    /// Memory of connections that wait.
    Idle {
        connections: usize,
    },
    Job(Job),
}

/// Who asks in a closed loop.
#[derive(Clone, Copy)]
pub(crate) enum Client {
    Ring,
    Epoll,
}

/// What is asked, and has to be answered.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) request: Vec<u8>,
    pub(crate) expected: Expected,
}

impl Ask {
    pub(crate) fn echo(size: usize) -> Self {
        let request = (0..size).map(|byte| (byte * 31 + 7) as u8).collect();
        Ask { request, expected: Expected::Echo }
    }

    pub(crate) fn get(path: &str, body: Rc<dyn AsRef<[u8]>>) -> Self {
        let request = format!("GET /{path} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n");
        Ask { request: request.into_bytes(), expected: Expected::Body(body) }
    }
}

/// Files that are served, read and copied.
pub(crate) struct Files {
    root: PathBuf,
    reads: PathBuf,
}

impl Files {
    pub(crate) fn make(scratch: &Path, effort: &Effort) -> Result<Self> {
        let root = scratch.join("site");
        std::fs::create_dir_all(&root)?;
        for (name, blocks) in sizes(effort) {
            program::write_blocks(&root.join(name), blocks)?;
        }
        let reads = scratch.join("reads");
        program::write_blocks(&reads, if effort.quick { 4096 } else { 65_536 })?;
        Ok(Files { root, reads })
    }

    pub(crate) fn service(&self) -> Service {
        Service::Files { root: self.root.clone() }
    }

    pub(crate) fn reads(&self, depth: u64, direct: bool, reads: u64) -> Job {
        Job::Reads(Reads { file: self.reads.clone(), direct, depth, reads })
    }

    pub(crate) fn get(&self, name: &str) -> Result<Ask> {
        let file = std::fs::File::open(self.root.join(name)).context("a file to serve")?;
        // SAFETY: the file is ours, in a directory of our own, and is not written to any more.
        let body = unsafe { Mmap::map(&file) }?;
        Ok(Ask::get(name, Rc::new(body)))
    }
}

/// Names, and sizes in blocks of 4 KiB.
fn sizes(effort: &Effort) -> Vec<(&'static str, u64)> {
    let mut sizes = vec![("4k", 1), ("64k", 16), ("1m", 256)];
    if !effort.quick {
        sizes.push(("1g", 262_144));
    }
    sizes
}

pub(crate) fn cells(effort: &Effort, files: &Files) -> Result<Vec<Cell>> {
    let mut cells = Vec::new();
    let mut add = |group, name: String, work| cells.push(Cell { group, name, work });
    let (few, many) = (1, if effort.quick { 200 } else { 1000 });
    let small = Service::Echo { buffer: 4096 };

    let counts: &[usize] = if effort.quick { &[few, 50] } else { &[few, 50, 200, many] };
    let messages: &[(&str, usize, usize)] = if effort.quick {
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
            let (service, ask) = (Service::Echo { buffer }, Ask::echo(bytes));
            let client = Client::Ring;
            add(group, format!("{connections}"), Work::Serve { service, connections, ask, client });
        }
    }
    for &connections in if effort.quick { &[50][..] } else { counts } {
        let (service, ask, client) = (small.clone(), Ask::echo(64), Client::Epoll);
        let work = Work::Serve { service, connections, ask, client };
        add("echo-64-epoll", format!("{connections}"), work);
    }
    let hello = Ask::get("", Rc::new(http::HELLO));
    for &connections in if effort.quick { &[50][..] } else { &[1, 50, 1000][..] } {
        let (service, ask, client) = (Service::Http, hello.clone(), Client::Ring);
        add("http", format!("{connections}"), Work::Serve { service, connections, ask, client });
    }
    let (service, ask, client) = (Service::Http, hello, Client::Epoll);
    add("http", "50, by epoll".into(), Work::Serve { service, connections: 50, ask, client });
    for (name, blocks) in sizes(effort) {
        let service = files.service();
        let connections = match blocks {
            1 => 50,
            16 | 256 => 10,
            _ => 1,
        };
        let (ask, client) = (files.get(name)?, Client::Ring);
        let work = Work::Serve { service, connections, ask, client };
        add("files", name.to_uppercase() + "iB", work);
    }
    for share in [0.5, 0.8] {
        let (service, ask) = (small.clone(), Ask::echo(64));
        add("latency", format!("{share}"), Work::Paced { service, connections: 50, ask, share });
    }
    add("churn", "50 at a time".into(), Work::Churn { at_once: 50 });

    let reads = |depth, direct, reads| Work::Job(files.reads(depth, direct, reads));
    let scale = if effort.quick { 1 } else { 4 };
    add("disk", "4 KiB at random, cached, 1".into(), reads(1, false, 50_000 * scale));
    add("disk", "4 KiB at random, cached, 64".into(), reads(64, false, 64_000 * scale));
    add("disk", "4 KiB at random, O_DIRECT, 64".into(), reads(64, true, 12_800 * scale));
    let to = files.root.join("copy");
    add(
        "disk",
        "copy, 64 KiB pieces".into(),
        Work::Job(Job::Copy { from: files.reads.clone(), to }),
    );

    add(
        "tasks",
        "spawn and join".into(),
        Work::Job(Job::Spawn { tasks: 500_000 * scale, at_once: 1 }),
    );
    add(
        "tasks",
        "spawn and join 10,000".into(),
        Work::Job(Job::Spawn { tasks: 500_000 * scale, at_once: 10_000 }),
    );
    add(
        "tasks",
        "yield, 1 task".into(),
        Work::Job(Job::Yield { tasks: 1, times: 1_000_000 * scale }),
    );
    add(
        "tasks",
        "yield, 1000 tasks".into(),
        Work::Job(Job::Yield { tasks: 1000, times: 1000 * scale }),
    );
    add("tasks", "100,000 timers".into(), Work::Job(Job::Timers { tasks: 100_000 }));
    add(
        "sleep",
        "1 ms".into(),
        Work::Job(Job::Sleep { nanoseconds: 1_000_000, times: 100 * scale }),
    );
    add(
        "sleep",
        "100 µs".into(),
        Work::Job(Job::Sleep { nanoseconds: 100_000, times: 500 * scale }),
    );
    add("threads", "messages".into(), Work::Job(Job::Channel { messages: 500_000 * scale }));
    add("threads", "there and back".into(), Work::Job(Job::Wake { round_trips: 10_000 * scale }));

    // Client and server have so many descriptors each.
    add(
        "idle",
        "10,000".into(),
        Work::Idle { connections: if effort.quick { 1000 } else { 10_000 } },
    );
    Ok(cells)
}
