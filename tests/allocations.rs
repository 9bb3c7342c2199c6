//! What operations cost: heap allocations and system calls, counted.
//!
//! # Why this file has `unsafe`
//! A global allocator that counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use corio::fs::File;
use corio::net::{TcpListener, UnixStream};
use corio::op::AsyncNop;
use corio::{IoContext, join_all, race, sleep, spawn, timeout, yield_now};

struct Counting;

thread_local! {
    /// Allocations of this thread.
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that is ending has no counter any more, nor anybody who reads it.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: what the caller promises.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: what the caller promises.
        unsafe { System.dealloc(ptr, layout) }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: what the caller promises.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const LONG: Duration = Duration::from_secs(3600);
const ROUNDS: u64 = 1000;

/// How many allocations a thousand rounds make, once there were a few.
async fn allocations(mut round: impl AsyncFnMut()) -> u64 {
    for _ in 0..10 {
        round().await;
    }
    let before = COUNT.get();
    for _ in 0..ROUNDS {
        round().await;
    }
    COUNT.get() - before
}

fn context() -> IoContext {
    IoContext::new(64).unwrap()
}

/// Runs `rounds` on a context of its own, and sees that it made no allocation at all.
fn costs_nothing<F: Future<Output = u64>>(rounds: F) {
    assert_eq!(context().run_until_done(rounds), 0);
}

#[test]
fn the_counter_counts() {
    let counted =
        context().run_until_done(allocations(async || drop(std::hint::black_box(Box::new(5)))));
    assert_eq!(counted, ROUNDS);
}

#[test]
fn a_nop_allocates_nothing() {
    costs_nothing(allocations(async || AsyncNop::new().await.unwrap()));
}

#[test]
fn a_yield_allocates_nothing() {
    costs_nothing(allocations(async || yield_now().await));
}

#[test]
fn an_echo_allocates_nothing() {
    costs_nothing(async {
        let (a, b) = UnixStream::pair().unwrap();
        let echo = spawn(async move {
            let mut buf = Vec::with_capacity(64);
            loop {
                let (result, received) = b.recv(buf).await;
                if result.unwrap() == 0 {
                    return;
                }
                let (result, sent) = b.send_exact(received).await;
                result.unwrap();
                buf = sent;
            }
        });
        let mut kept = Some(vec![7; 64]);
        let counted = allocations(async || {
            let (result, buf) = a.send(kept.take().unwrap()).await;
            assert_eq!(result.unwrap(), 64);
            let (result, buf) = a.recv_exact(buf).await;
            result.unwrap();
            kept = Some(buf);
        })
        .await;
        drop(a);
        echo.await.unwrap();
        counted
    });
}

#[test]
fn reading_and_writing_a_file_allocates_nothing() {
    costs_nothing(async {
        let file = File::from(tempfile::tempfile().unwrap());
        let mut kept = Some(vec![7; 4096]);
        allocations(async || {
            let (result, buf) = file.write_at(kept.take().unwrap(), 0).await;
            assert_eq!(result.unwrap(), 4096);
            let (result, buf) = file.read_at(buf, 0).await;
            assert_eq!(result.unwrap(), 4096);
            let (result, buf) = file.read_exact_at(buf, 0).await;
            result.unwrap();
            kept = Some(buf);
        })
        .await
    });
}

#[test]
fn opening_and_closing_a_file_allocates_nothing() {
    costs_nothing(allocations(async || {
        let file = File::open("Cargo.toml").await.unwrap();
        file.close().await.unwrap();
        drop(File::open("Cargo.toml").await.unwrap());
    }));
}

#[test]
fn accepting_allocates_nothing() {
    costs_nothing(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().as_inet().unwrap();
        allocations(async || {
            let client = std::net::TcpStream::connect(address).unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            // Or the kernel's table of waiting ports fills up.
            stream.options().set_linger(Some(Duration::ZERO)).unwrap();
            drop((stream, client));
        })
        .await
    });
}

#[test]
fn a_sleep_allocates_nothing() {
    costs_nothing(allocations(async || sleep(Duration::ZERO).await));
}

#[test]
fn a_timeout_allocates_nothing() {
    costs_nothing(allocations(async || {
        AsyncNop::new().with_timeout(LONG).await.unwrap();
        timeout(LONG, AsyncNop::new()).await.unwrap().unwrap();
        assert!(timeout(Duration::ZERO, std::future::pending::<()>()).await.is_err());
    }));
}

#[test]
fn a_race_allocates_nothing() {
    costs_nothing(async {
        let (a, _b) = UnixStream::pair().unwrap();
        allocations(async || {
            race(AsyncNop::new(), race(sleep(LONG), a.recv([0; 16]))).await;
        })
        .await
    });
}

#[test]
fn a_cancel_allocates_nothing() {
    costs_nothing(async {
        let (a, _b) = UnixStream::pair().unwrap();
        allocations(async || {
            let (result, _) = a.recv([0; 16]).with_timeout(Duration::ZERO).await;
            result.unwrap_err();
        })
        .await
    });
}

#[test]
fn a_task_is_one_allocation() {
    let counted = context().run_until_done(allocations(async || {
        spawn(async { [7_u8; 512] }).await.unwrap();
        drop(spawn(async {}));
    }));
    assert_eq!(counted, 2 * ROUNDS);
}

#[test]
fn a_waker_from_a_task_allocates_nothing() {
    costs_nothing(allocations(async || {
        let mut woken = false;
        poll_fn(|cx| {
            if woken {
                return Poll::Ready(());
            }
            woken = true;
            #[allow(clippy::waker_clone_wake)] // The clone is what is measured.
            cx.waker().clone().wake();
            Poll::Pending
        })
        .await;
    }));
}

#[test]
fn many_operations_at_once_share_one_system_call() {
    const TASKS: u64 = 32;
    let mut context = context();
    context.run_until_done(async {
        let tasks = (0..TASKS).map(|_| {
            spawn(async {
                for _ in 0..100 {
                    AsyncNop::new().await.unwrap();
                }
            })
        });
        let before = corio::stats();
        for result in join_all(tasks).await {
            result.unwrap();
        }
        let after = corio::stats();
        let syscalls = after.syscalls - before.syscalls;
        assert!(syscalls <= after.turns - before.turns, "at most one for each turn");
        // One more for the turn in which they are started.
        assert!(syscalls <= 101, "{syscalls} system calls for 100 rounds");
    });
}

#[test]
fn one_operation_is_one_system_call() {
    let mut context = context();
    let before = context.stats().syscalls;
    context.run_until_done(async {
        for _ in 0..ROUNDS {
            AsyncNop::new().await.unwrap();
        }
    });
    let syscalls = context.stats().syscalls - before;
    assert!(syscalls <= ROUNDS + 1, "{syscalls}");
}

#[test]
fn tasks_that_only_compute_make_no_system_call() {
    let mut context = context();
    context.run_until_done(async {
        yield_now().await;
        let before = corio::stats().syscalls;
        let mut other = pin!(spawn(async {
            for _ in 0..100 {
                yield_now().await;
            }
        }));
        other.as_mut().await.unwrap();
        assert_eq!(corio::stats().syscalls, before);
    });
}

#[test]
fn waiting_costs_nothing() {
    let mut context = context();
    let (a, _b) = UnixStream::pair().unwrap();
    drop(context.spawn(async move { drop(a.recv([0; 16]).await) }));
    context.poll_once(Some(Duration::ZERO)).unwrap();
    let before = context.stats();
    context.poll_once(Some(Duration::from_millis(20))).unwrap();
    let after = context.stats();
    assert_eq!((after.syscalls - before.syscalls, after.turns - before.turns), (1, 1));
}
