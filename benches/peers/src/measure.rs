//! One sample of one peer for one workload.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::generator::{ClosedLoop, EpollGenerator, Expected, Generator, Outcome, Until, churn};
use crate::peers::Peer;
use crate::program::{Done, Job, Reads, Service};
use crate::results::Sample;
use crate::server::{self, Server, Wrapper};
use crate::workloads::{Client, Exchange, Kind, RunConfig};

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

/// A measured program: a peer of this package, or one that is installed.
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

    /// Returns `true` if the program can be measured with this workload.
    pub(crate) fn can(&self, kind: &Kind) -> bool {
        match (self, kind) {
            (Subject::Peer(peer), Kind::Serve { service, .. }) => peer.offers(service),
            (Subject::Peer(_), Kind::Paced { .. } | Kind::Churn { .. } | Kind::Idle { .. }) => true,
            (Subject::Peer(peer), Kind::Job(job)) => peer.can(job),
            (Subject::Nginx, Kind::Serve { service, .. }) => {
                matches!(service, Service::Files { .. })
            }
            (Subject::Nginx, _) => false,
            (Subject::Fio, kind) => matches!(kind, Kind::Job(Job::Reads(_))),
        }
    }

    fn serve(&self, service: &Service, scratch: &Path) -> Result<Server> {
        match (self, service) {
            (Subject::Peer(peer), _) => Server::start(peer.name, service, Wrapper::Nothing),
            (Subject::Nginx, Service::Files { root }) => Server::nginx(root, scratch),
            _ => bail!("{} has no server for {service:?}", self.name()),
        }
    }

    /// Measures one round of a workload.
    pub(crate) fn measure(
        &self,
        kind: &Kind,
        config: &RunConfig,
        pace: f64,
        scratch: &Path,
    ) -> Result<Sample> {
        match kind {
            Kind::Serve { service, connections, exchange, client } => {
                let server = self.serve(service, scratch)?;
                let Exchange { request, expected } = exchange.clone();
                let (address, until) = (server.address, Until::Elapsed(config.length));
                match client {
                    Client::Ring => {
                        let generator =
                            Generator::connect(address, *connections, request, expected)?;
                        load(&server, generator, config, |generator| generator.closed_loop(until))
                    }
                    Client::Epoll => {
                        let generator =
                            EpollGenerator::connect(address, *connections, request, expected)?;
                        load(&server, generator, config, |generator| generator.closed_loop(until))
                    }
                }
            }
            Kind::Paced { service, connections, exchange, share } => {
                let server = self.serve(service, scratch)?;
                let Exchange { request, expected } = exchange.clone();
                let generator =
                    Generator::connect(server.address, *connections, request, expected)?;
                load(&server, generator, config, |generator| {
                    generator.open_loop(pace * share, config.length)
                })
            }
            Kind::Churn { at_once } => {
                let server = self.serve(&Service::Echo { buffer: 4096 }, scratch)?;
                churn(server.address, *at_once, Until::Elapsed(config.length / 4))?;
                let (cpu, allocations) = (server.cpu()?, server.allocations()?);
                let outcome = churn(server.address, *at_once, Until::Elapsed(config.length))?;
                let allocations = allocated_since(&server, allocations)?;
                Ok(Sample::of_load(&outcome, server.cpu()? - cpu, allocations))
            }
            Kind::Idle { connections } => {
                let server = self.serve(&Service::Echo { buffer: 4096 }, scratch)?;
                let exchange = Exchange { request: vec![7; 64], expected: Expected::Echo };
                // Leave out what only the first connections allocate.
                let mut first = Generator::connect(
                    server.address,
                    8,
                    exchange.request.clone(),
                    exchange.expected.clone(),
                )?;
                first.closed_loop(Until::Answers(1000))?;
                let before = server.memory()?;
                let mut all = Generator::connect(
                    server.address,
                    *connections,
                    exchange.request,
                    exchange.expected,
                )?;
                all.closed_loop(Until::Answers(*connections as u64))?;
                let after = server.memory()?;
                let memory = Some(after.saturating_sub(before) as f64 / *connections as f64);
                Ok(Sample { memory, ..Sample::default() })
            }
            Kind::Job(job) => match (self, job) {
                (Subject::Fio, Job::Reads(Reads { file, direct, depth, .. })) => {
                    Ok(Sample::of_job(None, server::fio(file, *direct, *depth, config.length)?))
                }
                _ => Ok(Sample::of_job(
                    Some(job),
                    server::run_job(self.name(), job, Wrapper::Nothing)?,
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
    config: &RunConfig,
    run: impl FnOnce(&mut G) -> Result<Outcome>,
) -> Result<Sample> {
    // Accept all connections and warm up before the clock starts.
    generator.closed_loop(Until::Elapsed(config.length / 8))?;
    let (cpu, allocations) = (server.cpu()?, server.allocations()?);
    let outcome = run(&mut generator)?;
    let cpu = server.cpu()? - cpu;
    Ok(Sample::of_load(&outcome, cpu, allocated_since(server, allocations)?))
}
