//! What the servers among the examples share: their options, and a graceful stop by signals.

#![allow(dead_code)] // Each example uses a part.

#[path = "durations.rs"]
pub(crate) mod durations;
#[path = "hangup.rs"]
mod hangup;
#[path = "log.rs"]
mod log;

use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use corio::net::SocketAddress;
use corio::server::{
    Balance, Server, ServerBuilder, StopHandle, WorkerStats, Workers, WorkersBuilder,
};
use corio::{DriverChoice, IoContext};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use log::OncePerSecond;

/// Accepts that have failed.
static ACCEPTS: OncePerSecond = OncePerSecond::new();
/// Connections that have failed.
static FAILURES: OncePerSecond = OncePerSecond::new();

/// Reports an accept that has failed, once a second at most.
pub(crate) fn report_accept(error: &io::Error) {
    let program = env!("CARGO_BIN_NAME");
    ACCEPTS.line(format_args!("{program}: accept: {error}; new connections have to wait"));
}

/// Reports a connection that has failed, once a second at most.
pub(crate) fn report_failure(peer: &SocketAddress, error: &io::Error) {
    FAILURES.line(format_args!("{peer}: {error}"));
}

/// Command line options of all servers.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Serving {
    /// Number of worker threads; default: one per processor
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) workers: Option<u16>,

    /// Driver for I/O operations: auto, uring or readiness
    #[arg(long, default_value_t = DriverChoice::Auto)]
    pub(crate) driver: DriverChoice,

    /// Whether each worker is pinned to one processor
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_value_t = true, default_missing_value = "true",
          action = clap::ArgAction::Set)]
    pub(crate) pin: bool,

    /// How long open connections may go on after the first SIGINT, SIGTERM or SIGHUP
    ///
    /// After that, or at a second signal, they are cancelled, and the exit status is 1. `never`
    /// means no limit. A third signal ends the process at once.
    #[arg(long, value_name = "SECONDS", default_value = "1", allow_negative_numbers = true,
          value_parser = durations::limit_or_zero)]
    pub(crate) grace: Duration,
}

impl Serving {
    /// Configures the workers, whose panics are reported once a second at most.
    pub(crate) fn workers(&self) -> WorkersBuilder {
        log::limit_panics();
        let mut context = IoContext::builder();
        if self.driver != DriverChoice::Auto {
            // With `auto`, the environment variable CORIO_DRIVER may choose.
            context = context.driver(self.driver);
        }
        let workers = Workers::builder().context(context).pin(self.pin);
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
    /// Returns how many connections fit into the hard limit on open files, if each needs `fds` of
    /// them. Further ones should wait in the kernel's queue: if they took the last fds, those that
    /// are served could open no file and reach no upstream.
    pub(crate) fn fitting(&self, fds: usize) -> usize {
        /// For what each worker opens: its driver, its listener, and a connection that waits for
        /// room.
        const PER_WORKER: usize = 5;
        /// For standard streams, signals, and what the program opens at its start.
        const OTHERS: usize = 10;
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
        let limit = limit.and_then(|limit| limit.try_into().ok()).unwrap_or(usize::MAX);
        let left = limit.saturating_sub(OTHERS + PER_WORKER * self.serving.count());
        (left / fds).max(1)
    }

    /// Applies these options to `server`, whose threads are called `name` and a number.
    pub(crate) fn apply(&self, server: ServerBuilder, name: &str) -> ServerBuilder {
        let balance = match self.balance {
            BalanceChoice::ReusePort => Balance::ReusePort,
            BalanceChoice::LeastLoaded => Balance::LeastLoaded,
        };
        server
            .raise_fd_limit(true)
            .on_accept_error(report_accept)
            .workers(self.serving.workers().name(name))
            .balance(balance)
            .grace_period(self.serving.grace)
    }
}

/// The signals that stop a server, caught from the moment this is made: SIGINT, SIGTERM, and SIGHUP
/// unless the process was started with that ignored, as `nohup` does.
pub(crate) struct StopSignals(Signals);

impl StopSignals {
    /// Catches the signals from now on.
    pub(crate) fn new() -> io::Result<Self> {
        let signals = Signals::new([SIGINT, SIGTERM])?;
        if !hangup::is_ignored() {
            signals.add_signal(SIGHUP)?;
        }
        Ok(StopSignals(signals))
    }

    /// Calls `stop` at the first signal, and `abort` at the second. The third one ends the process,
    /// as it does without a handler.
    ///
    /// The returned function ends this, and reports how many log lines were left out last.
    pub(crate) fn stop(mut self, stop: StopHandle, abort: StopHandle) -> impl FnOnce() {
        let handle = self.0.handle();
        let thread = thread::spawn(move || {
            for (nth, signal) in self.0.forever().enumerate() {
                match nth {
                    0 => stop.stop(),
                    1 => {
                        stop.abort();
                        abort.abort();
                    }
                    // Something does not end: a handler that waits for no operation, say.
                    _ => drop(signal_hook::low_level::emulate_default_handler(signal)),
                }
            }
        });
        move || {
            handle.close();
            // The thread does nothing that could panic.
            let _ = thread.join();
            ACCEPTS.finish("failed accepts");
            FAILURES.finish("failed connections");
            log::PANICS.finish("panics");
        }
    }

    /// Prints the addresses of `server`, and serves until a signal stops it.
    ///
    /// # Errors
    /// Also if connections were cut when the grace period ended.
    pub(crate) fn serve(self, server: Server) -> io::Result<()> {
        none_was_cut(self.serve_until_stopped(server)?.cancelled)
    }

    /// The same, whatever was cut.
    pub(crate) fn serve_until_stopped(self, server: Server) -> io::Result<WorkerStats> {
        let mut stdout = io::stdout();
        for address in server.addresses() {
            writeln!(stdout, "listening on {address}")?;
        }
        stdout.flush()?;
        let over = self.stop(server.stopper(), server.stopper());
        let totals = server.join();
        over();
        Ok(totals)
    }
}

/// Reports connections that were cancelled at the end of the grace period, or by a second signal.
pub(crate) fn none_was_cut(connections: u64) -> io::Result<()> {
    match connections {
        0 => Ok(()),
        1 => Err(io::Error::other("1 connection was cut when the grace period ended")),
        _ => {
            let text = format!("{connections} connections were cut when the grace period ended");
            Err(io::Error::other(text))
        }
    }
}
