//! One sample of one peer in one cell.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::cells::{Ask, Client, Effort, Work};
use crate::generator::{ClosedLoop, EpollGenerator, Expected, Generator, Outcome, Until, churn};
use crate::peers::Peer;
use crate::program::{Done, Job, Reads, Service};
use crate::server::{self, Server, Under};

/// What one round tells of a peer. What does not apply is absent.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Requests, bytes, or whatever is counted.
    pub(crate) per_second: f64,
    /// CPU time of the measured process, for each.
    pub(crate) cpu_ns: f64,
    /// In microseconds: p50, p99, p99.9.
    pub(crate) latency: Option<[f64; 3]>,
    /// For each; not known of programs that aren't ours.
    pub(crate) allocations: Option<f64>,
    /// Bytes for each connection.
    pub(crate) memory: Option<f64>,
    /// How much later than asked, in microseconds, on average.
    pub(crate) late: Option<f64>,
}

impl Sample {
    fn of_load(outcome: &Outcome, cpu: Duration, allocations: Option<u64>) -> Self {
        let each = |total: f64| total / outcome.answers as f64;
        let micros = |quantile| outcome.latencies.value_at_quantile(quantile) as f64 / 1000.0;
        Sample {
            per_second: outcome.answers as f64 / outcome.wall.as_secs_f64(),
            cpu_ns: each(cpu.as_nanos() as f64),
            latency: Some([micros(0.5), micros(0.99), micros(0.999)]),
            allocations: allocations.map(|count| each(count as f64)),
            ..Sample::default()
        }
    }

    fn of_job(job: Option<&Job>, done: Done) -> Self {
        let each = |total: u64| total as f64 / done.count as f64;
        let late = match job {
            Some(Job::Sleep { nanoseconds, .. }) => {
                Some((each(done.wall_ns) - *nanoseconds as f64) / 1000.0)
            }
            _ => None,
        };
        Sample {
            per_second: done.count as f64 / (done.wall_ns as f64 / 1e9),
            cpu_ns: each(done.cpu_ns),
            allocations: job.map(|_| each(done.allocations)),
            late,
            ..Sample::default()
        }
    }
}

/// Who is measured.
pub(crate) enum Subject {
    Peer(Peer),
    Nginx,
    Fio,
}

impl Subject {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Subject::Peer(peer) => peer.name,
            Subject::Nginx => "nginx",
            Subject::Fio => "fio",
        }
    }

    pub(crate) fn can(&self, work: &Work) -> bool {
        match (self, work) {
            (Subject::Peer(peer), Work::Serve { service, .. }) => peer.offers(service),
            (Subject::Peer(_), Work::Paced { .. } | Work::Churn { .. } | Work::Idle { .. }) => true,
            (Subject::Peer(peer), Work::Job(job)) => peer.can(job),
            (Subject::Nginx, Work::Serve { service, .. }) => {
                matches!(service, Service::Files { .. })
            }
            (Subject::Nginx, _) => false,
            (Subject::Fio, work) => matches!(work, Work::Job(Job::Reads(_))),
        }
    }

    fn serve(&self, service: &Service, scratch: &Path) -> Result<Server> {
        match (self, service) {
            (Subject::Peer(peer), _) => Server::start(peer.name, service, Under::Nothing),
            (Subject::Nginx, Service::Files { root }) => Server::nginx(root, scratch),
            _ => bail!("{} serves no {service:?}", self.name()),
        }
    }

    /// One round of one cell.
    pub(crate) fn measure(
        &self,
        work: &Work,
        effort: &Effort,
        pace: f64,
        scratch: &Path,
    ) -> Result<Sample> {
        match work {
            Work::Serve { service, connections, ask, client } => {
                let server = self.serve(service, scratch)?;
                let Ask { request, expected } = ask.clone();
                let (address, until) = (server.address, Until::Elapsed(effort.length));
                match client {
                    Client::Ring => {
                        let asks = Generator::connect(address, *connections, request, expected)?;
                        load(&server, asks, effort, |asks| asks.closed_loop(until))
                    }
                    Client::Epoll => {
                        let asks =
                            EpollGenerator::connect(address, *connections, request, expected)?;
                        load(&server, asks, effort, |asks| asks.closed_loop(until))
                    }
                }
            }
            Work::Paced { service, connections, ask, share } => {
                let server = self.serve(service, scratch)?;
                let Ask { request, expected } = ask.clone();
                let asks = Generator::connect(server.address, *connections, request, expected)?;
                load(&server, asks, effort, |asks| asks.open_loop(pace * share, effort.length))
            }
            Work::Churn { at_once } => {
                let server = self.serve(&Service::Echo { buffer: 4096 }, scratch)?;
                churn(server.address, *at_once, Until::Elapsed(effort.length / 4))?;
                let (cpu, allocations) = (server.cpu()?, server.allocations()?);
                let outcome = churn(server.address, *at_once, Until::Elapsed(effort.length))?;
                let allocations = allocated_since(&server, allocations)?;
                Ok(Sample::of_load(&outcome, server.cpu()? - cpu, allocations))
            }
            Work::Idle { connections } => {
                let server = self.serve(&Service::Echo { buffer: 4096 }, scratch)?;
                let ask = Ask { request: vec![7; 64], expected: Expected::Echo };
                // Whatever the first connections need only once.
                let mut first = Generator::connect(
                    server.address,
                    8,
                    ask.request.clone(),
                    ask.expected.clone(),
                )?;
                first.closed_loop(Until::Answers(1000))?;
                let before = server.memory()?;
                let mut all =
                    Generator::connect(server.address, *connections, ask.request, ask.expected)?;
                all.closed_loop(Until::Answers(*connections as u64))?;
                let after = server.memory()?;
                let memory = Some(after.saturating_sub(before) as f64 / *connections as f64);
                Ok(Sample { memory, ..Sample::default() })
            }
            Work::Job(job) => match (self, job) {
                (Subject::Fio, Job::Reads(Reads { file, direct, depth, .. })) => {
                    Ok(Sample::of_job(None, server::fio(file, *direct, *depth, effort.length)?))
                }
                _ => Ok(Sample::of_job(
                    Some(job),
                    server::run_job(self.name(), job, Under::Nothing)?,
                )),
            },
        }
    }
}

fn allocated_since(server: &Server, before: Option<u64>) -> Result<Option<u64>> {
    Ok(server.allocations()?.zip(before).map(|(after, before)| after - before))
}

fn load<G: ClosedLoop>(
    server: &Server,
    mut generator: G,
    effort: &Effort,
    run: impl FnOnce(&mut G) -> Result<Outcome>,
) -> Result<Sample> {
    // All are accepted, and everything has been used, before the clock starts.
    generator.closed_loop(Until::Elapsed(effort.length / 8))?;
    let (cpu, allocations) = (server.cpu()?, server.allocations()?);
    let outcome = run(&mut generator)?;
    let cpu = server.cpu()? - cpu;
    Ok(Sample::of_load(&outcome, cpu, allocated_since(server, allocations)?))
}
