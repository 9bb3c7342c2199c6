//! The cost of operations: counts of heap allocations and system calls.

// # Why this file has `unsafe`
// It is a global allocator that counts allocations.

#[macro_use]
mod harness;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::future::poll_fn;
use std::io::{IoSlice, Read, Write};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use corio::fs::File;
use corio::net::{TcpListener, TcpStream, UnixStream};
use corio::op::{AsyncNop, AsyncPoll, Interest, is_cancelled};
use corio::sync::local::{Mutex, Semaphore, mpsc};
use corio::{IoContext, RaceOutput, droppable, join_all, race, sleep, spawn, timeout, yield_now};
use harness::Driver;

struct Counting;

thread_local! {
    /// The number of allocations of this thread.
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that is ending has no counter any more; no test needs it then.
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

/// Returns the allocations of a thousand rounds, after a few to warm up.
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

/// Runs `rounds` on a driver, and returns its number of allocations; `None` if this host lacks it.
fn cost(driver: Driver, rounds: impl AsyncFn() -> u64) -> Option<u64> {
    let mut context = driver.is_here().then(|| driver.builder().entries(64).build().unwrap())?;
    Some(context.block_on(rounds()))
}

/// Runs `rounds` on each driver, and checks that it made no allocation.
fn costs_nothing(rounds: impl AsyncFn() -> u64) {
    for driver in [Driver::IoUring, Driver::Readiness] {
        assert_eq!(cost(driver, &rounds).unwrap_or(0), 0, "{driver:?}");
    }
}

#[test]
fn the_counter_counts() {
    let counted = context().block_on(allocations(async || drop(std::hint::black_box(Box::new(5)))));
    assert_eq!(counted, ROUNDS);
}

#[test]
fn a_nop_allocates_nothing() {
    costs_nothing(async || allocations(async || AsyncNop::new().await.unwrap()).await);
}

#[test]
fn a_yield_allocates_nothing() {
    costs_nothing(async || allocations(async || yield_now().await).await);
}

/// The task's memory is that of the one before.
#[test]
fn a_droppable_future_allocates_nothing_that_is_not_kept() {
    costs_nothing(async || allocations(async || droppable(yield_now()).await).await);
    costs_nothing(async || {
        let (a, _b) = UnixStream::pair().unwrap();
        let a = Rc::new(a);
        allocations(async || {
            let own = a.clone();
            let mut waiting = pin!(Some(droppable(async move {
                drop(AsyncPoll::new(&*own, Interest::READABLE).await);
            })));
            poll_fn(|cx| Poll::Ready(waiting.as_mut().as_pin_mut().unwrap().poll(cx).is_pending()))
                .await;
            yield_now().await;
            waiting.set(None);
            // It ends with the next turn.
            AsyncNop::new().await.unwrap();
            yield_now().await;
        })
        .await
    });
}

#[test]
fn a_million_polls_that_are_dropped_in_flight_allocate_nothing() {
    costs_nothing(async || {
        let (a, _b) = UnixStream::pair().unwrap();
        let round = async || {
            for _ in 0..1_000_000 / ROUNDS {
                let mut polling = pin!(AsyncPoll::new(&a, Interest::READABLE));
                let polled = poll_fn(|cx| Poll::Ready(polling.as_mut().poll(cx))).await;
                assert!(polled.is_pending());
            }
        };
        let counted = allocations(round).await;
        assert!(corio::in_flight().is_empty());
        counted
    });
}

#[test]
fn an_echo_allocates_nothing() {
    costs_nothing(async || {
        let (a, b) = UnixStream::pair().unwrap();
        let echo = spawn(async move {
            let mut buf = Vec::with_capacity(64);
            loop {
                let (result, received) = b.recv(buf).await;
                if result.unwrap() == 0 {
                    return;
                }
                let (result, sent) = b.send_all(received).await;
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

/// With so many bytes every buffer is used several times.
#[test]
fn an_echo_of_received_buffers_allocates_nothing() {
    costs_nothing(async || {
        let (a, b) = UnixStream::pair().unwrap();
        let echo = spawn(async move {
            let mut incoming = b.recv_stream();
            while let Some(buf) = incoming.recv().await.unwrap() {
                b.send_all(buf).await.0.unwrap();
            }
        });
        let mut answers = a.recv_stream();
        let mut kept = Some(vec![7; 10_000]);
        let counted = allocations(async || {
            let (result, buf) = a.send_all(kept.take().unwrap()).await;
            result.unwrap();
            let mut left = buf.len();
            while left > 0 {
                left -= answers.recv().await.unwrap().unwrap().len();
            }
            kept = Some(buf);
        })
        .await;
        drop(answers);
        drop(a);
        echo.await.unwrap();
        counted
    });
}

#[test]
fn reading_and_writing_a_file_allocates_nothing() {
    costs_nothing(async || {
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
    let rounds = async || {
        allocations(async || {
            let file = File::open("Cargo.toml").await.unwrap();
            file.close().await.unwrap();
            drop(File::open("Cargo.toml").await.unwrap());
        })
        .await
    };
    assert_eq!(cost(Driver::IoUring, rounds).unwrap_or(0), 0);
    let at_once = async || {
        // The first opens may have to read the path into the kernel's cache.
        for _ in 0..4 {
            drop(File::open("Cargo.toml").await.unwrap());
        }
        yield_now().await;
        let before = corio::stats().turns;
        drop(File::open("Cargo.toml").await.unwrap());
        u64::from(corio::stats().turns == before)
    };
    // Where an open does not complete inline, one more each: the job on the thread owns a path.
    let most = if cost(Driver::Readiness, at_once) == Some(1) { 0 } else { 2 * ROUNDS };
    assert!(cost(Driver::Readiness, rounds).unwrap() <= most);
}

#[test]
fn accepting_allocates_nothing() {
    costs_nothing(async || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        allocations(async || {
            let client = std::net::TcpStream::connect(address).unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            // Closed by a reset: otherwise the port stays in TIME_WAIT.
            stream.options().set_linger(Some(Duration::ZERO)).unwrap();
            drop((stream, client));
        })
        .await
    });
}

#[test]
fn connecting_to_an_address_allocates_nothing() {
    costs_nothing(async || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        allocations(async || {
            let stream = TcpStream::connect(address).await.unwrap();
            // Closed by a reset: otherwise the port stays in TIME_WAIT.
            stream.options().set_linger(Some(Duration::ZERO)).unwrap();
            drop((stream, listener.accept().await.unwrap()));
        })
        .await
    });
}

#[test]
fn a_sleep_allocates_nothing() {
    costs_nothing(async || allocations(async || sleep(Duration::ZERO).await).await);
}

#[test]
fn a_timeout_allocates_nothing() {
    costs_nothing(async || {
        allocations(async || {
            AsyncNop::new().with_timeout(LONG).await.unwrap();
            timeout(LONG, AsyncNop::new()).await.unwrap().unwrap();
            assert!(timeout(Duration::ZERO, std::future::pending::<()>()).await.is_err());
        })
        .await
    });
}

#[test]
fn a_race_allocates_nothing() {
    costs_nothing(async || {
        let (a, _b) = UnixStream::pair().unwrap();
        allocations(async || {
            race(AsyncNop::new(), race(sleep(LONG), a.recv([0; 16]))).await;
        })
        .await
    });
}

#[test]
fn a_cancel_allocates_nothing() {
    costs_nothing(async || {
        let (a, _b) = UnixStream::pair().unwrap();
        allocations(async || {
            let raced = race(a.recv([0; 16]), sleep(Duration::ZERO)).await;
            let RaceOutput::Second(Some((result, _)), ()) = raced else { panic!("nothing comes") };
            assert!(is_cancelled(&result.unwrap_err()));
        })
        .await
    });
}

#[test]
fn a_time_limit_allocates_its_error_alone() {
    for driver in [Driver::IoUring, Driver::Readiness] {
        let rounds = async || {
            let (a, _b) = UnixStream::pair().unwrap();
            allocations(async || {
                let (result, _) = a.recv([0; 16]).with_timeout(Duration::ZERO).await;
                result.unwrap_err();
            })
            .await
        };
        // An `io::Error` with a source of its own takes two.
        assert!(cost(driver, rounds).is_none_or(|cost| cost == 2 * ROUNDS));
    }
}

#[test]
fn waiting_for_a_lock_or_a_message_allocates_nothing() {
    costs_nothing(async || {
        let lock = Rc::new(Mutex::new(0_u64));
        let turns = Rc::new(Semaphore::new(0));
        let (sender, mut receiver) = mpsc::channel(1);
        let (theirs, gives) = (lock.clone(), turns.clone());
        drop(spawn(async move {
            loop {
                let value = {
                    let mut value = theirs.lock().await;
                    *value += 1;
                    gives.add_permits(1);
                    yield_now().await; // the other task waits for the lock
                    *value
                };
                if sender.send(value).await.is_err() {
                    return; // the counting has ended
                }
            }
        }));
        allocations(async || {
            turns.acquire(1).await.unwrap().forget();
            drop(lock.lock().await);
            receiver.recv().await.unwrap();
        })
        .await
    });
}

#[test]
fn a_task_is_one_allocation_and_none_where_others_have_ended() {
    let counted = context().block_on(allocations(async || {
        spawn(async { [7_u8; 512] }).await.unwrap();
        drop(spawn(async {}));
    }));
    assert_eq!(counted, 0);
    let counted = context().block_on(allocations(async || {
        spawn(async { [7_u8; 4096] }).await.unwrap();
    }));
    assert_eq!(counted, ROUNDS, "a large task's memory is not kept");
}

#[test]
fn a_waker_from_a_task_allocates_nothing() {
    costs_nothing(async || {
        allocations(async || {
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
        })
        .await
    });
}

#[test]
fn many_operations_at_once_share_one_system_call() {
    const TASKS: u64 = 32;
    let mut context = context();
    context.block_on(async {
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
        // One more for the turn in which the rounds are started.
        assert!(syscalls <= 101, "{syscalls} system calls for 100 rounds");
    });
}

#[test]
fn one_operation_is_one_system_call() {
    let mut context = context();
    let before = context.stats().syscalls;
    context.block_on(async {
        for _ in 0..ROUNDS {
            AsyncNop::new().await.unwrap();
        }
    });
    let syscalls = context.stats().syscalls - before;
    assert!(syscalls <= ROUNDS + 1, "{syscalls}");
}

/// One allocation or more for a connection, none for what goes over it.
#[test]
fn requests_over_a_polled_connection_allocate_nothing() {
    costs_nothing(async || {
        let (a, b) = corio::net::UnixStream::pair().unwrap();
        let (mut receiver, mut sender) = corio::net::polled(a);
        let hello = [IoSlice::new(b"hello, "), IoSlice::new(b"world")];
        allocations(async || {
            let taken = poll_fn(|cx| sender.poll_write(cx, &hello)).await.unwrap();
            poll_fn(|cx| sender.poll_flush(cx)).await.unwrap();
            let (result, text) = b.recv_exact([0; 12]).await;
            result.unwrap();
            assert_eq!((taken, &text), (12, b"hello, world"));
            b.send_all(text).await.0.unwrap();
            let received = poll_fn(|cx| receiver.poll_recv(cx)).await.unwrap();
            assert_eq!(received.as_deref(), Some(&text[..]));
        })
        .await
    });
}

/// After a receive of either kind has drained the socket, the next one does not try inline.
#[test]
#[cfg(target_os = "linux")] // Where a receive tells whether it has left anything.
fn a_receive_on_a_drained_socket_is_not_tried_inline() {
    let mut context = context();
    context.block_on(async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut far = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let near = TcpStream::from(listener.accept().unwrap().0);
        let mut counts = [0; 2];
        for (count, by_message) in counts.iter_mut().zip([false, true]) {
            far.write_all(b"ab").unwrap();
            // One byte is left: the next receive tries inline.
            near.recv(vec![0]).await.0.unwrap();
            match by_message {
                false => assert_eq!(near.recv(vec![0; 8]).await.0.unwrap(), 1),
                true => assert_eq!(near.recv_msg([vec![0; 8]]).await.0.unwrap().len, 1),
            }
            let mut empty = pin!(near.recv(vec![0; 8]));
            let before = corio::stats().syscalls;
            let polled = poll_fn(|cx| Poll::Ready(empty.as_mut().poll(cx))).await;
            assert!(polled.is_pending());
            *count = corio::stats().syscalls - before;
            far.write_all(b"c").unwrap();
            assert_eq!(empty.await.0.unwrap(), 1);
        }
        assert_eq!(counts[1], counts[0]);
    });
}

#[test]
fn tasks_that_only_compute_make_no_system_call() {
    let mut context = context();
    context.block_on(async {
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

/// The system calls of the readiness driver for a server. Clients are tasks of the same thread, so
/// that the order does not depend on the host.
#[cfg(target_os = "linux")] // Where the host tells of changes.
#[test]
fn an_echo_on_the_readiness_driver_is_two_system_calls() {
    const CLIENTS: u64 = 50;
    const TURNS: u64 = 2;
    let mut context = Driver::Readiness.builder().entries(64).build().unwrap();
    let answered = Rc::new(Cell::new(0));
    let mut clients = Vec::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for _ in 0..CLIENTS {
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_nodelay(true).unwrap();
        clients.push(client);
        let stream = TcpStream::from(listener.accept().unwrap().0);
        let answered = answered.clone();
        drop(context.spawn(async move {
            let mut buf = Vec::with_capacity(4096);
            loop {
                let (result, received) = stream.recv(buf).await;
                if result.unwrap() == 0 {
                    return;
                }
                let (result, sent) = stream.send_all(received).await;
                result.unwrap();
                answered.set(answered.get() + 1);
                buf = sent;
            }
        }));
    }
    let mut round = |context: &mut IoContext| {
        for client in &mut clients {
            client.write_all(&[7; 64]).unwrap();
        }
        let wanted = answered.get() + CLIENTS;
        while answered.get() < wanted {
            context.poll_once(Some(LONG)).unwrap();
        }
        for client in &mut clients {
            let mut answer = [0; 64];
            client.read_exact(&mut answer).unwrap();
            assert_eq!(answer, [7; 64]);
        }
    };
    for _ in 0..10 {
        round(&mut context);
    }
    let (before, allocated) = (context.stats(), COUNT.get());
    for _ in 0..ROUNDS {
        round(&mut context);
    }
    let (after, allocated) = (context.stats(), COUNT.get() - allocated);
    assert_eq!(allocated, 0);
    let (syscalls, turns) = (after.syscalls - before.syscalls, after.turns - before.turns);
    assert!(turns <= TURNS * ROUNDS, "{turns} turns for {ROUNDS} rounds");
    // A receive and a send for each request, and one wait a turn.
    let requests = ROUNDS * CLIENTS;
    assert!(syscalls <= 2 * requests + turns, "{syscalls} for {requests} requests, {turns} turns");
}
