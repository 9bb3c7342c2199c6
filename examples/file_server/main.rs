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
mod memory;
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
use corio::net::TcpListener;
use corio::server::ConnectionContext;

use exchange::Answer;
use memory::Bursts;
use options::Options;
use request::HeadLimits;
use response::Clock;
use root::Root;
use serving::StopSignals;

/// How many fds a connection needs: its socket, and the file that it is being sent.
const FDS: usize = 2;

/// State shared by the connections of one worker.
struct Server {
    root: Arc<Root>,
    options: Arc<Options>,
    clock: Clock,
    /// Open connections on all workers, those being refused included.
    connections: Arc<AtomicUsize>,
    /// How many fit into the limit on open files.
    room: usize,
    bursts: Arc<Bursts>,
    /// Requests that were cut at the end of the grace period.
    cut: Arc<AtomicU64>,
}

impl Server {
    fn head_limits(&self) -> HeadLimits {
        HeadLimits { uri: self.options.max_uri, head: self.options.max_header }
    }

    /// Whether further connections have to wait for one to end.
    fn is_full(&self) -> bool {
        self.connections.load(Ordering::Relaxed) >= self.room
    }

    /// Writes a line about a request if `--log` was given.
    fn log(&self, ctx: &ConnectionContext<Rc<Server>>, target: &str, answer: &Answer) {
        if self.options.log {
            // An error in writing the log does not end the server.
            let (peer, target) = (ctx.peer(), target.escape_debug());
            let line = format!("{peer} {target} {} {}\n", answer.status.0, answer.len);
            let _ = io::stderr().write_all(line.as_bytes());
        }
    }
}

/// Counts a connection until dropped.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    /// Counts a connection; also returns how many there were before.
    fn new(server: &Server) -> (Self, usize) {
        let before = server.connections.fetch_add(1, Ordering::Relaxed);
        server.bursts.began(before + 1);
        (Counted(server.connections.clone()), before)
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
    let room = options.server.fitting(FDS);
    let server = options
        .server
        .apply(corio::server::Server::builder().listen_on(OwnedFd::try_from(listener)?), "files")
        .max_connections(room);
    let (root, options) = (Arc::new(root), Arc::new(options));
    let connections = Arc::new(AtomicUsize::new(0));
    let (cut, bursts) = (Arc::new(AtomicU64::new(0)), Arc::new(Bursts::default()));
    let all_cut = cut.clone();
    let state = move |_: &_| {
        let (root, options, connections) = (root.clone(), options.clone(), connections.clone());
        let (clock, cut, bursts) = (Clock::new(), cut.clone(), bursts.clone());
        Rc::new(Server { root, options, clock, connections, room, bursts, cut })
    };
    let server = server.start(state, connection::serve)?;
    signals.serve_until_stopped(server)?;
    // Not those on which no request was under way.
    serving::none_was_cut(all_cut.load(Ordering::Relaxed))?;
    Ok(())
}
