//! corio beside the other runtimes: the same programs on each, measured in one run.
//!
//! `cargo run --release -- all` measures everything (some 40 minutes), `quick` a part of it (less than
//! five). Either writes its figures to `results.json`, and the tables and plots to `docs/`.
//!
//! # Why this file has `unsafe`
//! It takes over a socket by its number.

mod block;
mod cells;
mod counting;
mod counts;
mod generator;
mod http;
mod machine;
mod measure;
mod peers;
mod program;
mod report;
mod server;
mod session;
mod system;

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
    /// Measures everything, and writes the report.
    All(session::Options),
    /// Measures a part, in less than five minutes.
    Quick(session::Options),
    /// Writes the report again, from the figures of an earlier run.
    Report {
        #[command(flatten)]
        paths: report::Paths,
    },
    /// Who can be measured, and how they are set up.
    Peers,
    /// A measured server, on a socket that it inherits; tells when it is there.
    #[command(hide = true)]
    Serve { peer: String, service: String, listener: RawFd },
    /// A program that measures itself; prints what it did.
    #[command(hide = true)]
    Job { peer: String, job: String },
    /// Another program, on the servers' processor.
    #[command(hide = true)]
    Pinned {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<PathBuf>,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Action::All(options) => session::run(&options, false),
        Action::Quick(options) => session::run(&options, true),
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
            // SAFETY: whoever starts this has made the socket for it alone.
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
            Err(Command::new(program).args(arguments).exec()).context("starting it")
        }
    }
}

fn named(name: &str) -> Result<Peer> {
    Peer::named(name).with_context(|| format!("there is no peer {name}; see `peers`"))
}
