//! System calls and instructions per request. Each server is run twice, the second time with twice as
//! many requests; what the second run did more, is what those requests took.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::cells::Ask;
use crate::generator::{Expected, Generator, Until};
use crate::http;
use crate::measure::Subject;
use crate::program::Service;
use crate::server::{Server, Under, is_installed};

#[derive(Serialize, Deserialize)]
pub(crate) struct Counted {
    pub(crate) what: String,
    pub(crate) peer: String,
    /// Per request. `None`: it could not be counted.
    pub(crate) system_calls: Option<f64>,
    pub(crate) instructions: Option<f64>,
}

pub(crate) fn count(subjects: &[Subject], scratch: &Path, quick: bool) -> Result<Vec<Counted>> {
    let echo = || Ask { request: vec![7; 64], expected: Expected::Echo };
    let get = Ask {
        request: b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n".to_vec(),
        expected: Expected::Body(std::rc::Rc::new(http::HELLO)),
    };
    let small = Service::Echo { buffer: 4096 };
    let rows = [
        ("echo, 1 connection", small.clone(), 1, echo()),
        ("echo, 50 connections", small, 50, echo()),
        ("HTTP, 50 connections", Service::Http, 50, get),
    ];
    let file = scratch.join("count");
    let mut counted = Vec::new();
    for (what, service, connections, ask) in rows {
        for subject in subjects {
            let Subject::Peer(peer) = subject else { continue };
            let each =
                |program: &str, under: Under, requests: u64, read: fn(&str) -> Option<u64>| {
                    if !is_installed(program) {
                        return None;
                    }
                    let total = |requests| {
                        run(peer.name, &service, connections, &ask, under, requests)?;
                        let text = std::fs::read_to_string(&file)?;
                        read(&text).with_context(|| format!("what {program} told: {text}"))
                    };
                    let difference = || -> Result<f64> {
                        let (once, twice) = (total(requests)?, total(2 * requests)?);
                        ensure!(twice > once, "{once}, then {twice}");
                        Ok((twice - once) as f64 / requests as f64)
                    };
                    let result = difference();
                    if let Err(error) = &result {
                        eprintln!("{}, {what}, {program}: {error:#}", peer.name);
                    }
                    result.ok()
                };
            let scale = if quick { 1 } else { 3 };
            let result = Counted {
                what: what.to_owned(),
                peer: peer.name.to_owned(),
                system_calls: each("perf", Under::Perf(&file), 10_000 * scale, of_perf),
                instructions: each("valgrind", Under::Valgrind(&file), 2_000 * scale, of_valgrind),
            };
            let show = |count: Option<f64>| count.map_or("-".into(), |count| format!("{count:.2}"));
            println!(
                "{what:<22} {:<20} system calls {:>8} instructions {:>10}",
                result.peer,
                show(result.system_calls),
                show(result.instructions)
            );
            counted.push(result);
        }
    }
    Ok(counted)
}

fn run(
    peer: &str,
    service: &Service,
    connections: usize,
    ask: &Ask,
    under: Under,
    requests: u64,
) -> Result<()> {
    let server = Server::start(peer, service, under)?;
    let (request, expected) = (ask.request.clone(), ask.expected.clone());
    let mut generator = Generator::connect(server.address, connections, request, expected)?;
    generator.closed_loop(Until::Answers(requests))?;
    server.stop()
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
