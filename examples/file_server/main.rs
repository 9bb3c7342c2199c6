//! Serves a directory over HTTP/1.1: `cargo run --release --example file_server -- .`
//!
//! One thread and one ring per processor. Each connection is a task; files go from the page cache
//! to the socket by `sendfile(2)`. See `--help` for the limits.
//!
//! A request passes through these files: `connection` receives it into its `input`, `request`
//! parses it (with `authority`), `exchange` answers it with the help of `paths`, `root`,
//! `conditions`, `ranges`, `multipart`, `listing` and `response`, and `output` sends the answer.

mod authority;
mod conditions;
mod connection;
mod exchange;
mod input;
mod listing;
mod multipart;
mod options;
mod output;
mod paths;
mod ranges;
mod request;
mod response;
mod root;
#[path = "../common/serving.rs"]
mod serving;

use std::error::Error;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use clap::Parser;
use corio::net::{SocketAddress, Stream, TcpListener};
use corio::server::ConnectionContext;

use exchange::Answer;
use options::Options;
use request::HeadLimits;
use response::Clock;
use root::Root;
use serving::StopSignals;

/// How many connections may be refused with a 503 at the same time; further ones are just closed.
const REFUSALS: usize = 64;

/// How many fds a connection needs: its socket, and the file that it is being sent.
const FDS: usize = 2;

/// State shared by the connections of one worker.
struct Server {
    root: Arc<Root>,
    options: Arc<Options>,
    clock: Clock,
    /// Open connections on all workers, those being refused included.
    connections: Arc<AtomicUsize>,
    /// Requests that were cut at the end of the grace period.
    cut: Arc<AtomicU64>,
}

impl Server {
    fn head_limits(&self) -> HeadLimits {
        HeadLimits { uri: self.options.max_uri, head: self.options.max_header }
    }

    /// Writes a line about a request if `--log` was given.
    fn log(&self, peer: &SocketAddress, target: &str, answer: &Answer) {
        if self.options.log {
            // An error in writing the log does not end the server.
            let target = target.escape_debug();
            let line = format!("{peer} {target} {} {}\n", answer.status.0, answer.len);
            let _ = io::stderr().write_all(line.as_bytes());
        }
    }
}

/// Counts a connection until dropped.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    /// Counts a connection; also returns how many there were before.
    fn new(connections: &Arc<AtomicUsize>) -> (Self, usize) {
        (Counted(connections.clone()), connections.fetch_add(1, Ordering::Relaxed))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("file_server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<(), Box<dyn Error>> {
    let root = Root::new(&options.root, !options.no_symlinks)
        .map_err(|error| format!("{}: {error}", options.root.display()))?;
    let signals = StopSignals::new()?;
    let listener =
        TcpListener::bind(&options.addr).map_err(|error| format!("{}: {error}", options.addr))?;
    let server = options
        .server
        .apply(corio::server::Server::builder().listen_on(OwnedFd::try_from(listener)?), "files")
        .max_connections(options.server.fitting(FDS));
    let (root, options) = (Arc::new(root), Arc::new(options));
    let connections = Arc::new(AtomicUsize::new(0));
    let cut = Arc::new(AtomicU64::new(0));
    let all_cut = cut.clone();
    let state = move |_: &_| {
        let (root, options, connections) = (root.clone(), options.clone(), connections.clone());
        Rc::new(Server { root, options, clock: Clock::new(), connections, cut: cut.clone() })
    };
    let server = server.start(state, serve)?;
    signals.serve_until_stopped(server)?;
    // Not those on which no request was under way.
    serving::none_was_cut(all_cut.load(Ordering::Relaxed))?;
    Ok(())
}

/// Serves a connection, or refuses it.
async fn serve(stream: Stream, ctx: ConnectionContext<Rc<Server>>) -> io::Result<()> {
    let server = ctx.state().clone();
    let (_counted, count) = Counted::new(&server.connections);
    let max = server.options.max_connections;
    if count < max {
        connection::serve(server, stream, &ctx).await;
    } else if count < max.saturating_add(REFUSALS) {
        connection::refuse(server, stream, ctx.peer().clone()).await;
    }
    // Otherwise it is closed without a response, as even a refusal costs something.
    Ok(())
}
