//! How long contexts take to end, by the number of their tasks.
//!
//! - `cargo bench --bench teardown` prints a row per driver, way and number of tasks.
//! - `TASKS=300000` takes that number alone; `cargo test --benches` the smallest.
//!
//! The times are proportional to the number. Steps are counted in `src/runtime/teardown.rs`.

use std::future::pending;
use std::time::{Duration, Instant};

use corio::{DriverChoice, IoContext};

const TASKS: [usize; 3] = [1_000, 10_000, 100_000];

fn spawn(tasks: usize) {
    for _ in 0..tasks {
        drop(corio::spawn(pending::<()>()));
    }
}

/// Drops a context whose tasks all wait.
fn dropped(mut context: IoContext, tasks: usize) -> Duration {
    drop(context.spawn(async move { spawn(tasks) }));
    while context.stats().polls <= tasks as u64 {
        context.poll_once(Some(Duration::ZERO)).expect("a turn");
    }
    let start = Instant::now();
    drop(context);
    start.elapsed()
}

/// Ends `block_on` whose tasks all wait.
fn settled(mut context: IoContext, tasks: usize) -> Duration {
    let start = context.block_on(async move {
        spawn(tasks);
        corio::yield_now().await;
        Instant::now()
    });
    start.elapsed()
}

/// Ends a context with that many tasks; returns how long that took.
type Way = fn(IoContext, usize) -> Duration;

fn main() {
    let only = std::env::var("TASKS").ok().map(|text| text.parse().expect("a number of tasks"));
    let testing = !std::env::args().any(|argument| argument == "--bench");
    let counts = match only {
        Some(tasks) => vec![tasks],
        None if testing => vec![TASKS[0]],
        None => TASKS.to_vec(),
    };
    let ways: [(&str, Way); 2] = [("drop(context)", dropped), ("end of block_on", settled)];
    for driver in [DriverChoice::Uring, DriverChoice::Readiness] {
        for (way, run) in ways {
            for &tasks in &counts {
                let Ok(context) = IoContext::builder().driver(driver).build() else { continue };
                let name = context.driver_name();
                println!("{name:<10} {way:<16} {tasks:>8} tasks {:>12.1?}", run(context, tasks));
            }
        }
    }
}
