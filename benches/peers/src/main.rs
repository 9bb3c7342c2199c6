//! corio beside the other runtimes: the same programs on each, measured in one run.
//!
//! `cargo run --release -- all` measures everything (some 25 minutes), `quick` a part of it (less
//! than five). Either writes its figures to `results.json`, and pages and plots to `docs/`;
//! `report` writes these again.

// # Why this file has `unsafe`
// It takes ownership of an inherited socket by its number.

mod block;
mod counting;
mod counts;
mod generator;
mod http;
mod machine;
mod measure;
mod peers;
mod program;
mod report;
mod results;
mod server;
mod suite;
mod system;
mod workloads;

use std::net::TcpListener;
use std::os::fd::{FromRawFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

use crate::peers::Peer;
use crate::program::{Job, Ready, Service};

#[derive(Parser)]
#[command(about)]
struct Arguments {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Measure everything, and write the report.
    All(suite::Options),
    /// Measure a part, in less than five minutes.
    Quick(suite::Options),
    /// Write the report from the stored figures, without measuring.
    Report {
        #[command(flatten)]
        paths: report::Paths,
    },
    /// List the peers with their settings.
    Peers,
    /// Run a measured server on an inherited listener; prints a line when it is ready.
    #[command(hide = true)]
    Serve { peer: String, service: String, listener: RawFd },
    /// Run a program that measures itself; prints its measurements.
    #[command(hide = true)]
    Job { peer: String, job: String },
    /// Run another program on the servers' processor.
    #[command(hide = true)]
    Pinned {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<PathBuf>,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Action::All(options) => suite::run(&options, false),
        Action::Quick(options) => suite::run(&options, true),
        Action::Report { paths } => report::write(&paths),
        Action::Peers => {
            for peer in peers::all() {
                println!("{:<20} {}", peer.name, peer.settings);
            }
            Ok(())
        }
        Action::Serve { peer, service, listener } => {
            system::pin(server::SERVER_CPU)?;
            let peer = named(&peer)?;
            let service: Service = serde_json::from_str(&service)?;
            // SAFETY: the parent process has passed the number of a listener that this process
            // alone uses, and nothing else in this process owns it.
            let listener = unsafe { TcpListener::from_raw_fd(listener) };
            println!("{}", serde_json::to_string(&Ready::now())?);
            peer.serve(listener, service);
            Ok(())
        }
        Action::Job { peer, job } => {
            system::pin(server::SERVER_CPU)?;
            let job: Job = serde_json::from_str(&job)?;
            println!("{}", serde_json::to_string(&named(&peer)?.run(job))?);
            Ok(())
        }
        Action::Pinned { command } => {
            system::pin(server::SERVER_CPU)?;
            let Some((program, arguments)) = command.split_first() else { bail!("no command") };
            Err(Command::new(program).args(arguments).exec()).context("starting the program")
        }
    }
}

fn named(name: &str) -> Result<Peer> {
    peers::named(name).with_context(|| format!("unknown peer {name}; `peers` lists all"))
}
