//! corio beside the other runtimes: the same programs on each, measured in one run.
//!
//! `cargo run --release -- all` measures everything (some 40 minutes), `quick` a part of it (less than
//! five). Either writes its figures to `results.json`, and the tables and plots to `docs/`.

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
    /// A measured server; prints where it is.
    #[command(hide = true)]
    Serve { peer: String, service: String },
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
        Action::Serve { peer, service } => {
            system::pin(server::SERVER_CPU)?;
            let peer = named(&peer)?;
            let service: Service = serde_json::from_str(&service)?;
            let listener = listen()?;
            println!("{}", serde_json::to_string(&Ready::of(&listener))?);
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

/// With a queue that is long enough for all connections at once. Accepted ones inherit `TCP_NODELAY`.
fn listen() -> Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}
