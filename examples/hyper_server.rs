//! Says `Hello, World!` by hyper, over HTTP/1 and HTTP/2 on one port, until Ctrl-C.
//!
//! Try it: `cargo run --example hyper_server --features hyper`, and in another terminal
//! `curl http://127.0.0.1:8080/`, or `curl --http2-prior-knowledge http://127.0.0.1:8080/`.

#[path = "common/serving.rs"]
mod serving;

use std::convert::Infallible;
use std::process::ExitCode;

use clap::Parser;
use corio::compat::hyper::serve;
use corio::server::Server;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use serving::{ServerOptions, StopSignals};

/// Says `Hello, World!` by hyper, over HTTP/1 and HTTP/2
#[derive(Parser)]
struct Args {
    /// Address to listen on; port 0 picks a free port
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    addr: String,

    #[command(flatten)]
    options: ServerOptions,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hyper_server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    // Before the server starts, so that no signal ends the process without a graceful stop.
    let signals = StopSignals::new()?;
    let server = Server::builder().listen(args.addr.as_str()).on_error(serving::report_failure);
    signals.serve(serve(args.options.apply(server, "hyper"), |_| service_fn(answer))?)?;
    Ok(())
}

async fn answer(request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    let mut response = Response::new("Hello, World!".to_owned());
    if request.uri().path() != "/" {
        *response.status_mut() = StatusCode::NOT_FOUND;
        *response.body_mut() = "there is only /\n".to_owned();
    }
    Ok(response)
}
