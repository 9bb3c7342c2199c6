//! Sends back whatever comes in, to any number of clients at once, until Ctrl-C.
//!
//! Try it: `cargo run --example echo_server`, and in another terminal `nc 127.0.0.1 7000`.

#[path = "common/signals.rs"]
mod signals;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use corio::net::{TcpListener, TcpStream};
use corio::op::is_cancelled;
use corio::{IoContext, Raced};
use signals::Signals;

/// Sends back whatever comes in.
#[derive(Parser)]
struct Args {
    /// The address to listen on; port 0 picks a free one
    #[arg(long, default_value = "127.0.0.1:7000")]
    addr: String,
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
    // First of all, so that no signal finds the process unprepared.
    let signals = Signals::new()?;
    let mut context = IoContext::new(256)?;
    let listener =
        TcpListener::bind(&args.addr).map_err(|error| format!("{}: {error}", args.addr))?;
    println!("listening on {}", listener.local_addr()?);
    io::stdout().flush()?;

    // `run_until_done` ends the connections that are still open then, so nothing is left behind.
    context.run_until_done(async {
        match corio::race(serve(&listener), signals.wait()).await {
            Raced::Left(failed, _) => failed,
            Raced::Right(_, signalled) => signalled,
        }
    })?;
    Ok(())
}

/// Starts a task for each connection. Comes back only when the listener itself fails.
async fn serve(listener: &TcpListener) -> io::Result<()> {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                corio::spawn(async move {
                    // What goes wrong with one connection is no matter to the others.
                    match echo(stream).await {
                        Err(error) if !is_cancelled(&error) => eprintln!("{peer}: {error}"),
                        _ => {}
                    }
                });
            }
            Err(error) => match error.raw_os_error() {
                // The client was gone before its turn came.
                Some(libc::ECONNABORTED | libc::EINTR | libc::EPROTO) => {}
                // Connections that end make room again. Until then the new ones wait in the
                // kernel's queue: trying at once again would only spin.
                Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                    eprintln!("echo_server: {error}; new connections have to wait");
                    corio::sleep(Duration::from_millis(100)).await;
                }
                _ => return Err(error),
            },
        }
    }
}

/// Serves one connection with one buffer, which goes to the kernel and comes back each time.
async fn echo(stream: TcpStream) -> io::Result<()> {
    let mut buf = Vec::with_capacity(16 * 1024);
    loop {
        let result;
        (result, buf) = stream.recv(buf).await;
        if result? == 0 {
            // The client has ended its side, and by now everything it sent has been sent back:
            // closing tells it so, and loses nothing.
            return stream.close().await;
        }
        // `recv` has set the length to what came; `send_exact` sends just that, in parts if need
        // be. A client that does not read holds up only itself: nothing more is received from it.
        let result;
        (result, buf) = stream.send_exact(buf).await;
        result?;
    }
}
