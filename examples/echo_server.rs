//! Sends back whatever comes in, to any number of clients at once, until Ctrl-C.
//!
//! Try it: `cargo run --example echo_server`, and in another terminal `nc 127.0.0.1 7000`.
//!
//! A socket that listens can be given to it (`LISTEN_FDS`, as systemd does): whoever keeps the socket can
//! replace the server by another without refusing a connection.
//!
//! # Why this file has `unsafe`
//! It takes the sockets over that it was started with.

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
use serving::{Serving, StopSignals};

/// Sends back whatever comes in.
#[derive(Parser)]
struct Args {
    /// The address to listen on; port 0 picks a free one
    #[arg(long, default_value = "127.0.0.1:7000")]
    addr: String,

    /// How long a connection may be silent, before it is ended; default: for ever
    #[arg(long, value_name = "SECONDS", value_parser = serving::duration)]
    idle: Option<Duration>,

    #[command(flatten)]
    serving: Serving,
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
    // SAFETY: this process has opened nothing so far, so they are those that it was started with.
    let inherited = unsafe { inherited_sockets() }?;
    // Before anything is served, so that no signal finds the process unprepared.
    let signals = StopSignals::new()?;
    let server = match inherited.is_empty() {
        true => Server::builder().listen(args.addr.as_str()),
        false => inherited.into_iter().fold(Server::builder(), ServerBuilder::listen_on),
    };
    let server = match args.idle {
        Some(limit) => server.idle_timeout(limit),
        None => server,
    };
    let server = server
        .workers(args.serving.workers().name("echo"))
        .grace_period(args.serving.grace_period())
        .on_accept_error(|error| {
            eprintln!("echo_server: {error}; new connections have to wait");
        })
        .start(|_worker| (), serve)
        .map_err(|error| match error {
            ServeError::Listen(error) => format!("{}: {}", args.addr, error.io_error()),
            error => error.to_string(),
        })?;
    signals.serve(server)?;
    Ok(())
}

/// Serves one connection. What goes wrong with it is no matter to the others.
async fn serve(stream: Stream, ctx: ConnectionContext) -> io::Result<()> {
    let result = echo(stream, &ctx).await;
    match &result {
        Err(error) if !is_cancelled(error) => eprintln!("{}: {error}", ctx.peer()),
        _ => {}
    }
    result
}

/// What comes goes back from where it was received: nothing is copied, and a silent client takes no buffer.
async fn echo(stream: Stream, ctx: &ConnectionContext) -> io::Result<()> {
    let mut chunks = stream.recv_stream();
    // Who was let in is served once, also by a server that is about to stop.
    let mut received = chunks.recv().await;
    loop {
        let chunk = match received {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            // Cut short by the stop.
            Err(error) if is_cancelled(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        // In parts if need be. A client that does not read holds up only itself: the context receives
        // no more from it than some 256 KiB.
        stream.send_all(chunk).await.0?;
        received = match race(chunks.recv(), ctx.stopping()).await {
            // What came at the last moment is sent back, too.
            RaceOutput::First(received, _) | RaceOutput::Second(Some(received), ()) => received,
            RaceOutput::Second(None, ()) => return Ok(()),
        };
    }
    drop(chunks);
    // The client has ended its side, and by now everything it sent has been sent back: closing tells it so,
    // and loses nothing.
    stream.close().await
}
