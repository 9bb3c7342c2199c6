//! What the servers among the examples share: their options, and a graceful stop by signals.

#![allow(dead_code)] // Each example uses a part.

#[path = "durations.rs"]
pub(crate) mod durations;

use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use corio::server::{
    Balance, Server, ServerBuilder, StopHandle, WorkerStats, Workers, WorkersBuilder,
};
use corio::{DriverChoice, IoContext};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Command line options of all servers.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Serving {
    /// Number of worker threads; default: one per processor
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) workers: Option<u16>,

    /// Driver for I/O operations: auto, uring or readiness
    #[arg(long, default_value_t = DriverChoice::Auto)]
    pub(crate) driver: DriverChoice,

    /// How long open connections may go on after the first SIGINT or SIGTERM
    ///
    /// After that, or at a second signal, they are cancelled. `never` means no limit.
    #[arg(long, value_name = "SECONDS", default_value = "1", allow_negative_numbers = true,
          value_parser = durations::limit_or_zero)]
    pub(crate) grace: Duration,
}

impl Serving {
    /// Configures the workers.
    pub(crate) fn workers(&self) -> WorkersBuilder {
        let mut context = IoContext::builder();
        if self.driver != DriverChoice::Auto {
            // With `auto`, the environment variable CORIO_DRIVER may choose.
            context = context.driver(self.driver);
        }
        let workers = Workers::builder().context(context);
        match self.workers {
            Some(count) => workers.count(count.into()),
            None => workers,
        }
    }

    /// Returns the number of workers.
    pub(crate) fn count(&self) -> usize {
        let parallelism = || thread::available_parallelism().map_or(1, usize::from);
        self.workers.map_or_else(parallelism, usize::from)
    }
}

/// Command line options of the servers that are built on [`Server`].
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ServerOptions {
    #[command(flatten)]
    pub(crate) serving: Serving,

    /// How connections are distributed over the workers
    #[arg(long, value_enum, default_value_t = BalanceChoice::ReusePort)]
    pub(crate) balance: BalanceChoice,
}

/// The command line's names of [`Balance`].
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum BalanceChoice {
    /// All workers accept; the kernel distributes
    ReusePort,
    /// One worker accepts, and hands each connection to the worker that has the fewest
    LeastLoaded,
}

impl ServerOptions {
    /// Applies these options to `server`, whose threads are called `name` and a number.
    pub(crate) fn apply(&self, server: ServerBuilder, name: &str) -> ServerBuilder {
        let balance = match self.balance {
            BalanceChoice::ReusePort => Balance::ReusePort,
            BalanceChoice::LeastLoaded => Balance::LeastLoaded,
        };
        server
            .workers(self.serving.workers().name(name))
            .balance(balance)
            .grace_period(self.serving.grace)
    }
}

/// SIGINT and SIGTERM, caught from the moment this is made.
pub(crate) struct StopSignals(Signals);

impl StopSignals {
    /// Catches the signals from now on.
    pub(crate) fn new() -> io::Result<Self> {
        Signals::new([SIGINT, SIGTERM]).map(StopSignals)
    }

    /// Calls `stop` at the first signal, and `abort` at each further one.
    ///
    /// The returned function ends this.
    pub(crate) fn stop(mut self, stopper: StopHandle) -> impl FnOnce() {
        let handle = self.0.handle();
        let thread = thread::spawn(move || {
            for (nth, _) in self.0.forever().enumerate() {
                if nth == 0 { stopper.stop() } else { stopper.abort() }
            }
        });
        move || {
            handle.close();
            // The thread does nothing that could panic.
            let _ = thread.join();
        }
    }

    /// Prints the addresses of `server`, and serves until a signal stops it.
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
