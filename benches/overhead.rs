//! The cost of an operation beyond that of the ring: NOPs on corio beside a bare loop, in the same
//! run.
//!
//! - `cargo bench --bench overhead` prints ratios and the difference in nanoseconds per operation.
//! - `ONLY=corio COUNT=128000 DEPTH=64` (or `ONLY=bare`, `echo`, `recv_stream`, `yield`,
//!   `spawn`) runs one program and nothing else, for counting instructions: take the difference of
//!   two counts, so that start-up drops out.
//!
//!   ```text
//!   ONLY=corio COUNT=128000 DEPTH=64 valgrind --tool=cachegrind --cache-sim=no BENCH
//!   ```

// # Why this file has `unsafe`
// The bare loop fills its ring by hand.

mod support;

use std::time::{Duration, Instant};

use corio::IoContext;
use corio::net::UnixStream;
use corio::op::AsyncNop;
use io_uring::{IoUring, opcode};
use support::{Sample, effort, paired, thread_cpu};

/// Awaits `count` NOPs in `depth` tasks.
fn corio_nops(count: u64, depth: u64) {
    in_tasks(depth, move || async move {
        for _ in 0..count / depth {
            AsyncNop::new().await.unwrap();
        }
    });
}

/// Yields `count` times in `depth` tasks.
fn yields(count: u64, depth: u64) {
    in_tasks(depth, move || async move {
        for _ in 0..count / depth {
            corio::yield_now().await;
        }
    });
}

/// Sends `count` messages of 64 bytes and back, through `depth` socket pairs.
fn echoes(count: u64, depth: u64) {
    in_tasks(depth, move || async move {
        let (client, server) = UnixStream::pair().unwrap();
        let serving = corio::spawn(async move {
            let mut buf = Vec::with_capacity(4096);
            loop {
                let (received, filled) = server.recv(buf).await;
                if received.unwrap() == 0 {
                    return;
                }
                let (sent, emptied) = server.send_all(filled).await;
                sent.unwrap();
                buf = emptied;
            }
        });
        let mut buf = vec![7; 64];
        for _ in 0..count / depth {
            let (sent, emptied) = client.send_all(buf).await;
            sent.unwrap();
            let (received, filled) = client.recv(emptied).await;
            assert_eq!(received.unwrap(), 64);
            buf = filled;
        }
        drop(client);
        serving.await.unwrap();
    });
}

/// The same, with the answer sent from the received buffer.
fn echoes_of_received_buffers(count: u64, depth: u64) {
    in_tasks(depth, move || async move {
        let (client, server) = UnixStream::pair().unwrap();
        let serving = corio::spawn(async move {
            let mut incoming = server.recv_stream();
            while let Some(buf) = incoming.recv().await.unwrap() {
                server.send_all(buf).await.0.unwrap();
            }
        });
        let (mut answers, mut message) = (client.recv_stream(), vec![7; 64]);
        for _ in 0..count / depth {
            let sent;
            (sent, message) = client.send_all(message).await;
            sent.unwrap();
            assert_eq!(answers.recv().await.unwrap().map(|buf| buf.len()), Some(64));
        }
        drop(answers);
        drop(client);
        serving.await.unwrap();
    });
}

fn in_tasks<F: Future<Output = ()> + 'static>(depth: u64, task: impl Fn() -> F) {
    let mut context = IoContext::new(256).unwrap();
    context.block_on(async move {
        let tasks: Vec<_> = (0..depth).map(|_| corio::spawn(task())).collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

/// Spawns `count` tasks, each joined before the next is spawned.
fn spawns(count: u64, _depth: u64) {
    let mut context = IoContext::new(8).unwrap();
    context.block_on(async move {
        for n in 0..count {
            assert_eq!(corio::spawn(async move { n }).await.unwrap(), n);
        }
    });
}

/// The same NOPs in a bare loop, on a ring with the same set-up.
fn bare_nops(count: u64, depth: u64) {
    let mut ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_no_sqarray()
        .setup_cqsize(1024)
        .build(256)
        .unwrap();
    let (mut submitter, mut sq, mut cq) = ring.split();
    submitter.register_ring_fd().unwrap();
    for slot in 0..depth {
        // SAFETY: a NOP names no memory.
        unsafe { sq.push(&opcode::Nop::new().build().user_data(slot)).unwrap() };
    }
    let (mut started, mut done) = (depth, 0);
    while done < count {
        sq.sync();
        submitter.submit_and_wait(1).unwrap();
        cq.sync();
        sq.sync();
        for entry in &mut cq {
            assert_eq!(entry.result(), 0);
            done += 1;
            if started < count {
                started += 1;
                let next = opcode::Nop::new().build().user_data(entry.user_data());
                // SAFETY: as above.
                unsafe { sq.push(&next).unwrap() };
            }
        }
    }
    // A thread can register 16 ring fds at most.
    submitter.unregister_ring_fd().unwrap();
}

type Program = fn(u64, u64);

fn main() {
    let programs: [(&str, Program); 6] = [
        ("corio", corio_nops),
        ("bare", bare_nops),
        ("echo", echoes),
        ("recv_stream", echoes_of_received_buffers),
        ("yield", yields),
        ("spawn", spawns),
    ];
    let number = |name, default| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    if let Ok(only) = std::env::var("ONLY") {
        let program = programs.iter().find(|(name, _)| *name == only).expect("no such program").1;
        return program(number("COUNT", 128_000), number("DEPTH", 64));
    }
    let (rounds, length) = effort();
    for depth in [1, 64] {
        let count = length.as_nanos() as u64 / 200;
        let run = |program: Program| {
            let (wall, cpu) = (Instant::now(), thread_cpu());
            program(count, depth);
            Sample::new(count, wall.elapsed(), thread_cpu() - cpu)
        };
        let mut extra = Vec::new();
        paired(&format!("nop, depth {depth}"), rounds, || run(corio_nops), || run(bare_nops));
        for _ in 0..rounds {
            let each =
                |sample: Sample| Duration::from_secs(1).as_nanos() as f64 / sample.per_second;
            extra.push(each(run(corio_nops)) - each(run(bare_nops)));
        }
        extra.sort_by(f64::total_cmp);
        println!(
            "  above the bare loop: {:.1} ns per operation ({:.1} to {:.1})",
            extra[extra.len() / 2],
            extra[0],
            extra[extra.len() - 1]
        );
    }
}
