//! Tasks whose operations all end at once, in a cached file: what else is due comes in between,
//! after a bounded number of operations and of bytes.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::ErrorKind::TimedOut;
use std::io::Write;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use corio::fs::File;
use corio::net::TcpListener;
use corio::op::{AsyncSendfile, Incomplete};
use corio::{sleep_until, spawn};

use crate::harness::{Case, LocalStream, Outcome, std_pair};

every_driver! {
    no_turn_makes_more_than_600_operations_or_6_mib,
    a_timer_that_is_due_waits_for_at_most_200_operations,
    bytes_that_have_arrived_wait_for_at_most_700_operations,
    a_connection_waits_for_at_most_700_operations,
    a_transfer_that_never_waits_ends_in_the_turn_after_its_limit,
    a_busy_task_goes_on_beside_others_that_are_always_ready,
    a_long_read_leaves_the_loop_to_others;
    cases: a_stop_waits_for_at_most_200_operations
}

/// The size of the file.
const FILE: usize = 4 << 20;

fn cached_file() -> std::io::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(&vec![7; FILE])?;
    Ok(file)
}

/// Calls `each` after every read of `len` bytes, until it returns `false`.
async fn read_on(path: &std::path::Path, len: usize, mut each: impl FnMut() -> bool) -> Outcome {
    let file = File::open(path).await?;
    let (mut buf, mut offset) = (Vec::with_capacity(len), 0);
    loop {
        let (read, filled) = file.read_at(buf, offset as u64).await;
        assert_eq!(read?, len);
        if !each() {
            return Ok(());
        }
        buf = filled;
        offset = (offset + len) % (FILE - len + 1);
    }
}

async fn no_turn_makes_more_than_600_operations_or_6_mib() -> Outcome {
    const READS: usize = 3000;
    let file = cached_file()?;
    for (len, tasks) in [(512, 1), (4096, 3), (64 << 10, 1), (1 << 20, 2)] {
        // The turn, and the reads in it.
        let turn = Rc::new(Cell::new((corio::stats().turns, 0)));
        let most = Rc::new(Cell::new(0));
        let tasks: Vec<_> = (0..tasks)
            .map(|_| {
                let (path, turn, most) = (file.path().to_owned(), turn.clone(), most.clone());
                let left = Cell::new(READS * 4096 / len.max(4096));
                spawn(async move {
                    let each = || {
                        let (now, reads) = (corio::stats().turns, turn.get().1);
                        turn.set((now, if now == turn.get().0 { reads + 1 } else { 1 }));
                        most.set(most.get().max(turn.get().1));
                        left.set(left.get().saturating_sub(1));
                        left.get() > 0
                    };
                    read_on(&path, len, each).await.map_err(|error| error.to_string())
                })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        let most = most.get();
        assert!(most <= 600, "{most} reads of {len} bytes in one turn");
        assert!(most * len <= 6 << 20, "{most} reads of {len} bytes in one turn");
    }
    Ok(())
}

async fn a_timer_that_is_due_waits_for_at_most_200_operations() -> Outcome {
    let file = cached_file()?;
    for _ in 0..20 {
        let due = Instant::now() + Duration::from_millis(1);
        let woken = Rc::new(Cell::new(false));
        let sleeper = spawn({
            let woken = woken.clone();
            async move {
                sleep_until(due).await;
                woken.set(true);
            }
        });
        let mut late = 0;
        let each = || {
            late += u32::from(Instant::now() >= due);
            !woken.get()
        };
        read_on(file.path(), 4096, each).await?;
        sleeper.await?;
        assert!(late <= 200, "{late} reads after the time");
    }
    Ok(())
}

/// Returns how many reads were made between the event that `cause` makes and the end of the task
/// that `waits` for it.
async fn reads_until(waits: impl Future<Output = ()> + 'static, mut cause: impl FnMut()) -> u32 {
    let file = cached_file().unwrap();
    let over = Rc::new(Cell::new(false));
    let waiter = spawn({
        let over = over.clone();
        async move {
            waits.await;
            over.set(true);
        }
    });
    let mut reads = 0;
    let each = || {
        reads += 1;
        if reads == 1000 {
            assert!(!over.get(), "it has waited for nothing");
            cause();
        }
        !over.get()
    };
    read_on(file.path(), 4096, each).await.unwrap();
    waiter.await.unwrap();
    reads - 1000
}

async fn bytes_that_have_arrived_wait_for_at_most_700_operations() -> Outcome {
    let (mut far, near) = std_pair()?;
    let near = LocalStream::from(near);
    let waits = async move { near.recv_exact([0]).await.0.unwrap() };
    let reads = reads_until(waits, || far.write_all(&[7]).unwrap()).await;
    assert!(reads <= 700, "{reads} reads before the byte was received");
    Ok(())
}

async fn a_connection_waits_for_at_most_700_operations() -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    let waits = async move { drop(listener.accept().await.unwrap()) };
    let mut client = None;
    let connect = || client = Some(std::net::TcpStream::connect(addr).unwrap());
    let reads = reads_until(waits, connect).await;
    assert!(reads <= 700, "{reads} reads before the connection was accepted");
    Ok(())
}

fn a_stop_waits_for_at_most_200_operations(case: Case) -> Outcome {
    let file = cached_file()?;
    let mut context = case.context();
    let handle = context.handle();
    let reads = Rc::new(Cell::new(0));
    let path = file.path().to_owned();
    let task = context.spawn({
        let reads = reads.clone();
        async move {
            let each = || {
                reads.set(reads.get() + 1);
                if reads.get() == 1000 {
                    handle.stop();
                }
                reads.get() < 1_000_000
            };
            read_on(&path, 4096, each).await.unwrap();
        }
    });
    context.run(|_| ())?;
    let late = reads.get() - 1000;
    assert!(late <= 200, "{late} reads after the stop");
    drop(task);
    Ok(())
}

async fn a_transfer_that_never_waits_ends_in_the_turn_after_its_limit() -> Outcome {
    const LIMIT: Duration = Duration::from_micros(1);
    const LEN: u64 = 64 << 20;
    let mut file = tempfile::tempfile()?;
    file.set_len(LEN)?;
    // From now on all of it is in memory.
    assert_eq!(std::io::copy(&mut file, &mut std::io::sink())?, LEN);
    let null = std::fs::File::options().write(true).open("/dev/null")?;
    let due = Rc::new(Cell::new(0));
    let sleeper = spawn({
        let (due, at) = (due.clone(), Instant::now() + LIMIT);
        async move {
            sleep_until(at).await;
            due.set(corio::stats().turns);
        }
    });
    // The sleeper's timer comes first.
    corio::yield_now().await;
    let sent = AsyncSendfile::new(&null, &file, 0, LEN).with_timeout(LIMIT).await;
    let ended = corio::stats().turns;
    let error = sent.expect_err("64 MiB in a microsecond");
    assert_eq!(error.kind(), TimedOut);
    assert!(Incomplete::of(&error).is_some_and(|whole| whole.moved > 0), "{error}");
    assert_ne!(due.get(), 0, "the sleeper is later");
    assert!(ended - due.get() <= 2, "{} turns later", ended - due.get());
    sleeper.await?;
    Ok(())
}

async fn a_busy_task_goes_on_beside_others_that_are_always_ready() -> Outcome {
    let file = cached_file()?;
    let over = Rc::new(Cell::new(false));
    let others = [(); 2].map(|()| {
        let over = over.clone();
        spawn(async move {
            // Ends by itself, to fail rather than hang.
            for _ in 0..50_000_000 {
                if over.get() {
                    return true;
                }
                corio::yield_now().await;
            }
            false
        })
    });
    let mut reads = 0;
    let each = || {
        reads += 1;
        reads < 2000
    };
    read_on(file.path(), 4096, each).await?;
    over.set(true);
    for other in others {
        assert!(other.await?, "the reads have made no progress");
    }
    Ok(())
}

async fn a_long_read_leaves_the_loop_to_others() -> Outcome {
    let file = cached_file()?;
    let file = File::open(file.path()).await?;
    let mut read = pin!(file.read_at(Vec::with_capacity(FILE), 0));
    let polled = poll_fn(|cx| Poll::Ready(read.as_mut().poll(cx))).await;
    assert!(polled.is_pending(), "made in its first poll");
    let (read, bytes) = read.await;
    assert_eq!(read?, FILE);
    assert!(bytes.iter().all(|&byte| byte == 7));
    Ok(())
}
