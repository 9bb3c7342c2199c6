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

use clap::Parser;
use corio::net::{Stream, TcpStream, relay};
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

    /// Log a line per connection to stderr: client, bytes sent, bytes received
    #[arg(long)]
    log: bool,

    #[command(flatten)]
    options: ServerOptions,
}

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
        .max_connections(args.max_connections)
        .on_accept_error(|error| {
            eprintln!("tcp_proxy: accept: {error}; new connections have to wait")
        });
    let (to, log) = (args.to.clone(), args.log);
    let target = move |_: &_| Target { to: to.as_str().into(), log };
    signals.serve(server.start(target, serve)?)?;
    Ok(())
}

/// A worker's state: where to connect to.
struct Target {
    to: Rc<str>,
    log: bool,
}

async fn serve(client: Stream, ctx: ConnectionContext<Target>) -> io::Result<()> {
    let Target { to, log } = ctx.state();
    let result = async {
        let upstream = TcpStream::connect(&**to).await?;
        relay(&client, &upstream).await
    }
    .await;
    match result {
        Ok((sent, received)) => {
            if *log {
                eprintln!("{}: {sent} bytes sent, {received} received", ctx.peer());
            }
            Ok(())
        }
        Err(error) => {
            if !is_cancelled(&error) {
                eprintln!("{}: {error}", ctx.peer());
            }
            // Reset the connection, so that the client does not take this for the end of the
            // stream.
            let _ = client.options().set_linger(Some(std::time::Duration::ZERO));
            Err(error)
        }
    }
}
