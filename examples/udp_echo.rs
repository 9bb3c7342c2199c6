//! UDP echo server: sends each datagram back to its sender, until Ctrl-C.
//!
//! On a host with several addresses the answer leaves from the one that was asked (`IP_PKTINFO`).
//! Each worker has a socket of its own on the same port (`SO_REUSEPORT`); the kernel distributes
//! the peers over them. Try it: `cargo run --example udp_echo`, and in another terminal `nc -u
//! 127.0.0.1 7000`.

#[path = "common/serving.rs"]
mod serving;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use clap::Parser;
use corio::net::{Socket, SocketAddress, UdpSocket};
use corio::os::OwnedFd;
use corio::server::Worker;
use corio::{RaceOutput, race};
use serving::{Serving, StopSignals};

/// Upper bound of a datagram's length, in bytes.
const MAX_DATAGRAM: usize = 65_535;

/// UDP echo server: sends each datagram back to its sender
#[derive(Parser)]
struct Args {
    /// Address to receive on; port 0 picks a free port
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7000")]
    addr: String,

    #[command(flatten)]
    serving: Serving,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("udp_echo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let signals = StopSignals::new()?;
    let addresses = SocketAddress::resolve_blocking(&args.addr)
        .map_err(|error| format!("{}: {error}", args.addr))?;
    // The first socket picks the port, and fails if any other has it: it shares the port only
    // afterwards, with the other workers.
    let first = bound(&addresses[0]).map_err(|error| format!("{}: {error}", args.addr))?;
    #[cfg(unix)]
    first.set_reuse_port(true)?;
    let first = finished(first)?;
    let address = first.local_addr()?;
    let there = SocketAddress::from(address);
    let first = Arc::new(Mutex::new(Some(first)));
    let workers = args.serving.workers().name("udp").start(move |worker| {
        let first = first.lock().ok().and_then(|mut first| first.take());
        let socket = first.map_or_else(|| one_more(&there), Ok);
        async move { echo(socket?, worker).await }
    })?;
    println!("listening on {address}");
    io::stdout().flush()?;
    let over = signals.stop(workers.stopper(), workers.stopper());
    let results = workers.join();
    over();
    for result in results {
        result??;
    }
    Ok(())
}

fn unbound(address: &SocketAddress) -> io::Result<Socket> {
    let is_v4 = address.as_inet().is_some_and(|inet| inet.is_ipv4());
    if is_v4 { Socket::udp_v4() } else { Socket::udp_v6() }
}

fn bound(address: &SocketAddress) -> io::Result<Socket> {
    let socket = unbound(address)?;
    socket.bind(address)?;
    Ok(socket)
}

/// A further socket on the port of the first.
fn one_more(address: &SocketAddress) -> io::Result<UdpSocket> {
    let socket = unbound(address)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    socket.bind(address)?;
    finished(socket)
}

fn finished(socket: Socket) -> io::Result<UdpSocket> {
    let socket = OwnedFd::try_from(socket).map(UdpSocket::from)?;
    match socket.set_packet_info(true) {
        // Answers leave from the address that the system prefers.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(socket),
        result => result.map(|()| socket),
    }
}

/// Echoes with one buffer: a datagram is sent before the next is received.
async fn echo(socket: UdpSocket, worker: Worker) -> io::Result<()> {
    let serve = async {
        let mut buf = Vec::with_capacity(MAX_DATAGRAM);
        loop {
            let (received, [full]) = socket.recv_msg([buf]).await;
            buf = full;
            // An error here is about a datagram sent before: its receiver's port was unreachable.
            let Ok(received) = received else { continue };
            let Some(peer) = received.address else { continue };
            let mut answer = socket.send_msg([buf]).to(peer);
            if let Some(info) = received.packet_info {
                answer = answer.from(info);
            }
            let (_, [sent]) = answer.await;
            buf = sent;
        }
    };
    match race(serve, worker.stopping()).await {
        RaceOutput::First(never, _) => never,
        RaceOutput::Second(..) => Ok(()),
    }
}
