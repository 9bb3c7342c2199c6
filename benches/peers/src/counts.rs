//! System calls and instructions per operation. Each program runs twice, the second time for twice
//! as many operations; the difference is the cost of the additional operations.

use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result, ensure};

use crate::generator::{ClosedLoop, Generator, Until, churn};
use crate::http;
use crate::measure::Subject;
use crate::peers::Peer;
use crate::program::{Job, Service};
use crate::results::Counted;
use crate::server::{Server, Wrapper, is_installed, run_job};
use crate::workloads::{Exchange, Files};

/// One column of the tables.
struct Column<'a> {
    what: &'static str,
    program: Program<'a>,
    /// The number of operations of the first run: for system calls, for instructions.
    operations: [u64; 2],
}

enum Program<'a> {
    Serve {
        service: Service,
        connections: usize,
        exchange: Exchange,
    },
    Churn {
        at_once: usize,
    },
    /// The job with a given number of operations.
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

    fn run(&self, peer: &str, wrapper: Wrapper, operations: u64) -> Result<()> {
        let until = Until::Answers(operations);
        match self {
            Program::Serve { service, connections, exchange } => {
                let server = Server::start(peer, service, wrapper)?;
                let Exchange { request, expected } = exchange.clone();
                let mut generator =
                    Generator::connect(server.address, *connections, request, expected)?;
                generator.closed_loop(until)?;
                server.stop()
            }
            Program::Churn { at_once } => {
                let server = Server::start(peer, &Service::Echo { buffer: 4096 }, wrapper)?;
                churn(server.address, *at_once, until)?;
                server.stop()
            }
            Program::Job(job) => {
                let done = run_job(peer, &job(operations), wrapper)?;
                ensure!(
                    done.count == operations,
                    "{peer} did {} operations instead of {operations}",
                    done.count
                );
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
        let (service, exchange) = (Service::Echo { buffer: 4096 }, Exchange::echo(64));
        Program::Serve { service, connections, exchange }
    };
    let get = |service, exchange| Program::Serve { service, connections: 50, exchange };
    let hello = get(Service::Http, Exchange::get("", Rc::new(http::HELLO)));
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
    // Each program starts four times, which takes longer than the counting: a quick run leaves out
    // the first columns.
    let skipped = if quick { 3 } else { 0 };
    for Column { what, program, operations } in columns.into_iter().skip(skipped) {
        for subject in subjects {
            let Subject::Peer(peer) = subject else { continue };
            if !program.is_for(peer) {
                continue;
            }
            let each = |counter, wrapper, operations, read| {
                let result = difference(&program, peer, (counter, wrapper, read), &out, operations);
                if let Err(error) = &result {
                    eprintln!("{}, {what}, {counter}: {error:#}", peer.name);
                }
                result.ok().flatten()
            };
            let [calls, instructions] = operations.map(|operations| operations * scale);
            let result = Counted {
                what: what.to_owned(),
                peer: peer.name.to_owned(),
                system_calls: each("perf", Wrapper::Perf(&out), calls, of_perf),
                instructions: each("valgrind", Wrapper::Valgrind(&out), instructions, of_valgrind),
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

/// A counting program, the wrapper that runs it, and the parser of its output file.
type Counter<'a> = (&'a str, Wrapper<'a>, fn(&str) -> Option<u64>);

/// Returns the count per operation; `None` if the counter is not installed.
fn difference(
    program: &Program,
    peer: &Peer,
    (name, wrapper, read): Counter,
    out: &Path,
    operations: u64,
) -> Result<Option<f64>> {
    if !is_installed(name) {
        return Ok(None);
    }
    let total = |operations| {
        program.run(peer.name, wrapper, operations)?;
        let text = std::fs::read_to_string(out)?;
        read(&text).with_context(|| format!("parsing the output of {name}: {text}"))
    };
    let (once, twice) = (total(operations)?, total(2 * operations)?);
    let each = (twice as f64 - once as f64) / operations as f64;
    // The count may be zero, and two runs differ slightly.
    ensure!(each > -0.01, "the longer run counted less: {once}, then {twice}");
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
