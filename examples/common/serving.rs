//! What the servers among the examples have in common: how many workers, which driver, and the end.

#![allow(dead_code)] // Each uses a part.

use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use corio::server::{Server, StopHandle, WorkerStats, Workers, WorkersBuilder};
use corio::{DriverChoice, IoContext};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Command line options of servers.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Serving {
    /// How many threads serve; default: one per processor
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) workers: Option<u16>,

    /// What carries operations out: auto, uring or readiness
    #[arg(long, default_value_t = DriverChoice::Auto)]
    pub(crate) driver: DriverChoice,

    /// How long connections may go on after the first signal; a second one ends them at once
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = not_negative)]
    pub(crate) grace: f64,
}

fn not_negative(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if Duration::try_from_secs_f64(seconds).is_ok() => Ok(seconds),
        _ => Err("must be a number of seconds".into()),
    }
}

/// A time that is more than none.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    match text.parse().map(Duration::try_from_secs_f64) {
        Ok(Ok(duration)) if !duration.is_zero() => Ok(duration),
        _ => Err("must be a number of seconds, more than zero".into()),
    }
}

impl Serving {
    pub(crate) fn workers(&self) -> WorkersBuilder {
        let mut context = IoContext::builder();
        if self.driver != DriverChoice::Auto {
            // Otherwise the environment may choose.
            context = context.driver(self.driver);
        }
        let workers = Workers::builder().context(context);
        match self.workers {
            Some(count) => workers.count(count.into()),
            None => workers,
        }
    }

    /// How many workers there will be.
    pub(crate) fn count(&self) -> usize {
        let parallelism = || thread::available_parallelism().map_or(1, usize::from);
        self.workers.map_or_else(parallelism, usize::from)
    }

    pub(crate) fn grace_period(&self) -> Duration {
        Duration::from_secs_f64(self.grace)
    }
}

/// SIGINT and SIGTERM, caught from the moment this is made.
pub(crate) struct StopSignals(Signals);

impl StopSignals {
    pub(crate) fn new() -> io::Result<Self> {
        Signals::new([SIGINT, SIGTERM]).map(StopSignals)
    }

    /// The first signal stops, the second forces.
    pub(crate) fn stop(mut self, stopper: StopHandle) -> impl FnOnce() {
        let handle = self.0.handle();
        let thread = thread::spawn(move || {
            for (nth, _) in self.0.forever().enumerate() {
                if nth == 0 { stopper.stop() } else { stopper.abort() }
            }
        });
        move || {
            handle.close();
            // It does nothing that could panic.
            let _ = thread.join();
        }
    }

    /// Says where `server` listens, and serves until a signal comes.
    pub(crate) fn serve(self, server: Server) -> io::Result<WorkerStats> {
        let mut stdout = io::stdout();
        for address in server.addresses() {
            writeln!(stdout, "listening on {address}")?;
        }
        stdout.flush()?;
        let over = self.stop(server.stopper());
        let totals = server.join();
        over();
        Ok(totals)
    }
}
