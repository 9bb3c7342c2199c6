//! Serves a directory over HTTP/1.1: `cargo run --release --example file_server -- .`
//!
//! One thread, one ring. Each connection is a task; files go from the page cache to the socket by
//! `sendfile(2)`. See `--help` for the limits.
//!
//! A request passes through these files: `connection` receives it into its `input`, `request`
//! understands it, `exchange` answers it with the help of `paths`, `root`, `conditions`, `ranges`,
//! `multipart`, `listing` and `response`, and `output` sends the answer.

mod conditions;
mod connection;
mod exchange;
mod input;
mod listing;
mod multipart;
mod open_files;
mod options;
mod output;
mod paths;
mod ranges;
mod request;
mod response;
mod root;
#[path = "../common/signals.rs"]
mod signals;

use std::cell::Cell;
use std::convert::Infallible;
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use clap::Parser;
use corio::net::{Socket, SocketAddress, TcpListener, TcpStream};
use corio::{IoContext, Raced, race, sleep, spawn};

use exchange::Answer;
use options::Options;
use request::HeadLimits;
use response::Clock;
use root::Root;
use signals::Signals;

/// How long to wait when no connection can be accepted, as when file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections that may wait to be accepted; the kernel has its own limit.
const BACKLOG: i32 = 4096;

/// How many connections may be told at the same time that they are too many.
const REFUSALS: usize = 64;

/// What all connections share.
struct Server {
    root: Root,
    options: Options,
    clock: Clock,
    /// Connections that exist, refused ones included.
    connections: Cell<usize>,
}

impl Server {
    fn head_limits(&self) -> HeadLimits {
        HeadLimits { uri: self.options.max_uri, head: self.options.max_header }
    }

    /// Writes a line about a request, if lines are wanted.
    fn log(&self, peer: &SocketAddress, target: &str, answer: &Answer) {
        if self.options.log {
            // A log that can't be written must not end the server.
            let target = target.escape_debug();
            let line = format!("{peer} {target} {} {}\n", answer.status.0, answer.len);
            let _ = io::stderr().write_all(line.as_bytes());
        }
    }
}

/// Counts a connection for as long as it exists.
struct Counted(Rc<Server>);

impl Counted {
    fn new(server: &Rc<Server>) -> Self {
        server.connections.update(|count| count + 1);
        Counted(server.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.update(|count| count - 1);
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
    open_files::raise_limit();
    let mut context = IoContext::new(256)?;
    let signals = Signals::new()?;
    let listener = listen(&options.addr).map_err(|error| format!("{}: {error}", options.addr))?;
    let mut stdout = io::stdout();
    writeln!(stdout, "listening on {}", listener.local_addr()?)?;
    stdout.flush()?;

    let connections = Cell::new(0);
    let server = Rc::new(Server { root, options, clock: Clock::new(), connections });
    // Connections that are left are cancelled when this is over.
    context.run_until_done(async {
        match race(accept(&server, &listener), signals.wait()).await {
            Raced::Left(never, _) => match never {},
            Raced::Right(_, signal) => signal,
        }
    })?;
    Ok(())
}

/// Listens on the first address of that name that can be had. Unlike `TcpListener::bind` it does
/// not share the port: a second server on it would get some of the connections.
fn listen(name: &str) -> io::Result<TcpListener> {
    let mut refused = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in SocketAddress::resolve(name)? {
        match listen_on(&address) {
            Ok(listener) => return Ok(listener),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

fn listen_on(address: &SocketAddress) -> io::Result<TcpListener> {
    let is_v4 = address.as_inet().is_some_and(|inet| inet.is_ipv4());
    let socket = if is_v4 { Socket::tcp_v4() } else { Socket::tcp_v6() }?;
    socket.set_reuse_addr(true)?;
    // Accepted connections inherit it.
    socket.set_nodelay(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts connections for ever.
async fn accept(server: &Rc<Server>, listener: &TcpListener) -> Infallible {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => admit(server, stream, peer),
            // The client has changed its mind.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            // Out of file descriptors or memory, or trouble with the network. It stays in the
            // queue, so trying at once would only spin.
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Starts a task for a connection, or refuses it.
fn admit(server: &Rc<Server>, stream: TcpStream, peer: SocketAddress) {
    let count = server.connections.get();
    let max = server.options.max_connections;
    let counted = Counted::new(server);
    let server = server.clone();
    if count < max {
        spawn(async move {
            let _counted = counted;
            connection::serve(server, stream, peer).await;
        });
    } else if count < max + REFUSALS {
        spawn(async move {
            let _counted = counted;
            connection::refuse(server, stream, peer).await;
        });
    }
    // Otherwise it is closed without a word: even saying no costs something.
}
