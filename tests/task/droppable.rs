//! Futures that are dropped in flight without harm: `droppable`, `JoinHandle::cancel_on_drop`,
//! operations that lend no memory, and what was cancelled before it could begin.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::net::Shutdown;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use corio::net::TcpListener;
use corio::op::{AsyncNop, AsyncPoll, AsyncShutdown, Interest};
use corio::{Droppable, droppable, in_flight, race, sleep, spawn, timeout, yield_now};

use crate::harness::{
    Case, Drops, LONG, Outcome, SHORT, assert_at_rest, local_pair, many, poll_now,
};

/// Lets `turns` turns of the loop pass.
async fn turns(turns: u32) {
    for _ in 0..turns {
        AsyncNop::new().await.expect("a nop");
    }
}

/// Waits until nothing is in flight, and what was dropped has ended.
async fn settled() {
    for _ in 0..10_000 {
        if in_flight().is_empty() {
            return yield_now().await;
        }
        turns(1).await;
    }
    panic!("still in flight: {:?}", in_flight());
}

async fn a_receive_that_is_dropped_in_flight_is_cancelled() -> Outcome {
    let (a, b) = local_pair()?;
    let drops = Drops::default();
    let counted = drops.one();
    let mut receiving = Box::pin(droppable(async move {
        let _counted = counted;
        a.recv(vec![0; 64]).await.0
    }));
    assert!(poll_now(&mut receiving).await.is_pending());
    yield_now().await;
    assert_eq!(in_flight().len(), 1);
    drop(receiving);
    assert_eq!(drops.count(), 0, "the future lives until the kernel has let go");
    settled().await;
    assert_eq!(drops.count(), 1);
    assert_eq!(b.recv(vec![0; 8]).await.0?, 0, "the other end was closed");
    Ok(())
}

async fn a_dropped_future_is_not_polled_again() -> Outcome {
    let (a, b) = local_pair()?;
    let steps = Rc::new(Cell::new(0));
    let counter = steps.clone();
    let mut receiving = Box::pin(droppable(async move {
        counter.set(counter.get() + 1);
        let _ = a.recv(vec![0; 64]).await;
        counter.set(counter.get() + 1);
        let _ = a.recv(vec![0; 64]).await;
        counter.set(counter.get() + 1);
    }));
    assert!(poll_now(&mut receiving).await.is_pending());
    yield_now().await;
    drop(receiving);
    // What ends the receive is either this or the cancellation.
    let _ = b.send(b"late".to_vec()).await;
    settled().await;
    assert_eq!(steps.get(), 1);
    Ok(())
}

async fn a_future_with_nothing_in_flight_is_dropped_at_once() -> Outcome {
    let drops = Drops::default();
    let counted = drops.one();
    let mut waiting = Box::pin(droppable(async move {
        let _counted = counted;
        pending::<()>().await;
    }));
    assert!(poll_now(&mut waiting).await.is_pending());
    yield_now().await;
    drop(waiting);
    assert_eq!(drops.count(), 1);

    let counted = drops.one();
    let mut queued = Box::pin(droppable(async move { drop(counted) }));
    assert!(poll_now(&mut queued).await.is_pending());
    drop(queued);
    assert_eq!(drops.count(), 2, "it was queued, and has never run");
    Ok(())
}

async fn an_output_is_returned() -> Outcome {
    assert_eq!(droppable(async { 6 * 7 }).await, 42);
    let (a, b) = local_pair()?;
    b.send_all(b"hello".to_vec()).await.0?;
    let (result, buf) = droppable(async move { a.recv(vec![0; 64]).await }).await;
    assert_eq!(&buf[..result?], b"hello");
    let sleeping = droppable(sleep(SHORT));
    timeout(LONG, sleeping).await?;
    Ok(())
}

async fn an_output_that_is_not_taken_is_dropped_once() -> Outcome {
    let drops = Drops::default();
    let counted = drops.one();
    let mut ready = Box::pin(droppable(async move { counted }));
    assert!(poll_now(&mut ready).await.is_pending());
    yield_now().await;
    assert_eq!(drops.count(), 0);
    drop(ready);
    assert_eq!(drops.count(), 1);
    Ok(())
}

async fn what_was_captured_in_flight_is_cancelled_without_a_poll() -> Outcome {
    let (a, _b) = local_pair()?;
    let a = Rc::new(a);
    let own = a.clone();
    let mut receiving: Pin<Box<dyn Future<Output = ()>>> =
        Box::pin(async move { drop(own.recv(vec![0; 64]).await) });
    assert!(poll_now(&mut receiving).await.is_pending());
    assert_eq!(in_flight().len(), 1);
    drop(droppable(receiving));
    assert_eq!((in_flight().len(), Rc::strong_count(&a)), (0, 1));
    Ok(())
}

async fn what_was_captured_in_flight_goes_on_in_it() -> Outcome {
    let (a, b) = local_pair()?;
    let mut receiving = Box::pin(async move { a.recv(vec![0; 64]).await.0 });
    assert!(poll_now(&mut receiving).await.is_pending());
    let mut moved = Box::pin(droppable(receiving));
    assert!(poll_now(&mut moved).await.is_pending());
    yield_now().await;
    b.send_all(b"four".to_vec()).await.0?;
    assert_eq!(moved.await?, 4);
    Ok(())
}

async fn connections_that_come_meanwhile_are_closed() -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let listener = Rc::new(listener);
    for _ in 0..50 {
        let own = listener.clone();
        let mut accepting = Box::pin(droppable(async move { own.accept().await.map(drop) }));
        assert!(poll_now(&mut accepting).await.is_pending());
        yield_now().await;
        let client = std::net::TcpStream::connect(address)?;
        drop(accepting);
        settled().await;
        drop(client);
    }
    assert_eq!(Rc::strong_count(&listener), 1);
    Ok(())
}

async fn a_time_limit_around_it_does_not_wait() -> Outcome {
    let (a, _b) = local_pair()?;
    let receiving = droppable(async move { a.recv(vec![0; 64]).await.0 });
    assert!(timeout(SHORT, receiving).await.is_err());
    settled().await;
    let (a, _b) = local_pair()?;
    let receiving = droppable(async move { a.recv(vec![0; 64]).await.0 });
    assert!(race(receiving, sleep(SHORT)).await.is_second());
    settled().await;
    Ok(())
}

async fn a_cancelled_task_drops_it() -> Outcome {
    let (a, b) = local_pair()?;
    let task = spawn(droppable(async move { a.recv(vec![0; 64]).await.0 }));
    turns(2).await;
    assert_eq!(in_flight().len(), 1);
    task.cancel();
    assert!(task.await.expect_err("it was cancelled").is_cancelled());
    assert_eq!(b.recv(vec![0; 8]).await.0?, 0);
    settled().await;
    Ok(())
}

async fn a_panic_goes_on_in_the_task_that_awaits_it() -> Outcome {
    let task = spawn(droppable(async { panic!("out of luck") }));
    let error = task.await.expect_err("it has panicked");
    assert_eq!(error.to_string(), "the task panicked: out of luck");
    Ok(())
}

async fn a_body_may_drop_its_own_handle() -> Outcome {
    type Body = Pin<Box<dyn Future<Output = ()>>>;
    let own: Rc<RefCell<Option<Droppable<Body>>>> = Rc::default();
    let (drops, inside) = (Drops::default(), own.clone());
    let counted = drops.one();
    let body: Body = Box::pin(async move {
        let _counted = counted;
        drop(inside.borrow_mut().take());
        pending::<()>().await;
    });
    let mut handle = droppable(body);
    assert!(futures_util::poll!(&mut handle).is_pending());
    *own.borrow_mut() = Some(handle);
    yield_now().await;
    yield_now().await;
    assert_eq!((drops.count(), Rc::strong_count(&own)), (1, 1));
    Ok(())
}

async fn thousands_are_dropped_at_random_moments() -> Outcome {
    let mut seed = 7u32;
    for _ in 0..many(2000) {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (kind, polls) = (seed >> 28, (seed >> 24) & 3);
        let (a, b) = local_pair()?;
        let mut receiving = Box::pin(droppable(async move {
            match kind % 4 {
                0 => drop(a.recv(vec![0; 64]).await),
                1 => drop(AsyncPoll::new(&a, Interest::READABLE).await),
                2 => drop(a.recv_stream().recv().await),
                _ => sleep(LONG).await,
            }
        }));
        for _ in 0..polls {
            assert!(poll_now(&mut receiving).await.is_pending());
            yield_now().await;
        }
        if kind >= 8 {
            drop(b);
        }
        drop(receiving);
    }
    settled().await;
    Ok(())
}

async fn what_lends_no_memory_may_be_dropped_in_flight() -> Outcome {
    let (a, _b) = local_pair()?;
    for _ in 0..100 {
        let mut polling = Box::pin(AsyncPoll::new(&a, Interest::READABLE));
        assert!(poll_now(&mut polling).await.is_pending());
        drop(polling);
        let mut nop = Box::pin(AsyncNop::new());
        drop(poll_now(&mut nop).await);
        drop(nop);
        let mut sleeping = Box::pin(sleep(LONG));
        assert!(poll_now(&mut sleeping).await.is_pending());
        drop(sleeping);
    }
    let mut ending = Box::pin(AsyncShutdown::new(&a, Shutdown::Write));
    drop(poll_now(&mut ending).await);
    drop(ending);
    assert!(in_flight().is_empty());
    Ok(())
}

async fn a_handle_that_cancels_on_drop_ends_its_task() -> Outcome {
    let (a, b) = local_pair()?;
    let task = spawn(async move { a.recv(vec![0; 64]).await.0 }).cancel_on_drop();
    turns(1).await;
    assert!(!task.is_finished());
    drop(task);
    assert_eq!(b.recv(vec![0; 8]).await.0?, 0);
    assert_eq!(spawn(async { 7 }).cancel_on_drop().await?, 7);
    Ok(())
}

/// The receive belongs to the scope that began it, not to the task that is cancelled.
async fn a_task_cancelled_before_its_first_poll_may_hold_what_is_in_flight() -> Outcome {
    let (a, _b) = local_pair()?;
    let mut receiving = Box::pin(async move { a.recv(vec![0; 64]).await.0 });
    assert!(poll_now(&mut receiving).await.is_pending());
    let task = spawn(receiving);
    task.cancel();
    assert!(task.await.expect_err("it was cancelled").is_cancelled());
    assert!(in_flight().is_empty());
    Ok(())
}

async fn a_branch_cancelled_before_its_first_poll_may_hold_what_is_in_flight() -> Outcome {
    let (a, _b) = local_pair()?;
    let mut receiving = Box::pin(async move { a.recv(vec![0; 64]).await.0 });
    assert!(poll_now(&mut receiving).await.is_pending());
    assert!(race(async {}, receiving).await.is_first());
    assert!(in_flight().is_empty());
    Ok(())
}

/// Returns what may be dropped and has a receive in flight; it holds `value`.
async fn begun_with(
    value: impl Sized + 'static,
) -> std::io::Result<Pin<Box<dyn Future<Output = ()>>>> {
    let (a, b) = local_pair()?;
    let mut receiving: Pin<Box<dyn Future<Output = ()>>> = Box::pin(droppable(async move {
        let _kept = (value, b);
        drop(a.recv(vec![0; 64]).await);
    }));
    assert!(poll_now(&mut receiving).await.is_pending());
    yield_now().await;
    assert_eq!(in_flight().len(), 1);
    Ok(receiving)
}

fn a_context_ends_with_what_was_dropped_in_flight(case: Case) -> Outcome {
    let drops = Drops::default();
    let mut context = case.context();
    let counted = drops.one();
    context.block_on(async {
        drop(begun_with(counted).await?);
        Outcome::Ok(())
    })?;
    drop(context);
    assert_eq!(drops.count(), 1);
    Ok(())
}

fn one_that_outlives_its_context_is_over(case: Case) -> Outcome {
    let drops = Drops::default();
    let counted = drops.one();
    let mut context = case.context();
    let kept = context.block_on(begun_with(counted))?;
    drop(context);
    assert_eq!(drops.count(), 1, "its context has ended it");
    drop(kept);
    Ok(())
}

fn what_was_dropped_ends_while_other_work_runs(case: Case) -> Outcome {
    let mut context = case.context();
    context.block_on(async {
        let busy = spawn(async {
            for _ in 0..10_000 {
                yield_now().await;
            }
        });
        let (a, b) = local_pair()?;
        let mut receiving = Box::pin(droppable(async move { a.recv(vec![0; 64]).await.0 }));
        assert!(poll_now(&mut receiving).await.is_pending());
        yield_now().await;
        drop(receiving);
        assert_eq!(b.recv(vec![0; 8]).with_timeout(Duration::from_secs(60)).await.0?, 0);
        busy.await?;
        Outcome::Ok(())
    })?;
    assert_at_rest(&context);
    Ok(())
}

every_driver! {
    a_receive_that_is_dropped_in_flight_is_cancelled,
    a_dropped_future_is_not_polled_again,
    a_future_with_nothing_in_flight_is_dropped_at_once,
    an_output_is_returned,
    an_output_that_is_not_taken_is_dropped_once,
    what_was_captured_in_flight_is_cancelled_without_a_poll,
    what_was_captured_in_flight_goes_on_in_it,
    connections_that_come_meanwhile_are_closed,
    a_time_limit_around_it_does_not_wait,
    a_cancelled_task_drops_it,
    a_panic_goes_on_in_the_task_that_awaits_it,
    a_body_may_drop_its_own_handle,
    thousands_are_dropped_at_random_moments,
    what_lends_no_memory_may_be_dropped_in_flight,
    a_handle_that_cancels_on_drop_ends_its_task,
    a_task_cancelled_before_its_first_poll_may_hold_what_is_in_flight,
    a_branch_cancelled_before_its_first_poll_may_hold_what_is_in_flight;
    cases:
    a_context_ends_with_what_was_dropped_in_flight,
    one_that_outlives_its_context_is_over,
    what_was_dropped_ends_while_other_work_runs,
}
