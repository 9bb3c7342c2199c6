//! System calls and instructions per operation. Each program is run twice, the second time for twice as
//! many operations; what the second run did more, is what those operations took.

use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::cells::{Ask, Files};
use crate::generator::{ClosedLoop, Generator, Until, churn};
use crate::http;
use crate::measure::Subject;
use crate::peers::Peer;
use crate::program::{Job, Service};
use crate::server::{Server, Under, is_installed, run_job};

#[derive(Serialize, Deserialize)]
pub(crate) struct Counted {
    pub(crate) what: String,
    pub(crate) peer: String,
    /// Per operation. `None`: it could not be counted.
    pub(crate) system_calls: Option<f64>,
    pub(crate) instructions: Option<f64>,
}

/// One column of the tables.
struct Column<'a> {
    what: &'static str,
    program: Program<'a>,
    /// How many operations the first run has: to count system calls, and instructions.
    operations: [u64; 2],
}

enum Program<'a> {
    Serve {
        service: Service,
        connections: usize,
        ask: Ask,
    },
    Churn {
        at_once: usize,
    },
    /// For so many operations.
    Job(&'a dyn Fn(u64) -> Job),
}

impl Program<'_> {
    fn is_for(&self, peer: &Peer) -> bool {
        match self {
            Program::Serve { service, .. } => peer.offers(service),
            Program::Churn { .. } => true,
            Program::Job(job) => peer.can(&job(1)),
        }
    }

    fn run(&self, peer: &str, under: Under, operations: u64) -> Result<()> {
        let until = Until::Answers(operations);
        match self {
            Program::Serve { service, connections, ask } => {
                let server = Server::start(peer, service, under)?;
                let Ask { request, expected } = ask.clone();
                let mut generator =
                    Generator::connect(server.address, *connections, request, expected)?;
                generator.closed_loop(until)?;
                server.stop()
            }
            Program::Churn { at_once } => {
                let server = Server::start(peer, &Service::Echo { buffer: 4096 }, under)?;
                churn(server.address, *at_once, until)?;
                server.stop()
            }
            Program::Job(job) => {
                let done = run_job(peer, &job(operations), under)?;
                ensure!(done.count == operations, "{} instead of {operations}", done.count);
                Ok(())
            }
        }
    }
}

pub(crate) fn count(
    subjects: &[Subject],
    files: &Files,
    scratch: &Path,
    quick: bool,
) -> Result<Vec<Counted>> {
    let echo = |connections| {
        let (service, ask) = (Service::Echo { buffer: 4096 }, Ask::echo(64));
        Program::Serve { service, connections, ask }
    };
    let get = |service, ask| Program::Serve { service, connections: 50, ask };
    let hello = get(Service::Http, Ask::get("", Rc::new(http::HELLO)));
    let file = get(files.service(), files.get("4k")?);
    let reads = |reads| files.reads(64, false, reads);
    let spawn = |tasks| Job::Spawn { tasks, at_once: 1 };
    let requests = [10_000, 2_000];
    let columns = [
        ("echo, 1 connection", echo(1), requests),
        ("HTTP, 50 connections", hello, requests),
        ("file of 4 KiB, 50 connections", file, requests),
        ("echo, 50 connections", echo(50), requests),
        ("connection, 50 at a time", Program::Churn { at_once: 50 }, [2_000, 500]),
        ("cached read, 64 at a time", Program::Job(&reads), [12_800, 3_200]),
        ("spawn and join", Program::Job(&spawn), [20_000, 20_000]),
    ]
    .map(|(what, program, operations)| Column { what, program, operations });
    let out = scratch.join("count");
    let scale = if quick { 1 } else { 3 };
    let mut counted = Vec::new();
    // Starting each four times takes longer than what is counted: a quick run has the latter ones alone.
    let skipped = if quick { 3 } else { 0 };
    for Column { what, program, operations } in columns.into_iter().skip(skipped) {
        for subject in subjects {
            let Subject::Peer(peer) = subject else { continue };
            if !program.is_for(peer) {
                continue;
            }
            let each = |counter, under, operations, read| {
                let result = difference(&program, peer, (counter, under, read), &out, operations);
                if let Err(error) = &result {
                    eprintln!("{}, {what}, {counter}: {error:#}", peer.name);
                }
                result.ok().flatten()
            };
            let [calls, instructions] = operations.map(|operations| operations * scale);
            let result = Counted {
                what: what.to_owned(),
                peer: peer.name.to_owned(),
                system_calls: each("perf", Under::Perf(&out), calls, of_perf),
                instructions: each("valgrind", Under::Valgrind(&out), instructions, of_valgrind),
            };
            let show = |count: Option<f64>| count.map_or("-".into(), |count| format!("{count:.2}"));
            println!(
                "{what:<30} {:<20} system calls {:>8} instructions {:>10}",
                result.peer,
                show(result.system_calls),
                show(result.instructions)
            );
            counted.push(result);
        }
    }
    Ok(counted)
}

/// A program that counts another's doings in a file, and what reads that.
type Counter<'a> = (&'a str, Under<'a>, fn(&str) -> Option<u64>);

/// What an operation takes; `None`: the counter is not installed.
fn difference(
    program: &Program,
    peer: &Peer,
    (name, under, read): Counter,
    out: &Path,
    operations: u64,
) -> Result<Option<f64>> {
    if !is_installed(name) {
        return Ok(None);
    }
    let total = |operations| {
        program.run(peer.name, under, operations)?;
        let text = std::fs::read_to_string(out)?;
        read(&text).with_context(|| format!("what {name} told: {text}"))
    };
    let (once, twice) = (total(operations)?, total(2 * operations)?);
    let each = (twice as f64 - once as f64) / operations as f64;
    // An operation may take none; two runs differ by a few of their own.
    ensure!(each > -0.01, "{once}, then {twice}");
    Ok(Some(each.max(0.0)))
}

/// `123,,raw_syscalls:sys_enter,…`
fn of_perf(text: &str) -> Option<u64> {
    text.lines().find(|line| line.contains("sys_enter"))?.split(',').next()?.parse().ok()
}

/// `==1== I refs: 1,234`
fn of_valgrind(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.contains("refs:"))?;
    line.rsplit(':').next()?.trim().replace(',', "").parse().ok()
}
