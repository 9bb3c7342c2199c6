//! Uneven load on two workers: the latency of light requests when one connection in eight requests
//! twenty times as much work, by how connections are spread, and with the heavy work shared.
//!
//! `cargo bench --bench spread`. Each round measures all ways in turn, with the heavy connections
//! at the same random places among all. The clients are tasks of one more thread, which shares the
//! two processors with the workers.

// # Why this file has `unsafe`
// Only `support` has `unsafe` code.

mod support;

use std::cell::RefCell;
use std::hint::black_box;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use corio::net::{Stream, TcpStream};
use corio::server::{Balance, ConnectionContext, Server, Workers};
use corio::{IoContext, sleep_until};
use support::{effort, spread as of_rounds, thread_cpu};

const CONNECTIONS: usize = 32;
/// One connection in this many is heavy.
const HEAVY_EACH: usize = 8;
/// How many times the work of a light request a heavy one needs.
const HEAVY_WORK: u32 = 20;
/// Steps of the work of a light request.
const LIGHT_STEPS: u32 = 40_000;

/// Does work that neither the compiler nor the processor can shorten.
fn work(steps: u32) -> u8 {
    let mut state = black_box(1_u64);
    for _ in 0..steps {
        // Each step needs the previous one's result, and no formula combines several steps.
        state = (state ^ (state >> 29)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
    black_box(state) as u8 | 1
}

/// A way to spread the load.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    balance: Balance,
    /// Whether heavy work goes to an idle worker, by the queue of jobs.
    shared: bool,
}

const WAYS: [Way; 3] = [
    Way { name: "by the kernel", balance: Balance::ReusePort, shared: false },
    Way { name: "by load", balance: Balance::LeastLoaded, shared: false },
    Way { name: "by the kernel, heavy work shared", balance: Balance::ReusePort, shared: true },
];

/// Records its thread's CPU time when it is dropped, which is when its worker ends.
struct Meter {
    shared: bool,
    cpu: Arc<Mutex<Vec<f64>>>,
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.cpu.lock().unwrap().push(thread_cpu().as_secs_f64());
    }
}

/// Serves a connection. A request is one byte: how much work it needs. An answer is one byte, too.
async fn serve(stream: Stream, ctx: ConnectionContext<Meter>) -> io::Result<()> {
    let mut buf = [0; 1];
    loop {
        let (result, request) = stream.recv(buf).await;
        if result? == 0 {
            return Ok(());
        }
        let steps = LIGHT_STEPS * u32::from(request[0]);
        let answer = match ctx.state().shared && request[0] > 1 {
            true => ctx.worker().jobs().run(move || async move { work(steps) }).await?,
            false => work(steps),
        };
        let (result, sent) = stream.send_all([answer]).await;
        result?;
        buf = sent;
    }
}

/// When requests are sent.
#[derive(Clone, Copy)]
enum Pace {
    /// Each connection's next request when the last one is answered.
    AtOnce,
    /// Each connection's requests at fixed times, whether or not the last one is answered.
    Every(Duration),
}

#[derive(Default)]
struct Seen {
    requests: u64,
    /// The times from when a light request was due until its answer was received.
    light: Vec<Duration>,
}

#[derive(Clone, Copy)]
struct Outcome {
    per_second: f64,
    light_p99: f64,
    /// The ratio of the busier worker's CPU time to the mean.
    busiest: f64,
}

fn measure(way: Way, pace: Pace, heavy: &[bool], length: Duration) -> Outcome {
    let cpu = Arc::new(Mutex::new(Vec::new()));
    let meters = cpu.clone();
    let server = Server::builder()
        .listen("127.0.0.1:0")
        .workers(Workers::builder().count(2).share_jobs(1024))
        .balance(way.balance)
        .start(move |_| Meter { shared: way.shared, cpu: meters.clone() }, serve)
        .unwrap();
    let to = server.addresses()[0].clone();
    let seen = Rc::new(RefCell::new(Seen::default()));
    let mut context = IoContext::new(256).unwrap();
    let took = context.block_on(async {
        let mut streams = Vec::new();
        for _ in heavy {
            streams.push(TcpStream::connect(&to).await.unwrap());
        }
        let began = Instant::now();
        let clients: Vec<_> = streams
            .into_iter()
            .zip(heavy)
            .enumerate()
            .map(|(number, (stream, &heavy))| {
                let first = match pace {
                    Pace::AtOnce => began,
                    Pace::Every(time) => began + time * number as u32 / CONNECTIONS as u32,
                };
                corio::spawn(ask(stream, heavy, pace, first, began + length, seen.clone()))
            })
            .collect();
        for client in clients {
            client.await.unwrap();
        }
        began.elapsed()
    });
    server.stop();
    server.join();
    let mut seen = seen.borrow_mut();
    seen.light.sort();
    let tail = seen.light.get(seen.light.len() * 99 / 100);
    let cpu = cpu.lock().unwrap();
    Outcome {
        per_second: seen.requests as f64 / took.as_secs_f64(),
        light_p99: tail.map_or(f64::NAN, |time| time.as_secs_f64() * 1e6),
        busiest: cpu.iter().copied().fold(0.0, f64::max) * cpu.len() as f64
            / cpu.iter().sum::<f64>(),
    }
}

/// Runs one client.
async fn ask(
    stream: TcpStream,
    heavy: bool,
    pace: Pace,
    first: Instant,
    end: Instant,
    seen: Rc<RefCell<Seen>>,
) {
    let request = [if heavy { HEAVY_WORK as u8 } else { 1 }];
    let (mut due, mut buf) = (first, [0; 1]);
    while due < end {
        if let Pace::Every(_) = pace {
            sleep_until(due).await;
        }
        stream.send_all(request).await.0.unwrap();
        let (result, answer) = stream.recv_exact(buf).await;
        result.unwrap();
        buf = answer;
        let now = Instant::now();
        let mut seen = seen.borrow_mut();
        seen.requests += 1;
        if !heavy {
            seen.light.push(now - due);
        }
        due = match pace {
            Pace::AtOnce => now,
            Pace::Every(time) => due + time,
        };
    }
}

/// Returns which connections are heavy, at random.
fn places(round: usize) -> Vec<bool> {
    let mut heavy = vec![false; CONNECTIONS];
    // Seeds are far apart, as the sequences of neighbouring seeds overlap.
    let mut state = (round as u64) << 32;
    while heavy.iter().filter(|heavy| **heavy).count() < CONNECTIONS / HEAVY_EACH {
        // Steele, Lea and Flood's SplitMix64, "Fast splittable pseudorandom number generators",
        // 2014.
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        heavy[(mixed ^ (mixed >> 31)) as usize % CONNECTIONS] = true;
    }
    heavy
}

fn main() {
    let (rounds, length) = effort();
    let light = (0..100).map(|_| {
        let began = Instant::now();
        work(LIGHT_STEPS);
        began.elapsed()
    });
    let light = light.min().unwrap();
    println!(
        "{CONNECTIONS} connections, one in {HEAVY_EACH} heavy; {light:.1?} of work for a light \
         request, {:.1?} for a heavy one",
        light * HEAVY_WORK
    );
    println!("each asks again when it is answered");
    let most = compare(Pace::AtOnce, rounds, length);
    for part in [0.5, 0.7] {
        let time = Duration::from_secs_f64(CONNECTIONS as f64 / most / part);
        println!("each asks every {time:.1?}, which is {part} of that");
        compare(Pace::Every(time), rounds, length);
    }
}

/// Measures all ways and prints the results; returns the requests per second of the first.
fn compare(pace: Pace, rounds: usize, length: Duration) -> f64 {
    let mut outcomes = vec![Vec::new(); WAYS.len()];
    for round in 0..rounds {
        let heavy = places(round);
        for turn in 0..WAYS.len() {
            // Each round starts with another way.
            let way = (turn + round) % WAYS.len();
            outcomes[way].push(measure(WAYS[way], pace, &heavy, length));
        }
    }
    for (way, all) in WAYS.iter().zip(&outcomes) {
        let beside_first = |pick: fn(&Outcome) -> f64| {
            of_rounds(
                all.iter().zip(&outcomes[0]).map(|(one, first)| pick(one) / pick(first)).collect(),
            )
        };
        let plain = |pick: fn(&Outcome) -> f64| of_rounds(all.iter().map(pick).collect());
        println!("  {}", way.name);
        println!("    requests/s beside the first  {}", beside_first(|one| one.per_second));
        println!("    light requests' p99 beside it  {}", beside_first(|one| one.light_p99));
        println!("    light requests' p99, in µs   {}", plain(|one| one.light_p99));
        println!("    busiest worker to the mean   {}", plain(|one| one.busiest));
    }
    let mut first: Vec<f64> = outcomes[0].iter().map(|one| one.per_second).collect();
    first.sort_by(f64::total_cmp);
    first[first.len() / 2]
}
