//! TCP proxy: forwards each connection to another address, in both directions, until Ctrl-C.
//!
//! On Linux the bytes go from socket to socket by `splice(2)`, without a copy to user space.
//! Try it: `cargo run --example tcp_proxy -- --to example.org:80`, and `curl -H 'Host: example.org'
//! http://127.0.0.1:7000/`.

#[path = "common/serving.rs"]
mod serving;

use std::io;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use clap::Parser;
use corio::Elapsed;
use corio::net::{RelayLimits, Stream, TcpStream, relay_with};
use corio::op::is_cancelled;
use corio::server::{ConnectionContext, Server};
use serving::{ServerOptions, StopSignals};

/// TCP proxy: forwards each connection to another address
#[derive(Parser)]
struct Args {
    /// Address to listen on; port 0 picks a free port
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7000")]
    addr: String,

    /// Address that connections are forwarded to
    #[arg(long, value_name = "HOST:PORT")]
    to: String,

    /// Largest number of connections at the same time; further ones wait to be accepted
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    max_connections: usize,

    /// How long neither side may send anything, or `never`; default: never
    #[arg(long, value_name = "SECONDS", default_value = "never", hide_default_value = true,
          allow_negative_numbers = true, value_parser = serving::durations::limit)]
    idle: Duration,

    /// How long the upstream may be silent after the client has ended its side, or `never`
    #[arg(long, value_name = "SECONDS", default_value = "60", allow_negative_numbers = true,
          value_parser = serving::durations::limit)]
    after_client: Duration,

    /// How long the client may be silent after the upstream has ended its side, or `never`
    #[arg(long, value_name = "SECONDS", default_value = "3", allow_negative_numbers = true,
          value_parser = serving::durations::limit)]
    after_upstream: Duration,

    /// Log a line per connection to stderr: client, bytes sent, bytes received
    #[arg(long)]
    log: bool,

    #[command(flatten)]
    options: ServerOptions,
}

/// How many fds a connection needs: two sockets, and a pipe for each direction.
const FDS: usize = 6;

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tcp_proxy: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<(), Box<dyn std::error::Error>> {
    let signals = StopSignals::new()?;
    let server = args
        .options
        .apply(Server::builder().listen(args.addr.as_str()), "proxy")
        .max_connections(args.max_connections.min(args.options.fitting(FDS)));
    let limits = RelayLimits::new()
        .idle(args.idle)
        .after_first(args.after_client)
        .after_second(args.after_upstream);
    let (to, log) = (args.to.clone(), args.log);
    let target = move |_: &_| Target { to: to.as_str().into(), limits, log };
    signals.serve(server.start(target, serve)?)?;
    Ok(())
}

/// A worker's state: where to connect to.
struct Target {
    to: Rc<str>,
    limits: RelayLimits,
    log: bool,
}

async fn serve(client: Stream, ctx: ConnectionContext<Target>) -> io::Result<()> {
    let Target { to, limits, log } = ctx.state();
    let result = match TcpStream::connect(&**to).await {
        Ok(upstream) => relay_with(&client, &upstream, *limits).await,
        Err(error) => {
            // Reset the connection, so that the client does not take this for the end of the
            // stream. A relay that fails does the same.
            let _ = client.options().set_linger(Some(Duration::ZERO));
            Err(error)
        }
    };
    match result {
        Ok((sent, received)) => {
            if *log {
                eprintln!("{}: {sent} bytes sent, {received} received", ctx.peer());
            }
            Ok(())
        }
        Err(error) => {
            if *log {
                eprintln!("{}: {error}", ctx.peer());
            } else if !(is_cancelled(&error) || Elapsed::of(&error).is_some()) {
                serving::report_failure(ctx.peer(), &error);
            }
            Err(error)
        }
    }
}
