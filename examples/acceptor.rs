//! A thread that only accepts, and workers that only serve: each connection moves, as a value, to
//! the worker that has the fewest. The server counts the bytes that each client sends, until
//! Ctrl-C.
//!
//! [`corio::server::Server`] does the same with `Balance::LeastLoaded`; this shows how to build it.
//! Try it: `cargo run --example acceptor`, and `head -c 1000000 /dev/zero | nc -N 127.0.0.1 7000`.

#[path = "common/serving.rs"]
mod serving;

use std::io::{self, Write};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Parser;
use corio::net::{TcpListener, TcpStream};
use corio::op::is_cancelled;
use corio::server::Phase;
use corio::sync::mpsc::{Receiver, Sender, channel};
use corio::{JoinHandle, RaceOutput, join_all, race, sleep};
use serving::{Serving, StopSignals};

/// Counts the bytes that each client sends, and sends it the number
#[derive(Parser)]
struct Args {
    /// Address to listen on; port 0 picks a free port
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7000")]
    addr: String,

    #[command(flatten)]
    serving: Serving,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("acceptor: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The acceptor's side of a worker.
struct Route {
    sender: Sender<TcpStream>,
    connections: Arc<AtomicUsize>,
}

fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let signals = StopSignals::new()?;
    let mut routes = Vec::new();
    let mut inputs = Vec::new();
    for _ in 0..args.serving.count() {
        let (sender, receiver) = channel(64);
        let connections = Arc::new(AtomicUsize::new(0));
        routes.push(Route { sender, connections: connections.clone() });
        inputs.push(Some((receiver, connections)));
    }
    let count = inputs.len();
    let grace = args.serving.grace;
    let inputs = Arc::new(Mutex::new(inputs));
    let workers = args.serving.workers().count(count).name("serve").start(move |worker| {
        let input = inputs.lock().ok().and_then(|mut inputs| inputs[worker.index()].take());
        async move {
            match input {
                Some((receiver, connections)) => {
                    // A second signal aborts these workers.
                    let mut phase = worker.phase();
                    let grace = async {
                        race(sleep(grace), phase.wait_for(|&now| now == Phase::Forced)).await;
                    };
                    serve_all(receiver, connections, grace).await
                }
                None => (0, 0),
            }
        }
    })?;

    let addr = args.addr.clone();
    let routes = Arc::new(Mutex::new(Some(routes)));
    let acceptor =
        args.serving.workers().count(1).pin(false).name("accept").start(move |worker| {
            let routes =
                routes.lock().ok().and_then(|mut routes| routes.take()).unwrap_or_default();
            let addr = addr.clone();
            async move {
                let listener =
                    TcpListener::bind(&addr).map_err(|error| format!("{addr}: {error}"))?;
                let address = listener.local_addr().map_err(|error| error.to_string())?;
                println!("listening on {address}");
                io::stdout().flush().map_err(|error| error.to_string())?;
                match race(accept(&listener, &routes), worker.stopping()).await {
                    RaceOutput::First(never, _) => match never {},
                    RaceOutput::Second(..) => Ok::<(), String>(()),
                }
            }
        })?;
    let over = signals.stop(acceptor.stopper(), workers.stopper());
    let accepted = acceptor.join().pop().expect("the acceptor has one worker");
    // The acceptor's channels are closed: each worker ends after its last connection.
    let served = workers.join();
    over();
    accepted??;
    let mut all_cut = 0;
    for (index, served) in served.into_iter().enumerate() {
        let (served, cut) = served?;
        println!("worker {index} has served {served}");
        all_cut += cut;
    }
    serving::none_was_cut(all_cut)?;
    Ok(())
}

async fn accept(listener: &TcpListener, routes: &[Route]) -> std::convert::Infallible {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                if !is_cancelled(&error) {
                    serving::report_accept(&error);
                }
                // Probably out of file descriptors: the connection stays in the kernel's queue.
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let load = |route: &&Route| route.connections.load(Ordering::Relaxed);
        if let Some(route) = routes.iter().min_by_key(load) {
            route.connections.fetch_add(1, Ordering::Relaxed);
            // It succeeds: the workers run longer than the acceptor.
            let _ = route.sender.send(stream).await;
        }
    }
}

/// Serves a worker's connections, each in a task, until the channel is closed, and then until all
/// have ended or `grace` has. Returns how many were served, and how many of them were cut.
async fn serve_all(
    mut receiver: Receiver<TcpStream>,
    connections: Arc<AtomicUsize>,
    grace: impl Future<Output = ()>,
) -> (usize, u64) {
    let mut served = 0;
    let open = Rc::new(connections);
    let mut tasks = Vec::new();
    while let Some(stream) = receiver.recv().await {
        served += 1;
        let open = open.clone();
        tasks.retain(|task: &JoinHandle<()>| !task.is_finished());
        tasks.push(corio::spawn(async move {
            // An error ends this connection only.
            let _ = count(stream).await;
            open.fetch_sub(1, Ordering::Relaxed);
        }));
    }
    race(join_all(tasks), grace).await;
    (served, open.load(Ordering::Relaxed) as u64)
}

async fn count(stream: TcpStream) -> io::Result<()> {
    let mut total = 0;
    let mut buf = Vec::with_capacity(64 * 1024);
    loop {
        let (result, received) = stream.recv(buf).await;
        let len = result?;
        if len == 0 {
            stream.send_all(format!("{total} bytes\n")).await.0?;
            return stream.close().await;
        }
        total += len;
        buf = received;
    }
}
