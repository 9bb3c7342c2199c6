//! The runtime's own work: operations, tasks, yields, timers, wakes.
//! `cargo bench --bench operations`.

use std::hint::black_box;
use std::sync::mpsc;
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use corio::IoContext;
use corio::op::AsyncNop;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Runs `body(count)` on a new context, and returns how long it took.
fn timed<F: Future>(count: u64, body: impl FnOnce(u64) -> F) -> Duration {
    let mut context = IoContext::new(256).unwrap();
    context.block_on(async move {
        let start = Instant::now();
        black_box(body(count).await);
        start.elapsed()
    })
}

/// Runs `count` steps, divided among `tasks` tasks.
async fn in_tasks<F: Future<Output = ()> + 'static>(count: u64, tasks: u64, step: fn() -> F) {
    let handles: Vec<_> = (0..tasks)
        .map(|_| {
            corio::spawn(async move {
                for _ in 0..count.div_ceil(tasks) {
                    step().await;
                }
            })
        })
        .collect();
    for handle in handles {
        handle.await.unwrap();
    }
}

async fn nop() {
    AsyncNop::new().await.unwrap();
}

fn operations(c: &mut Criterion) {
    let mut group = c.benchmark_group("operations");
    group.throughput(Throughput::Elements(1));
    group.bench_function("nop, one by one", |b| {
        b.iter_custom(|n| timed(n, |n| in_tasks(n, 1, nop)));
    });
    group.bench_function("nop, 64 tasks", |b| {
        b.iter_custom(|n| timed(n, |n| in_tasks(n, 64, nop)));
    });
    group.finish();
}

fn tasks(c: &mut Criterion) {
    let mut group = c.benchmark_group("tasks");
    group.throughput(Throughput::Elements(1));
    group.bench_function("spawn and join", |b| {
        b.iter_custom(|n| {
            timed(n, |n| async move {
                for i in 0..n {
                    black_box(corio::spawn(async move { i }).await.unwrap());
                }
            })
        });
    });
    group.bench_function("yield, 1 task", |b| {
        b.iter_custom(|n| timed(n, |n| in_tasks(n, 1, || async { corio::yield_now().await })));
    });
    group.bench_function("yield, 1000 tasks", |b| {
        b.iter_custom(|n| timed(n, |n| in_tasks(n, 1000, || async { corio::yield_now().await })));
    });
    group.finish();
}

fn timers(c: &mut Criterion) {
    const SLEEPERS: u64 = 100_000;
    let mut group = c.benchmark_group("timers");
    group.sample_size(10).throughput(Throughput::Elements(SLEEPERS));
    group.bench_function("100,000 tasks sleep 0 to 100 ms, and 1 us each", |b| {
        b.iter_custom(|n| {
            timed(n, |n| async move {
                for _ in 0..n {
                    let sleepers: Vec<_> = (0..SLEEPERS)
                        .map(|i| {
                            corio::spawn(corio::sleep(Duration::from_micros(i * 7919 % SLEEPERS)))
                        })
                        .collect();
                    for sleeper in sleepers {
                        sleeper.await.unwrap();
                    }
                }
            })
        });
    });
    group.finish();
}

/// Measures wakes by another thread, which gets the task's waker.
fn wakes(c: &mut Criterion) {
    let mut group = c.benchmark_group("wakes");
    group.bench_function("from another thread, there and back", |b| {
        let (out, wakers) = mpsc::sync_channel::<Waker>(1);
        let other = thread::spawn(move || {
            for waker in wakers {
                waker.wake();
            }
        });
        b.iter_custom(|n| {
            let out = out.clone();
            timed(n, |n| async move {
                for _ in 0..n {
                    let mut sent = false;
                    std::future::poll_fn(|cx| {
                        if sent {
                            return Poll::Ready(());
                        }
                        sent = true;
                        out.send(cx.waker().clone()).unwrap();
                        Poll::Pending
                    })
                    .await;
                }
            })
        });
        drop(out);
        other.join().unwrap();
    });
    group.finish();
}

criterion_group!(benches, operations, tasks, timers, wakes);
criterion_main!(benches);
