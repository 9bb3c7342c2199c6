//! A thread that only accepts, and workers that only serve: each connection moves, as a value, to the
//! worker that has the fewest. It counts the bytes that each client sends, until Ctrl-C.
//!
//! [`corio::server::Server`] does the same with `Balance::LeastLoaded`; this is how one would build it.
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
use corio::sync::mpsc::{Receiver, Sender, channel};
use corio::{JoinHandle, RaceOutput, join_all, race, sleep, timeout};
use serving::{Serving, StopSignals};

/// Counts the bytes that clients send.
#[derive(Parser)]
struct Args {
    /// The address to listen on; port 0 picks a free one
    #[arg(long, default_value = "127.0.0.1:7000")]
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

/// A worker, as the acceptor sees it.
struct Post {
    sender: Sender<TcpStream>,
    connections: Arc<AtomicUsize>,
}

fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let signals = StopSignals::new()?;
    let mut posts = Vec::new();
    let mut seats = Vec::new();
    for _ in 0..args.serving.count() {
        let (sender, receiver) = channel(64);
        let connections = Arc::new(AtomicUsize::new(0));
        posts.push(Post { sender, connections: connections.clone() });
        seats.push(Some((receiver, connections)));
    }
    let count = seats.len();
    let seats = Arc::new(Mutex::new(seats));
    let workers = args.serving.workers().count(count).name("serve").start(move |worker| {
        let seat = seats.lock().ok().and_then(|mut seats| seats[worker.index()].take());
        async move {
            match seat {
                Some((receiver, connections)) => serve_all(receiver, connections).await,
                None => 0,
            }
        }
    })?;

    let addr = args.addr.clone();
    let posts = Arc::new(Mutex::new(Some(posts)));
    let acceptor =
        args.serving.workers().count(1).pin(false).name("accept").start(move |worker| {
            let posts = posts.lock().ok().and_then(|mut posts| posts.take()).unwrap_or_default();
            let addr = addr.clone();
            async move {
                let listener =
                    TcpListener::bind(&addr).map_err(|error| format!("{addr}: {error}"))?;
                let address = listener.local_addr().map_err(|error| error.to_string())?;
                println!("listening on {address}");
                io::stdout().flush().map_err(|error| error.to_string())?;
                match race(accept(&listener, &posts), worker.stopping()).await {
                    RaceOutput::First(never, _) => match never {},
                    RaceOutput::Second(..) => Ok::<(), String>(()),
                }
            }
        })?;
    let over = signals.stop(acceptor.stopper());
    let accepted = acceptor.join().pop().expect("there is one");
    // The acceptor's channels are gone: the workers end when their connections have.
    let served = workers.join();
    over();
    accepted??;
    for (index, served) in served.into_iter().enumerate() {
        println!("worker {index} has served {}", served?);
    }
    Ok(())
}

async fn accept(listener: &TcpListener, posts: &[Post]) -> std::convert::Infallible {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Perhaps out of file descriptors: it stays in the queue.
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let load = |post: &&Post| post.connections.load(Ordering::Relaxed);
        if let Some(post) = posts.iter().min_by_key(load) {
            post.connections.fetch_add(1, Ordering::Relaxed);
            // The workers outlive this.
            let _ = post.sender.send(stream).await;
        }
    }
}

/// A worker's part: a task per connection, until no more come and all have ended.
async fn serve_all(mut receiver: Receiver<TcpStream>, connections: Arc<AtomicUsize>) -> usize {
    let mut served = 0;
    let connections = Rc::new(connections);
    let mut tasks = Vec::new();
    while let Some(stream) = receiver.recv().await {
        served += 1;
        let connections = connections.clone();
        tasks.retain(|task: &JoinHandle<()>| !task.is_finished());
        tasks.push(corio::spawn(async move {
            // What goes wrong with one connection is no matter to the others.
            let _ = count(stream).await;
            connections.fetch_sub(1, Ordering::Relaxed);
        }));
    }
    // Clients that neither send nor end have a second.
    let _ = timeout(Duration::from_secs(1), join_all(tasks)).await;
    served
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
