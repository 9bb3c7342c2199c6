//! A run: all workloads, in rounds; within a round the peers are measured one after the other.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::machine::Machine;
use crate::measure::Subject;
use crate::results::{OURS, PeerResult, Results, WorkloadResult};
use crate::workloads::{Client, Files, Kind, RunConfig, Workload};
use crate::{counts, peers, report, server, system, workloads};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Measure only workloads whose `group/name` contains this; `counts` selects the counts. All
    /// other figures are kept.
    #[arg(long)]
    only: Option<String>,
    /// Measure only peers whose name contains one of these, and corio.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// The number of rounds.
    #[arg(long)]
    rounds: Option<usize>,
    /// The duration of one sample of a server.
    #[arg(long)]
    milliseconds: Option<u64>,
    /// Print the figures, and write neither results nor report.
    #[arg(long)]
    dry: bool,
    /// Do not count system calls and instructions.
    #[arg(long)]
    no_counts: bool,
    #[command(flatten)]
    paths: report::Paths,
}

const REFERENCE: &str = "bare io_uring";

pub(crate) fn run(options: &Options, quick: bool) -> Result<()> {
    let config = RunConfig {
        rounds: options.rounds.unwrap_or(if quick { 3 } else { 7 }),
        length: Duration::from_millis(options.milliseconds.unwrap_or(if quick {
            200
        } else {
            400
        })),
        quick,
    };
    system::pin(server::GENERATOR_CPU)
        .context("pinning to processor 1; two processors are needed")?;
    let scratch = tempfile::tempdir().context("creating a temporary directory")?;
    let files = Files::make(scratch.path(), &config)?;
    let subjects = subjects(options, quick);
    let start = Instant::now();
    let mut results = Vec::new();
    for workload in workloads::all(&config, &files)? {
        let id = format!("{}/{}", workload.group, workload.name);
        if options.only.as_ref().is_some_and(|part| !id.contains(part)) {
            continue;
        }
        let result = measure(&workload, &subjects, &config, scratch.path())?;
        println!("{:>5.0} s  {id}", start.elapsed().as_secs_f64());
        report::print(&result);
        results.push(result);
    }
    let wanted = options.only.as_ref().is_none_or(|part| "counts".contains(part.as_str()));
    let counts = if wanted && !options.no_counts {
        counts::count(&subjects, &files, scratch.path(), quick)?
    } else {
        Vec::new()
    };
    if options.dry {
        return Ok(());
    }
    let machine = Machine::detect();
    let mut all = Results { machine, quick, rounds: config.rounds, workloads: results, counts };
    if options.only.is_some() {
        all.merge(Results::load(&options.paths.results)?);
    }
    all.save(&options.paths.results)?;
    report::write(&options.paths)
}

fn subjects(options: &Options, quick: bool) -> Vec<Subject> {
    let wanted = |name: &str| {
        name == OURS
            || if options.peers.is_empty() {
                !quick || !["tuned", "epoll", "buffers"].iter().any(|part| name.contains(part))
            } else {
                options.peers.iter().any(|part| name.contains(part.as_str()))
            }
    };
    let mut subjects: Vec<_> =
        peers::all().into_iter().filter(|peer| wanted(peer.name)).map(Subject::Peer).collect();
    for (program, subject) in [("nginx", Subject::Nginx), ("fio", Subject::Fio)] {
        if !wanted(program) {
            continue;
        }
        if server::is_installed(program) {
            subjects.push(subject);
        } else {
            eprintln!("{program} is not installed: skipped");
        }
    }
    subjects
}

fn measure(
    workload: &Workload,
    subjects: &[Subject],
    config: &RunConfig,
    scratch: &Path,
) -> Result<WorkloadResult> {
    let able: Vec<&Subject> =
        subjects.iter().filter(|subject| subject.can(&workload.kind)).collect();
    let pace = pace(&workload.kind, config, scratch)?;
    let mut peers: Vec<PeerResult> = able
        .iter()
        .map(|subject| PeerResult { peer: subject.name().to_owned(), rounds: Vec::new() })
        .collect();
    for round in 0..config.rounds {
        // Rotate the order, so that each peer is first in some round.
        for step in 0..able.len() {
            let index = (step + round) % able.len();
            let sample = able[index].measure(&workload.kind, config, pace.unwrap_or(0.0), scratch);
            if let Err(error) = &sample {
                eprintln!(
                    "{}, {}/{}: {error:#}",
                    able[index].name(),
                    workload.group,
                    workload.name
                );
            }
            peers[index].rounds.push(sample.ok());
        }
    }
    Ok(WorkloadResult {
        group: workload.group.to_owned(),
        name: workload.name.clone(),
        pace,
        peers,
    })
}

/// Measures the bare loop's throughput in a closed loop, as the base of an open loop's rate.
fn pace(kind: &Kind, config: &RunConfig, scratch: &Path) -> Result<Option<f64>> {
    let Kind::Paced { service, connections, exchange, .. } = kind else { return Ok(None) };
    let bare = Subject::Peer(peers::named(REFERENCE).expect("`REFERENCE` names a peer"));
    let (service, exchange) = (service.clone(), exchange.clone());
    let client = Client::Ring;
    let closed = Kind::Serve { service, connections: *connections, exchange, client };
    Ok(Some(bare.measure(&closed, config, 0.0, scratch)?.per_second))
}
