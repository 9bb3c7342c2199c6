//! An axum router whose handlers await corio's operations, over HTTP/1 and HTTP/2, until Ctrl-C.
//!
//! Try it: `cargo run --example axum_server --features axum`, and in another terminal
//! `curl http://127.0.0.1:8080/file/Cargo.toml`. A client may leave at any moment, as with
//! `curl --max-time 1 http://127.0.0.1:8080/upstream`: `/in-flight` then says that none is left.

#[path = "common/serving.rs"]
mod serving;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, RawQuery, State};
use axum::{Router, http::StatusCode, routing::get};
use clap::Parser;
use corio::compat::{axum::serve, handler};
use corio::{fs::File, net::TcpStream, server::Server};
use serving::{ServerOptions, StopSignals};

/// The most that is read of a file, or of an upstream's line, in bytes.
const MOST: u64 = 16 << 20;

/// An axum router whose handlers await corio's operations
#[derive(Clone, Parser)]
struct Args {
    /// Address to listen on; port 0 picks a free port
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    addr: String,

    /// Where `/upstream` waits for a line
    #[arg(long, value_name = "HOST:PORT")]
    upstream: Option<String>,

    /// The directory whose files `/file/NAME` shows
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,

    #[command(flatten)]
    options: ServerOptions,
}

type Failed = (StatusCode, String);

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("axum_server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<(), Box<dyn std::error::Error>> {
    let signals = StopSignals::new()?;
    let server = Server::builder().listen(args.addr.as_str()).on_error(serving::report_failure);
    let server = args.options.apply(server, "axum");
    let router = Router::new()
        .route("/", get(|| async { "Hello, World!" }))
        .route("/slow", get(slow))
        .route("/file/{name}", get(|args, name| handler(file(args, name))))
        .route("/upstream", get(|args| handler(upstream(args))))
        .route("/in-flight", get(in_flight))
        .with_state(Arc::new(args));
    signals.serve(serve(server, router)?)?;
    Ok(())
}

/// Answers after `?ms=N` milliseconds.
async fn slow(RawQuery(query): RawQuery) -> Result<String, Failed> {
    let wanted = query.as_deref().and_then(|query| query.strip_prefix("ms=")?.parse().ok());
    let ms = wanted.ok_or_else(|| (StatusCode::BAD_REQUEST, "how long? /slow?ms=N\n".into()))?;
    handler(corio::sleep(Duration::from_millis(ms))).await;
    Ok(format!("after {ms} ms\n"))
}

/// Shows a file of the root directory.
async fn file(State(args): State<Arc<Args>>, Path(name): Path<String>) -> Result<Vec<u8>, Failed> {
    let not_found = || (StatusCode::NOT_FOUND, format!("there is no file {name}\n"));
    if name.starts_with('.') || name.contains('/') {
        return Err(not_found());
    }
    let file = File::open(args.root.join(&name)).await.map_err(|_| not_found())?;
    let metadata = file.metadata().await.map_err(failed)?;
    if !metadata.is_file() {
        return Err(not_found());
    }
    let room = Vec::with_capacity(metadata.len().min(MOST) as usize);
    let (result, text) = file.read_exact_at(room, 0).await;
    result.map_err(failed).map(|()| text)
}

/// Awaits a line from the upstream.
async fn upstream(State(args): State<Arc<Args>>) -> Result<Vec<u8>, Failed> {
    let unknown = || (StatusCode::NOT_FOUND, "start with --upstream\n".to_owned());
    let address = args.upstream.as_deref().ok_or_else(unknown)?;
    let stream = TcpStream::connect(address).await.map_err(failed)?;
    let mut line = Vec::with_capacity(256);
    while !line.contains(&b'\n') && (line.len() as u64) < MOST {
        let (result, longer) = stream.recv_append(line).await;
        line = longer;
        if result.map_err(failed)? == 0 {
            break;
        }
    }
    Ok(line)
}

fn failed(error: io::Error) -> Failed {
    (StatusCode::BAD_GATEWAY, format!("{error}\n"))
}

/// Lists the operations in flight on this worker.
async fn in_flight() -> String {
    corio::in_flight().iter().map(|operation| format!("{operation}\n")).collect()
}
