//! How long warm requests take beside requests for what is not in memory, on a slow disk: the
//! example `file_server` on each driver, nginx, and nginx with `aio threads`.
//!
//! `cargo bench --bench cold`, as root: a control group limits what a server may read. All servers
//! have one worker. Each round measures each server once; ratios are taken within the round.
//!
//! - *Downloads*: four clients download large files, from a disk of 30 MiB/s.
//! - *Paths*: four clients ask for small files, each in a directory of its own, from a disk of 50
//!   reads per second. Neither directories nor files are in memory.
//!
//! Warm requests are for a file of 4 KiB in memory, 200 per second on 16 connections; their times
//! count from when they were due, whether or not the one before was answered.

// # Why this file has `unsafe`
// Only `support` and `disk` have `unsafe` code.

mod disk;
mod load;
mod servers;
#[path = "../support/mod.rs"]
mod support;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use disk::{Image, Limit, SlowGroup};
use load::{Cold, Sample};
use servers::{Server, Subject};

/// The first is what the others are compared with.
const SUBJECTS: [Subject; 4] = [
    Subject::Nginx { aio_threads: true },
    Subject::FileServer("uring"),
    Subject::FileServer("readiness"),
    Subject::Nginx { aio_threads: false },
];

const DOWNLOADS: usize = 4;
const BYTES_PER_SECOND: u64 = 30 << 20;
const READS_PER_SECOND: u64 = 50;
/// Directories with a cold file; more than can be read in a measurement.
const PATHS: usize = 2000;

struct Bench {
    scratch: PathBuf,
    file_server: PathBuf,
    nginx: Option<PathBuf>,
    rounds: usize,
    length: Duration,
}

impl Bench {
    fn root(&self) -> PathBuf {
        self.scratch.join("site")
    }

    /// Measures all subjects in turn, each after `prepare`, and prints what they did.
    fn compare(
        &self,
        name: &str,
        unit: (&str, f64),
        cold: Cold<'_>,
        mut prepare: impl FnMut() -> io::Result<SlowGroup>,
    ) -> io::Result<()> {
        let mut samples: Vec<Vec<Sample>> = SUBJECTS.map(|_| Vec::new()).into();
        for round in 0..self.rounds {
            for step in 0..SUBJECTS.len() {
                // Each round starts with another server.
                let index = (step + round) % SUBJECTS.len();
                let program = match SUBJECTS[index] {
                    Subject::FileServer(_) => Some(&self.file_server),
                    Subject::Nginx { .. } => self.nginx.as_ref(),
                };
                let Some(program) = program else { continue };
                let group = prepare()?;
                let server = Server::start(SUBJECTS[index], program, &self.root(), &group)?;
                samples[index].push(load::measure(server.address, cold, self.length));
            }
        }
        println!("{name}: milliseconds, medians of {} rounds and their range", self.rounds);
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        for (subject, of) in SUBJECTS.iter().zip(&samples).filter(|(_, of)| !of.is_empty()) {
            let each =
                |pick: &dyn Fn(&Sample) -> f64| support::spread(of.iter().map(pick).collect());
            println!("  {}", subject.name());
            println!("    median    {}", each(&|one| millis(one.median)));
            println!("    p99       {}", each(&|one| millis(one.p99)));
            println!("    longest   {}", each(&|one| millis(one.most)));
            println!("    cold      {} {}", each(&|one| one.cold_per_second / unit.1), unit.0);
            let beside = |pick: fn(&Sample) -> Duration| {
                let pairs = of.iter().zip(&samples[0]);
                let ratio = |(one, first)| millis(pick(one)) / millis(pick(first));
                support::spread(pairs.map(ratio).collect())
            };
            if !samples[0].is_empty() && *subject != SUBJECTS[0] {
                println!("    median beside aio threads  {}", beside(|one| one.median));
                println!("    p99 beside aio threads     {}", beside(|one| one.p99));
            }
        }
        Ok(())
    }

    fn downloads(&self) -> io::Result<()> {
        let root = self.root();
        // More than a client can download meanwhile.
        let seconds = self.length.as_secs_f64() + 1.0;
        let len = (BYTES_PER_SECOND as f64 * seconds / 2.0) as usize;
        let names: Vec<String> = (0..DOWNLOADS).map(|number| format!("large-{number}")).collect();
        for name in &names {
            disk::write(&root.join(name), len)?;
        }
        let unit = ("MiB/s", 1024.0 * 1024.0);
        self.compare("downloads", unit, Cold::Downloads(&names), || {
            for name in &names {
                disk::evict(&root.join(name))?;
            }
            SlowGroup::new(&root, Limit::BytesPerSecond(BYTES_PER_SECOND))
        })
    }

    fn paths(&self) -> io::Result<()> {
        let at = self.root().join("paths");
        let file = self.scratch.join("image");
        let mut image = Image::new(&file, &at, PATHS)?;
        let cold = Cold::Paths { clients: DOWNLOADS, count: PATHS };
        self.compare("paths", ("files/s", 1.0), cold, || {
            image.mount()?;
            SlowGroup::new(&file, Limit::ReadsPerSecond(READS_PER_SECOND))
        })
    }
}

fn run(scratch: &Path) -> io::Result<()> {
    let (rounds, length) = support::effort_or(5, 3000);
    let nginx = servers::installed("nginx");
    if nginx.is_none() {
        eprintln!("left out: nginx is not installed");
    }
    let file_server = servers::build_file_server()?;
    let bench = Bench { scratch: scratch.to_owned(), file_server, nginx, rounds, length };
    std::fs::create_dir(bench.root())?;
    disk::write(&bench.root().join("warm"), 4 << 10)?;
    let only = std::env::var("ONLY").unwrap_or_default();
    if "downloads".contains(&only) {
        bench.downloads()?;
    }
    if "paths".contains(&only) {
        bench.paths()?;
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let probe = SlowGroup::new(Path::new(env!("CARGO_TARGET_TMPDIR")), Limit::ReadsPerSecond(100));
    if let Err(error) = probe {
        eprintln!("left out: no control group to limit reads: {error}");
        return Ok(());
    }
    drop(probe);
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    run(scratch.path())
}
