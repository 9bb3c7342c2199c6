//! Echo server: sends back all bytes that it receives, to many clients at once, until Ctrl-C.
//!
//! Try it: `cargo run --example echo_server`, and in another terminal `nc 127.0.0.1 7000`.
//!
//! It takes over listening sockets that it inherits (`LISTEN_FDS`, as systemd passes them). While
//! the parent keeps such a socket open, one server can replace another without refusing a
//! connection.

// # Why this file has `unsafe`
// It takes ownership of the sockets that it inherits.

#[path = "common/serving.rs"]
mod serving;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use corio::net::Stream;
use corio::op::is_cancelled;
use corio::server::{ConnectionContext, ServeError, Server, ServerBuilder, inherited_sockets};
use corio::{RaceOutput, race};
use serving::{ServerOptions, StopSignals};

/// Echo server: sends back all bytes that it receives
#[derive(Parser)]
struct Args {
    /// Address to listen on; port 0 picks a free port
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7000")]
    addr: String,

    /// How long a connection may be idle before it is closed, or `never`; default: never
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true,
          value_parser = serving::durations::limit)]
    idle: Option<Duration>,

    #[command(flatten)]
    options: ServerOptions,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo_server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    // SAFETY: this process has opened no file so far, so these fds are inherited, and nothing else
    // in it owns them.
    let inherited = unsafe { inherited_sockets() }?;
    // Before the server starts, so that no signal ends the process without a graceful stop.
    let signals = StopSignals::new()?;
    let server = match inherited.is_empty() {
        true => Server::builder().listen(args.addr.as_str()),
        false => inherited.into_iter().fold(Server::builder(), ServerBuilder::listen_on),
    };
    let server = match args.idle {
        Some(limit) => server.idle_timeout(limit),
        None => server,
    };
    let server = args.options.apply(server, "echo").start(|_worker| (), serve).map_err(
        |error| match error {
            ServeError::Listen(error) => format!("{}: {}", args.addr, error.io_error()),
            error => error.to_string(),
        },
    )?;
    signals.serve(server)?;
    Ok(())
}

/// Serves one connection. An error ends this connection only.
async fn serve(stream: Stream, ctx: ConnectionContext) -> io::Result<()> {
    let result = echo(stream, &ctx).await;
    match &result {
        Err(error) if !is_cancelled(error) => serving::report_failure(ctx.peer(), error),
        _ => {}
    }
    result
}

/// Sends received bytes back from the buffer they were received into: nothing is copied, and an
/// idle connection holds no buffer.
async fn echo(stream: Stream, ctx: &ConnectionContext) -> io::Result<()> {
    let mut incoming = stream.recv_stream();
    // An accepted connection is served once, also by a server that is stopping.
    let mut received = incoming.recv().await;
    loop {
        let bytes = match received {
            Ok(Some(bytes)) => bytes,
            Ok(None) => break,
            // The grace period is over, and nothing is left to be sent back.
            Err(error) if is_cancelled(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        // A client that does not read blocks only its own connection: the context receives at most
        // some 256 KiB from it meanwhile.
        stream.send_all(bytes).await.0?;
        received = match race(incoming.recv(), ctx.stopping()).await {
            // Bytes that arrived at the last moment are sent back, too.
            RaceOutput::First(received, _) | RaceOutput::Second(Some(received), ()) => received,
            RaceOutput::Second(None, ()) => return Ok(()),
        };
    }
    drop(incoming);
    // The client has ended its side, and all its bytes have been sent back: the close loses none.
    stream.close().await
}
