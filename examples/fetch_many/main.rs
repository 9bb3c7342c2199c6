//! Fetches from many HTTP servers at the same time, and reports each response as it arrives.
//!
//! One task per address, all on one thread. Plain HTTP only; redirects are not followed, as this
//! tool reports what each address itself answers.

#[path = "../common/durations.rs"]
mod durations;
mod framing;
mod target;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use corio::IoContext;
use corio::buf::IoBuf;
use corio::net::TcpStream;

use framing::{Body, Head, ended_early, invalid, parse_head};
use target::Target;

/// Fetches from many HTTP servers at the same time, and prints a line for each as it is done
///
/// Any HTTP response counts as success, whatever its status code. The exit status is 1 if an
/// address gave no response.
#[derive(Parser)]
struct Args {
    /// Addresses to fetch: host[:port][/path], with or without http:// in front
    #[arg(required = true, value_name = "ADDR")]
    targets: Vec<Target>,
    /// Time limit for each address, such as 0.5, or `never`
    #[arg(long, value_name = "SECONDS", default_value = "10", allow_negative_numbers = true,
          value_parser = durations::limit)]
    timeout: Duration,
    /// Longest body to accept; a longer one is an error
    #[arg(long, value_name = "BYTES", default_value = "1073741824")]
    limit: u64,
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            eprintln!("fetch_many: {failed} failed");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("fetch_many: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the number of addresses that failed.
fn run(args: Args) -> Result<usize, corio::SetupError> {
    let Args { targets, timeout, limit } = args;
    let mut context = IoContext::new(256)?;
    let tasks: Vec<_> = targets
        .into_iter()
        .map(|target| {
            context.spawn(async move {
                let start = Instant::now();
                let outcome = fetch_within(timeout, &target, limit).await;
                report(&target, &outcome, start.elapsed());
                outcome.is_err()
            })
        })
        .collect();
    let failed = context.block_on(corio::join_all(tasks));
    Ok(failed.into_iter().filter(|failed| *failed.as_ref().unwrap_or(&true)).count())
}

fn report(target: &Target, outcome: &io::Result<Fetched>, took: Duration) {
    let name = &target.text;
    let line = match outcome {
        Ok(Fetched { status, bytes }) => format!("{name}  {status}  {bytes} bytes  {took:.1?}\n"),
        Err(error) => format!("{name}  error: {error}\n"),
    };
    // The reader of a pipe may be gone; the other fetches go on.
    let _ = io::stdout().write_all(line.as_bytes());
}

struct Fetched {
    status: u16,
    bytes: u64,
}

async fn fetch_within(limit: Duration, target: &Target, body_limit: u64) -> io::Result<Fetched> {
    // At the time limit, what is in flight inside ends with `TimedOut`.
    match corio::timeout(limit, fetch(target, body_limit)).await {
        Ok(Err(error)) if error.kind() != io::ErrorKind::TimedOut => Err(error),
        Ok(Ok(fetched)) => Ok(fetched),
        _ => Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {limit:?}"))),
    }
}

async fn fetch(target: &Target, limit: u64) -> io::Result<Fetched> {
    let stream = TcpStream::connect((&*target.host, target.port)).await?;
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: corio-fetch-many\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n",
        target.path, target.authority
    );
    stream.send_all(request).await.0?;

    let mut input = Input { stream, bytes: Vec::new() };
    let mut interim = 0;
    let head = loop {
        let head = read_head(&mut input).await?;
        match head.status {
            101 => return Err(invalid("status 101: no other protocol was asked for")),
            // After such a response the final one follows.
            100..200 if interim < MAX_INTERIM => interim += 1,
            100..200 => return Err(invalid("too many responses with status 1xx")),
            _ => break head,
        }
    };
    let bytes = read_body(&mut input, Body::new(head.framing, limit)?).await?;
    Ok(Fetched { status: head.status, bytes })
}

/// Largest number of bytes of a head, of the line of a chunk's size, and of the trailers.
const MAX_HEAD: usize = 64 * 1024;
/// Largest number of 1xx responses before the final one.
const MAX_INTERIM: usize = 16;

async fn read_head(input: &mut Input) -> io::Result<Head> {
    loop {
        if let Some((head, len)) = parse_head(&input.bytes)? {
            input.bytes.drain(..len);
            return Ok(head);
        }
        if !input.more().await? {
            return Err(ended_early());
        }
    }
}

/// Receives the body; returns its length.
async fn read_body(input: &mut Input, mut body: Body) -> io::Result<u64> {
    loop {
        let used = body.take(&input.bytes)?;
        input.bytes.drain(..used);
        if body.is_complete() {
            return Ok(body.len());
        }
        if !input.more().await? {
            return body.end();
        }
    }
}

/// A connection, and the received bytes that are not parsed yet.
struct Input {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Input {
    /// Receives more bytes; returns `false` at end of stream.
    async fn more(&mut self) -> io::Result<bool> {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.reserve(16 * 1024);
        let end = bytes.len();
        let (result, bytes) = self.stream.recv(bytes.slice(end..)).await;
        self.bytes = bytes.into_inner();
        Ok(result? > 0)
    }
}
