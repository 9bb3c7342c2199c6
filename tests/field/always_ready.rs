//! Loops over awaits that are always ready: what else is due comes in between.

use std::cell::Cell;
use std::future::{Future, poll_fn, ready};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use corio::blocking::BlockingPool;
use corio::fs::OpenOptions;
use corio::net::{TcpStream, resolve};
use corio::server::Jobs;
use corio::sync::{local, mpsc, oneshot, watch};
use corio::{
    JoinHandle, join, race, race_all, sleep, spawn, timeout, try_join, unconstrained, yield_now,
};
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::harness::{Case, Outcome, local_pair, poll_now};

every_driver! {
    a_timeout_ends_a_loop_over_changes_of_a_watch,
    a_timeout_ends_a_loop_over_sends,
    a_timeout_ends_a_loop_over_receives,
    a_timeout_ends_a_loop_over_oneshots,
    a_timeout_ends_a_loop_over_local_locks,
    a_timeout_ends_a_loop_over_local_channels,
    a_timeout_ends_a_loop_over_local_notifications,
    a_timeout_ends_a_loop_over_races_and_joins,
    a_timeout_ends_a_loop_over_timeouts_and_sleeps,
    a_timeout_ends_a_loop_over_operations_without_a_system_call,
    a_timeout_ends_a_loop_over_calls_that_fail_at_once,
    a_timeout_ends_loops_in_an_executor_within_the_task,
    others_run_between_the_awaits_of_tasks_that_have_ended,
    others_run_between_the_awaits_of_work_that_has_ended,
    unconstrained_awaits_let_no_other_task_run,
    an_await_at_the_start_of_a_poll_is_never_refused,
    awaits_that_wait_spend_nothing,
    sends_that_are_awaited_together_keep_their_order,
    a_transfer_that_is_refused_keeps_its_place,
    an_executor_that_never_yields_makes_progress,
    a_loop_in_a_cancelled_task_ends,
    a_cancelled_task_may_make_many_awaits_before_it_ends;
    cases:
    a_task_that_loops_does_not_keep_a_context_from_ending,
    awaits_are_counted_where_operations_take_a_turn,
}

/// How many rounds a loop makes at most: far more than fit into a millisecond.
const MOST: usize = 3_000_000;

/// More awaits than the polls of a few tasks may make.
const MANY: usize = 5000;

/// Asserts that a time limit ends a loop over an expression.
macro_rules! assert_ends {
    ($each:expr) => {
        let all = async {
            for _ in 0..MOST {
                let _ = $each;
            }
        };
        let ended = timeout(Duration::from_millis(1), all).await;
        assert!(ended.is_err(), "{MOST} times: {}", stringify!($each));
    };
}

async fn a_timeout_ends_a_loop_over_changes_of_a_watch() -> Outcome {
    let (sender, mut receiver) = watch::channel(0);
    assert_ends!({
        sender.send(1);
        receiver.changed().await
    });
    assert_ends!(receiver.wait_for(|_| true).await);
    drop(sender);
    assert_ends!(receiver.changed().await);
    Ok(())
}

async fn a_timeout_ends_a_loop_over_sends() -> Outcome {
    let (sender, mut receiver) = mpsc::channel(1);
    assert_ends!({
        let _ = sender.send(1).await;
        receiver.try_recv()
    });
    drop(receiver);
    assert_ends!(sender.send(1).await);
    let mut messages = corio::messages();
    assert_ends!({
        let _ = corio::handle().send_message(1, 1).await;
        messages.try_next()
    });
    Ok(())
}

async fn a_timeout_ends_a_loop_over_receives() -> Outcome {
    let (sender, mut receiver) = mpsc::channel(1);
    assert_ends!({
        let _ = sender.try_send(1);
        receiver.recv().await
    });
    drop(sender);
    assert_ends!(receiver.recv().await);
    let mut messages = corio::messages();
    assert_ends!({
        let _ = corio::handle().try_message(1, 1);
        messages.next().await
    });
    Ok(())
}

async fn a_timeout_ends_a_loop_over_oneshots() -> Outcome {
    assert_ends!({
        let (sender, receiver) = oneshot::channel();
        let _ = sender.send(1);
        receiver.await
    });
    let (mut sender, receiver) = oneshot::channel::<()>();
    drop(receiver);
    assert_ends!(sender.closed().await);
    assert_ends!({
        let (sender, receiver) = local::oneshot::channel();
        let _ = sender.send(1);
        receiver.await
    });
    Ok(())
}

async fn a_timeout_ends_a_loop_over_local_locks() -> Outcome {
    let mutex = local::Mutex::new(());
    assert_ends!(mutex.lock().await);
    let lock = local::RwLock::new(());
    assert_ends!(lock.read().await);
    assert_ends!(lock.write().await);
    let semaphore = Rc::new(local::Semaphore::new(1));
    assert_ends!(semaphore.acquire(1).await);
    assert_ends!(semaphore.clone().acquire_owned(1).await);
    semaphore.close();
    assert_ends!(semaphore.acquire(1).await.is_err());
    Ok(())
}

async fn a_timeout_ends_a_loop_over_local_channels() -> Outcome {
    let (sender, mut receiver) = local::mpsc::channel(1);
    assert_ends!({
        let _ = sender.send(1).await;
        receiver.try_recv()
    });
    assert_ends!({
        let _ = sender.try_send(1);
        receiver.recv().await
    });
    drop(receiver);
    assert_ends!(sender.send(1).await);
    Ok(())
}

async fn a_timeout_ends_a_loop_over_local_notifications() -> Outcome {
    let notify = local::Notify::new();
    assert_ends!({
        notify.notify_one();
        notify.notified().await
    });
    let barrier = local::Barrier::new(1);
    assert_ends!(barrier.wait().await);
    Ok(())
}

async fn a_timeout_ends_a_loop_over_races_and_joins() -> Outcome {
    assert_ends!(race(ready(1), ready(2)).await);
    assert_ends!(race_all([ready(1), ready(2)]).await);
    assert_ends!(join(ready(1), ready(2)).await);
    assert_ends!(corio::join_all([ready(1), ready(2)]).await);
    assert_ends!(try_join(ready(Ok::<_, ()>(1)), ready(Ok::<_, ()>(2))).await);
    assert_ends!(try_join(ready(Err::<(), _>(1)), ready(Ok::<(), _>(()))).await);
    assert_ends!(corio::try_join_all([ready(Ok::<_, ()>(1))]).await);
    Ok(())
}

async fn a_timeout_ends_a_loop_over_timeouts_and_sleeps() -> Outcome {
    assert_ends!(timeout(Duration::from_secs(60), ready(1)).await);
    assert_ends!(corio::timeout_at(std::time::Instant::now(), ready(1)).await);
    assert_ends!(sleep(Duration::ZERO).await);
    assert_ends!(spawn(ready(1)).await);
    Ok(())
}

async fn a_timeout_ends_a_loop_over_operations_without_a_system_call() -> Outcome {
    let (a, _b) = local_pair()?;
    assert_ends!(a.recv(Vec::new()).await);
    assert_ends!(a.recv_exact(Vec::new()).await);
    assert_ends!(a.send_all(Vec::new()).await);
    assert_ends!(a.recv(Vec::new()).with_timeout(Duration::from_secs(60)).await);
    Ok(())
}

async fn a_timeout_ends_a_loop_over_calls_that_fail_at_once() -> Outcome {
    let addresses: [SocketAddr; 0] = [];
    assert_ends!(TcpStream::connect(addresses.as_slice()).await);
    assert_ends!(resolve("127.0.0.1:80").await);
    assert_ends!(resolve("no port").await);
    assert_ends!(OpenOptions::new().open("anything").await);
    assert_ends!(OpenOptions::new().read(true).open("a\0b").await);
    let jobs = Jobs::new(1);
    jobs.close();
    assert_ends!(jobs.run(|| ready(1)).await);
    Ok(())
}

/// A loop over a lock that is always free.
async fn lock_for_ever() {
    let mutex = local::Mutex::new(());
    for _ in 0..MOST {
        drop(mutex.lock().await);
    }
    panic!("{MOST} times");
}

async fn a_timeout_ends_loops_in_an_executor_within_the_task() -> Outcome {
    let mut loops: FuturesUnordered<_> = (0..4).map(|_| lock_for_ever()).collect();
    assert!(timeout(Duration::from_millis(1), loops.next()).await.is_err());
    // The limits are within, too.
    let limited = |_| timeout(Duration::from_millis(1), lock_for_ever());
    let mut loops: FuturesUnordered<_> = (0..4).map(limited).collect();
    let mut ended = 0;
    while let Some(result) = loops.next().await {
        assert!(result.is_err());
        ended += 1;
    }
    assert_eq!(ended, 4);
    Ok(())
}

/// Starts a task that counts how often others let it run.
fn count_turns() -> (Rc<Cell<usize>>, JoinHandle<()>) {
    let turns = Rc::new(Cell::new(0));
    let counted = turns.clone();
    let task = spawn(async move {
        loop {
            counted.set(counted.get() + 1);
            yield_now().await;
        }
    });
    (turns, task)
}

async fn others_run_between_the_awaits_of_tasks_that_have_ended() -> Outcome {
    let tasks: Vec<_> = (0..MANY).map(|n| spawn(async move { n })).collect();
    let remote: Vec<_> =
        (0..MANY).map(|n| corio::handle().spawn(move || async move { n })).collect();
    while !(tasks.iter().all(JoinHandle::is_finished) && remote.iter().all(|one| one.is_finished()))
    {
        yield_now().await;
    }
    let (turns, other) = count_turns();
    for (n, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.await?, n);
    }
    let before = turns.get();
    assert!(before >= 5, "{before} turns of another task");
    for (n, task) in remote.into_iter().enumerate() {
        assert_eq!(task.await?, n);
    }
    let after = turns.get() - before;
    assert!(after >= 5, "{after} turns of another task");
    other.cancel();
    Ok(())
}

async fn others_run_between_the_awaits_of_work_that_has_ended() -> Outcome {
    let pool = BlockingPool::builder().threads(1).queue(MANY).build();
    let mut work: Vec<_> = (0..MANY).map(|n| pool.run(move || n)).collect();
    // The thread takes one after another.
    let last = work.pop().ok_or("there is work")?;
    assert_eq!(last.await?, MANY - 1);
    let (turns, other) = count_turns();
    for (n, work) in work.into_iter().enumerate() {
        assert_eq!(work.await?, n);
    }
    assert!(turns.get() >= 5, "{} turns of another task", turns.get());
    other.cancel();
    Ok(())
}

async fn unconstrained_awaits_let_no_other_task_run() -> Outcome {
    let (turns, other) = count_turns();
    let mutex = local::Mutex::new(());
    let (sender, mut receiver) = mpsc::channel(1);
    let (a, _b) = local_pair()?;
    unconstrained(async {
        for _ in 0..MANY {
            drop(mutex.lock().await);
            sender.send(1).await.unwrap();
            receiver.recv().await.unwrap();
            a.recv(Vec::new()).await.0.unwrap_err();
        }
    })
    .await;
    assert_eq!(turns.get(), 0);
    // It ends with its future.
    for _ in 0..MANY {
        drop(mutex.lock().await);
    }
    assert!(turns.get() > 0);
    other.cancel();
    Ok(())
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

async fn an_await_at_the_start_of_a_poll_is_never_refused() -> Outcome {
    let mutex = local::Mutex::new(());
    for _ in 0..MANY {
        yield_now().await;
        assert!(poll_once(pin!(mutex.lock())).is_ready());
    }
    Ok(())
}

/// Otherwise so many of them would spend the budget of each poll, and be polled for ever.
async fn awaits_that_wait_spend_nothing() -> Outcome {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..MANY).map(|_| oneshot::channel()).unzip();
    let all = spawn(async move { corio::join_all(receivers).await.len() });
    yield_now().await;
    let polls = corio::stats().polls;
    for _ in 0..10 {
        yield_now().await;
    }
    assert!(corio::stats().polls - polls < 20, "it is polled although nothing has been sent");
    for sender in senders {
        sender.send(()).map_err(|()| "the receiver was dropped")?;
    }
    assert_eq!(all.await?, MANY);
    Ok(())
}

async fn sends_that_are_awaited_together_keep_their_order() -> Outcome {
    let (sender, mut receiver) = mpsc::channel(MANY);
    for sent in corio::join_all((0..4000).map(|n| sender.send(n))).await {
        sent?;
    }
    for n in 0..4000 {
        assert_eq!(receiver.recv().await, Some(n));
    }
    Ok(())
}

async fn a_transfer_that_is_refused_keeps_its_place() -> Outcome {
    let (a, b) = local_pair()?;
    let a = Rc::new(a);
    for _ in 0..2 {
        let mutex = local::Mutex::new(());
        let mut first = Box::pin(a.send_all("first"));
        for _ in 0..MANY {
            if poll_now(&mut Box::pin(mutex.lock())).await.is_pending() {
                break;
            }
        }
        assert!(poll_now(&mut first).await.is_pending(), "the budget is spent");
        let second = spawn({
            let a = a.clone();
            async move { a.send_all("second").await.0 }
        });
        yield_now().await;
        first.await.0?;
        second.await??;
        let (result, received) = b.recv_exact([0; 11]).await;
        result?;
        assert_eq!(&received, b"firstsecond");
    }
    Ok(())
}

async fn an_executor_that_never_yields_makes_progress() -> Outcome {
    let mutex = local::Mutex::new(());
    for own in [false, true] {
        let mut locks = pin!(async {
            for _ in 0..MANY {
                drop(mutex.lock().await);
            }
        });
        let polls = poll_fn(|cx| {
            let mut poll = || match own {
                true => locks.as_mut().poll(cx),
                false => poll_once(locks.as_mut()),
            };
            Poll::Ready((0..1_000_000).position(|_| poll().is_ready()))
        });
        let polls = polls.await.ok_or("it makes no progress")?;
        assert!(own || polls < MANY, "{polls} polls for {MANY} awaits");
    }
    Ok(())
}

async fn a_loop_in_a_cancelled_task_ends() -> Outcome {
    let task = spawn(lock_for_ever());
    yield_now().await;
    assert!(!task.is_finished());
    task.cancel();
    assert!(task.await.is_err_and(|error| error.is_cancelled()));
    Ok(())
}

async fn a_cancelled_task_may_make_many_awaits_before_it_ends() -> Outcome {
    let (a, _b) = local_pair()?;
    let task = spawn(async move {
        let (result, _) = a.recv(vec![0; 1]).await;
        let mutex = local::Mutex::new(0);
        for _ in 0..MANY {
            *mutex.lock().await += 1;
        }
        (result.is_err(), mutex.into_inner())
    });
    yield_now().await;
    task.cancel();
    assert_eq!(task.await?, (true, MANY));
    Ok(())
}

fn a_task_that_loops_does_not_keep_a_context_from_ending(case: Case) -> Outcome {
    let mut context = case.context();
    drop(context.spawn(lock_for_ever()));
    context.block_on(yield_now());
    assert_eq!(context.stats().in_flight, 0);
    drop(context.spawn(lock_for_ever()));
    context.poll_once(Some(Duration::ZERO))?;
    drop(context);
    Ok(())
}

fn awaits_are_counted_where_operations_take_a_turn(case: Case) -> Outcome {
    let mut context = case.driver.builder().complete_inline(false).build()?;
    context.block_on(async {
        let (a, b) = local_pair()?;
        assert_ends!(a.recv(Vec::new()).await);
        let mutex = local::Mutex::new(());
        assert_ends!(mutex.lock().await);
        for _ in 0..10 {
            drop(mutex.lock().await);
            let turns = corio::stats().turns;
            a.send_all("x").await.0?;
            assert!(corio::stats().turns > turns, "it has not taken a turn");
            b.recv_exact([0; 1]).await.0?;
        }
        Ok(())
    })
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Where no context runs, each poll may be one of another executor.
#[test]
fn other_executors_get_their_turn() {
    let wakes = Arc::new(Wakes::default());
    let waker = wakes.clone().into();
    let mut cx = Context::from_waker(&waker);
    let (sender, mut receiver) = mpsc::channel(1);
    let mut all = pin!(async {
        for n in 0..MANY {
            sender.send(n).await.unwrap();
            assert_eq!(receiver.recv().await, Some(n));
        }
    });
    let polls = (1..).take(MANY).find(|_| all.as_mut().poll(&mut cx).is_ready());
    let polls = polls.expect("it makes progress");
    assert!(polls >= 5, "{polls} polls");
    assert_eq!(wakes.0.load(Ordering::Relaxed), polls - 1, "it was woken for each");

    let (_, mut receiver) = mpsc::channel::<()>(1);
    let mut all = pin!(unconstrained(async {
        for _ in 0..MANY {
            assert_eq!(receiver.recv().await, None);
        }
    }));
    assert!(all.as_mut().poll(&mut cx).is_ready());
}
