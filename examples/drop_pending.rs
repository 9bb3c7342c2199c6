//! Demonstrates the drop rule: drops a future while its operation is in flight.
//!
//! The kernel has the address of the future's buffer, and writes to it when data arrives. If the
//! drop just freed that memory, the kernel would write into whatever is allocated there next. A
//! context has one of two policies:
//!
//! - `abort` (the default): it is a bug in the program, so the process aborts with a report.
//! - `cancel-and-wait`: the drop cancels the operation and waits until the kernel has let go.
//!
//! Try both: `cargo run --example drop_pending -- --policy abort`.

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use corio::net::UnixStream;
use corio::{DropPolicy, IoContext};

/// Drops a future while its receive is in flight
#[derive(Parser)]
struct Args {
    /// The context's drop policy
    #[arg(long, value_enum, default_value = "abort")]
    policy: Policy,
}

#[derive(Clone, Copy, ValueEnum)]
enum Policy {
    /// Abort the process with a report
    Abort,
    /// Cancel the operation and wait until the kernel has let go
    CancelAndWait,
}

fn main() -> ExitCode {
    match run(Args::parse().policy) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("drop_pending: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(policy: Policy) -> Result<(), Box<dyn std::error::Error>> {
    let policy = match policy {
        Policy::Abort => DropPolicy::Abort,
        Policy::CancelAndWait => DropPolicy::CancelAndWait,
    };
    let mut context = IoContext::builder().drop_policy(policy).build()?;
    context.block_on(async {
        // The peer never sends, so the receive does not end by itself.
        let (stream, _peer) = UnixStream::pair()?;
        let mut recv = Box::pin(stream.recv(vec![0; 64]));

        // Futures are lazy: the first poll is what starts the operation.
        assert!(futures_util::poll!(recv.as_mut()).is_pending());
        println!("in flight: {}", corio::stats().in_flight);

        // The bug. With `abort`, the process ends here. To give up an operation properly, use
        // `.with_timeout(..)`, `corio::race(..)` or `JoinHandle::cancel()`.
        drop(recv);

        println!("in flight: {}, so the kernel has let go", corio::stats().in_flight);
        Ok(())
    })
}
