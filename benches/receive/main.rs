//! Compares ways in which a loop on a bare ring can receive and answer messages, small and large.
//!
//! `cargo bench --bench receive [FILTER]`. An echo server, each way beside the plain loop: one
//! receive at a time into the connection's own buffer of 4 KiB, answered by a send on the ring. The
//! server has processor 0, the client processor 1. There are two clients, since the result depends
//! on when messages arrive: one on a ring, whose completions arrive in batches, and one on epoll.
//!
//! Rings in huge pages (`IORING_SETUP_NO_MMAP`) are not among the ways: the io-uring crate (0.7.15)
//! maps its rings itself. Buffers in huge pages are.
//!
//! The parts: [`client`], the servers [`single`], [`multishot`] and [`epoll`], and what they are
//! built from, [`ring`], [`pool`] and [`pages`]. Those have `unsafe`, this one has none.

mod client;
mod epoll;
mod multishot;
mod pages;
mod pool;
mod ring;
mod single;
#[path = "../support/mod.rs"]
mod support;

use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use client::Client;
use epoll::EpollServer;
use multishot::Multishot;
use single::{Answer, Single};
use support::{Sample, effort, is_measurement, paired, pin, thread_cpu};

const KIB: usize = 1024;

/// A server that answers all connections until all have ended. Its creation is not measured.
pub(crate) trait Server {
    fn run(&mut self);
}

#[derive(Clone, Copy)]
enum Way {
    Single(single::Options),
    Multishot(multishot::Options),
    /// Holds the buffers' size.
    Epoll(usize),
}

impl Way {
    fn server(self, streams: Vec<TcpStream>) -> Box<dyn Server> {
        match self {
            Way::Single(options) => Box::new(Single::new(streams, options)),
            Way::Multishot(options) => Box::new(Multishot::new(streams, options)),
            Way::Epoll(buffer) => Box::new(EpollServer::new(streams, buffer)),
        }
    }

    fn is_supported(self) -> bool {
        let ring = support::ring();
        let features = ring.params();
        match self {
            Way::Single(options) => options.gather.is_none() || features.is_feature_min_timeout(),
            Way::Multishot(options) => !options.bundles || features.is_feature_recvsend_bundle(),
            Way::Epoll(_) => true,
        }
    }
}

/// The way that all others are compared with.
const BASE: single::Options = single::Options {
    buffer: 4 * KIB,
    answer: Answer::OnTheRing,
    poll_first: false,
    registered_files: false,
    gather: None,
    huge_pages: false,
};

/// The ways for messages that fit into a buffer.
fn ways_for_small(connections: usize) -> Vec<(&'static str, Way)> {
    let base = BASE;
    let multishot = multishot(connections, base.buffer);
    let many = multishot::Options { count: 4096, ..multishot };
    vec![
        ("the base again", Way::Single(base)),
        ("polling first", Way::Single(single::Options { poll_first: true, ..base })),
        ("send(2)", Way::Single(single::Options { answer: Answer::AtOnce, ..base })),
        ("multishot", Way::Multishot(multishot)),
        (
            "multishot, send(2)",
            Way::Multishot(multishot::Options { answer_at_once: true, ..multishot }),
        ),
        ("bundles", Way::Multishot(multishot::Options { bundles: true, ..multishot })),
        ("multishot, 16 by parts of 16 KiB", Way::Multishot(parts(16, 16 * KIB))),
        ("multishot, 16 by parts of 64 KiB", Way::Multishot(parts(16, 64 * KIB))),
        ("multishot, 8 by parts of 256 KiB", Way::Multishot(parts(8, 256 * KIB))),
        ("multishot, 4096 buffers", Way::Multishot(many)),
        (
            "multishot, 4096 in huge pages",
            Way::Multishot(multishot::Options { huge_pages: true, ..many }),
        ),
        ("registered files", Way::Single(single::Options { registered_files: true, ..base })),
        (
            "registered files, multishot",
            Way::Multishot(multishot::Options { registered_files: true, ..multishot }),
        ),
        ("up to 20 us for 16", Way::Single(single::Options { gather: Some(20), ..base })),
        ("huge pages", Way::Single(single::Options { huge_pages: true, ..base })),
        ("epoll", Way::Epoll(base.buffer)),
    ]
}

/// The ways for messages of four buffers.
fn ways_for_large(connections: usize) -> Vec<(&'static str, Way)> {
    let base = BASE;
    let large = 16 * KIB;
    let multishot = multishot(connections, base.buffer);
    let at_once = Answer::AtOnceWhileMoreWaits;
    vec![
        ("the base again", Way::Single(base)),
        ("at once while more waits", Way::Single(single::Options { answer: at_once, ..base })),
        ("multishot", Way::Multishot(multishot)),
        (
            "multishot, a send per part",
            Way::Multishot(multishot::Options { gather: false, ..multishot }),
        ),
        ("bundles", Way::Multishot(multishot::Options { bundles: true, ..multishot })),
        (
            "bundles in huge pages",
            Way::Multishot(multishot::Options { bundles: true, huge_pages: true, ..multishot }),
        ),
        ("epoll", Way::Epoll(base.buffer)),
        ("buffers of 16 KiB", Way::Single(single::Options { buffer: large, ..base })),
        (
            "16 KiB in huge pages",
            Way::Single(single::Options { buffer: large, huge_pages: true, ..base }),
        ),
        ("16 KiB, multishot", Way::Multishot(self::multishot(connections, large))),
        ("16 KiB, by parts", Way::Multishot(parts(256, large))),
        ("64 KiB, by parts", Way::Multishot(parts(64, 64 * KIB))),
        ("256 KiB, by parts", Way::Multishot(parts(16, 256 * KIB))),
        ("16 KiB, epoll", Way::Epoll(large)),
    ]
}

fn parts(count: u16, buffer: usize) -> multishot::Options {
    multishot::Options { buffer, count, by_parts: true, ..multishot(1, buffer) }
}

/// Has twice the buffers that whole messages of 16 KiB from all connections take. With more there
/// would only be more memory to fetch into the cache, as buffers are used in turn.
fn multishot(connections: usize, buffer: usize) -> multishot::Options {
    let count = (connections * (16 * KIB).div_ceil(buffer) * 2).next_power_of_two();
    multishot::Options {
        buffer,
        count: count as u16,
        bundles: false,
        answer_at_once: false,
        gather: true,
        registered_files: false,
        huge_pages: false,
        by_parts: false,
    }
}

fn measure(
    way: Way,
    client: Client,
    connections: usize,
    message: usize,
    length: Duration,
) -> Sample {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // Accepted connections inherit both options.
    socket2::SockRef::from(&listener).set_tcp_nodelay(true).unwrap();
    support::control_congestion(&listener);
    let address = listener.local_addr().unwrap();
    let (ready_out, ready_in) = mpsc::channel();
    let serving = thread::spawn(move || {
        pin(0);
        let accept = |_| listener.accept().unwrap().0;
        let mut server = way.server((0..connections).map(accept).collect());
        ready_out.send(()).unwrap();
        let before = thread_cpu();
        server.run();
        thread_cpu() - before
    });
    pin(1);
    let streams = client::connect(address, connections);
    ready_in.recv().expect("a server that is ready");
    let (count, wall) = client.run(streams, message, length);
    Sample::new(count, wall, serving.join().unwrap())
}

fn main() {
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let (rounds, length) = effort();
    println!("ratios to the plain ring loop: median (least to most) of {rounds} rounds");
    println!("huge pages: {}", pages::kind_of_huge_pages());
    // Run as a test, a few are enough.
    let [few, many] = if is_measurement() { [50, 200] } else { [2, 5] };
    let cases = [
        ("64 bytes", 64, few, ways_for_small(few)),
        ("64 bytes", 64, many, ways_for_small(many)),
        ("16 KiB", 16 * KIB, few, ways_for_large(few)),
    ];
    for (text, message, connections, ways) in cases {
        for client in [Client::Ring, Client::Epoll] {
            let case = format!("{text}, {connections} connections, {} client", client.name());
            let chosen = |way: &str| format!("{case}: {way}").contains(&filter);
            if ways.iter().any(|(name, _)| chosen(name)) {
                println!("{case}");
            }
            for (name, way) in ways.iter().filter(|(name, _)| chosen(name)) {
                if !way.is_supported() {
                    println!("  {name}: this kernel does not have it");
                    continue;
                }
                paired(
                    &format!("  {name}"),
                    rounds,
                    || measure(*way, client, connections, message, length),
                    || measure(Way::Single(BASE), client, connections, message, length),
                );
            }
        }
    }
}
