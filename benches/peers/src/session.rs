//! A run: all cells, in rounds, peers one after the other within each round.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::cells::{Cell, Client, Effort, Files, Work, cells};
use crate::counts::{self, Counted};
use crate::machine::Machine;
use crate::measure::{Sample, Subject};
use crate::report;
use crate::{peers, server, system};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only cells whose group and name contain this; `counts` only counts. Other figures stay as they are.
    #[arg(long)]
    only: Option<String>,
    /// Only peers whose name contains one of these; corio is always there.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// How often each is measured.
    #[arg(long)]
    rounds: Option<usize>,
    /// Of one sample of a server.
    #[arg(long)]
    milliseconds: Option<u64>,
    /// Print the figures, and write no report.
    #[arg(long)]
    dry: bool,
    /// Do not count system calls and instructions.
    #[arg(long)]
    no_counts: bool,
    #[command(flatten)]
    paths: report::Paths,
}

/// Everything that was found out.
#[derive(Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) quick: bool,
    pub(crate) rounds: usize,
    pub(crate) cells: Vec<CellResult>,
    pub(crate) counts: Vec<Counted>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct CellResult {
    pub(crate) group: String,
    pub(crate) name: String,
    /// Requests per second that an open loop made.
    pub(crate) pace: Option<f64>,
    pub(crate) peers: Vec<PeerResult>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct PeerResult {
    pub(crate) peer: String,
    /// In each round; `None`: that failed.
    pub(crate) rounds: Vec<Option<Sample>>,
}

pub(crate) const OURS: &str = "corio";
const REFERENCE: &str = "bare io_uring";

pub(crate) fn run(options: &Options, quick: bool) -> Result<()> {
    let effort = Effort {
        rounds: options.rounds.unwrap_or(if quick { 3 } else { 7 }),
        length: Duration::from_millis(options.milliseconds.unwrap_or(if quick {
            200
        } else {
            400
        })),
        quick,
    };
    system::pin(server::GENERATOR_CPU).context("a second processor is needed")?;
    let scratch = tempfile::tempdir().context("a directory for files")?;
    let files = Files::make(scratch.path(), &effort)?;
    let subjects = subjects(options, quick);
    let start = Instant::now();
    let mut results = Vec::new();
    for cell in cells(&effort, &files)? {
        let id = format!("{}/{}", cell.group, cell.name);
        if options.only.as_ref().is_some_and(|part| !id.contains(part)) {
            continue;
        }
        let result = measure(&cell, &subjects, &effort, scratch.path())?;
        println!("{:>5.0} s  {id}", start.elapsed().as_secs_f64());
        report::print_cell(&result);
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
    let machine = Machine::look();
    let mut all = Results { machine, quick, rounds: effort.rounds, cells: results, counts };
    if options.only.is_some() {
        all.join(Results::load(&options.paths.results)?);
    }
    all.save(&options.paths.results)?;
    report::write(&options.paths)
}

impl Results {
    /// Adds what an earlier run has of other things, in its order.
    fn join(&mut self, earlier: Results) {
        let mut again = std::mem::take(&mut self.cells);
        for old in earlier.cells {
            let same = |new: &CellResult| (&new.group, &new.name) == (&old.group, &old.name);
            let new = again.iter().position(same).map(|index| again.remove(index));
            self.cells.push(new.unwrap_or(old));
        }
        self.cells.append(&mut again);
        if self.counts.is_empty() {
            self.counts = earlier.counts;
        }
    }

    pub(crate) fn save(&self, path: &PathBuf) -> Result<()> {
        let text = serde_json::to_string(self)?;
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
    }

    pub(crate) fn load(path: &PathBuf) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("reading {}; `all` makes it", path.display()))?;
        Ok(serde_json::from_str(&text)?)
    }
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
            eprintln!("{program} is not installed, and left out");
        }
    }
    subjects
}

fn measure(
    cell: &Cell,
    subjects: &[Subject],
    effort: &Effort,
    scratch: &std::path::Path,
) -> Result<CellResult> {
    let able: Vec<&Subject> = subjects.iter().filter(|subject| subject.can(&cell.work)).collect();
    let pace = pace(&cell.work, effort, scratch)?;
    let mut peers: Vec<PeerResult> = able
        .iter()
        .map(|subject| PeerResult { peer: subject.name().to_owned(), rounds: Vec::new() })
        .collect();
    for round in 0..effort.rounds {
        // Each is first, second and so on in turn.
        for step in 0..able.len() {
            let index = (step + round) % able.len();
            let sample = able[index].measure(&cell.work, effort, pace.unwrap_or(0.0), scratch);
            if let Err(error) = &sample {
                eprintln!("{}, {}/{}: {error:#}", able[index].name(), cell.group, cell.name);
            }
            peers[index].rounds.push(sample.ok());
        }
    }
    Ok(CellResult { group: cell.group.to_owned(), name: cell.name.clone(), pace, peers })
}

/// What the bare loop can do with the same in a closed loop.
fn pace(work: &Work, effort: &Effort, scratch: &std::path::Path) -> Result<Option<f64>> {
    let Work::Paced { service, connections, ask, .. } = work else { return Ok(None) };
    let bare = Subject::Peer(peers::Peer::named(REFERENCE).expect("there is one"));
    let (service, ask) = (service.clone(), ask.clone());
    let client = Client::Ring;
    let closed = Work::Serve { service, connections: *connections, ask, client };
    Ok(Some(bare.measure(&closed, effort, 0.0, scratch)?.per_second))
}
