//! Futures that were begun in a context that has ended.

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use corio::net::{TcpListener, UnixStream};
use corio::op::is_cancelled;
use corio::{DropPolicy, IoContext, RaceOutput, race, sleep, timeout, try_join};

use crate::harness::wakers::{HOOKED_WAKES, hooked};
use crate::harness::{Case, LONG, Outcome, SHORT, poll_outside_of_tasks};

every_driver! { cases:
    a_loser_that_was_done_in_an_earlier_context_gives_its_output,
    an_accepted_connection_of_an_earlier_context_is_not_lost,
    an_error_does_not_hide_what_an_earlier_context_has_received,
    a_block_whose_context_has_ended_goes_on_in_the_next,
    the_tasks_of_a_leaked_context_count_as_cancelled,
    a_sleep_of_a_leaked_context_goes_on_in_the_next,
    a_time_limit_ends_what_a_leaked_context_has_begun,
}

/// A switch, and a future that is ready once it is set.
fn switch() -> (Rc<Cell<bool>>, impl Future<Output = ()>) {
    let set = Rc::new(Cell::new(false));
    let is_set = set.clone();
    let ready =
        move |_: &mut Context<'_>| if is_set.get() { Poll::Ready(()) } else { Poll::Pending };
    (set, poll_fn(ready))
}

/// A plain socket and its peer. (`block_on` would cancel what is in flight.)
fn plain_pair() -> std::io::Result<(std::os::unix::net::UnixStream, UnixStream)> {
    let (a, b) = std::os::unix::net::UnixStream::pair()?;
    Ok((a, UnixStream::from(std::os::fd::OwnedFd::from(b))))
}

/// Runs `context` until what is in flight has ended.
fn settle(context: &mut IoContext) {
    while context.stats().in_flight > 0 {
        context.poll_once(Some(SHORT)).expect("a turn");
    }
}

fn a_loser_that_was_done_in_an_earlier_context_gives_its_output(case: Case) -> Outcome {
    for contexts in 1..=2 {
        let (set, first) = switch();
        let (mut a, b) = plain_pair()?;
        let mut race = Box::pin(race(first, async {
            let (result, bytes) = b.recv(vec![0; 64]).await;
            result.map(|len| bytes[..len].to_vec())
        }));
        let mut context = case.context();
        poll_outside_of_tasks(&mut context, race.as_mut());
        a.write_all(b"precious")?;
        settle(&mut context);
        if contexts == 2 {
            drop(context);
            context = case.context();
        }
        set.set(true);
        match context.block_on(race) {
            RaceOutput::First((), Some(received)) => assert_eq!(received?, b"precious"),
            other => panic!("{contexts} contexts: {other:?}"),
        }
    }
    Ok(())
}

fn an_accepted_connection_of_an_earlier_context_is_not_lost(case: Case) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (set, first) = switch();
    let mut race = Box::pin(race(first, listener.accept()));
    let mut context = case.context();
    poll_outside_of_tasks(&mut context, race.as_mut());
    let _client = TcpStream::connect(listener.local_addr()?)?;
    settle(&mut context);
    drop(context);
    set.set(true);
    match case.context().block_on(race) {
        RaceOutput::First((), Some(accepted)) => drop(accepted?),
        other => panic!("{}", other.is_first()),
    }
    Ok(())
}

/// `try_join` drops the outputs of the others, but polls them to their end.
fn an_error_does_not_hide_what_an_earlier_context_has_received(case: Case) -> Outcome {
    let (set, first) = switch();
    let (mut a, b) = plain_pair()?;
    let received = Cell::new(0);
    let mut both = Box::pin(try_join(
        async {
            first.await;
            Err::<(), _>(())
        },
        async {
            received.set(b.recv(vec![0; 64]).await.0.unwrap_or(0));
            Ok::<(), ()>(())
        },
    ));
    let mut context = case.context();
    poll_outside_of_tasks(&mut context, both.as_mut());
    a.write_all(b"precious")?;
    settle(&mut context);
    drop(context);
    set.set(true);
    assert!(case.context().block_on(both).is_err());
    assert_eq!(received.get(), 8);
    Ok(())
}

/// The end of a context cancels what is in flight; what goes on afterwards is not cancelled.
fn a_block_whose_context_has_ended_goes_on_in_the_next(case: Case) -> Outcome {
    let (a, b) = UnixStream::pair()?;
    let mut block: Pin<Box<dyn Future<Output = _>>> = Box::pin(timeout(LONG, async {
        race(sleep(LONG), async {
            assert!(is_cancelled(&b.recv(vec![0; 8]).await.0.unwrap_err()));
            sleep(SHORT).await;
            b.recv(vec![0; 8]).await.0
        })
        .await
        .second()
    }));
    let mut context = case.context();
    poll_outside_of_tasks(&mut context, block.as_mut());
    drop(context);
    let mut context = case.context();
    context.block_on(a.send("later")).0?;
    let received = context.block_on(block).expect("no limit").expect("an output");
    assert_eq!(received?, 5);
    Ok(())
}

/// A context that has a receive in flight, and no time to end it.
fn context_to_leak(case: Case) -> Result<IoContext, Box<dyn std::error::Error>> {
    let builder = case.driver.builder().drop_policy(DropPolicy::CancelAndWait);
    let mut context = builder.grace_period(Duration::ZERO).build()?;
    let (a, b) = UnixStream::pair()?;
    drop(context.spawn(async move {
        let _ = a.recv(vec![0; 8]).await;
        drop(b);
    }));
    context.poll_once(Some(Duration::ZERO))?;
    assert_eq!(context.stats().in_flight, 1);
    Ok(context)
}

/// Polls a future once, in `context`.
fn begin<F: Future + 'static>(
    context: &mut IoContext,
    future: F,
) -> Pin<Box<dyn Future<Output = F::Output>>> {
    let mut future: Pin<Box<dyn Future<Output = F::Output>>> = Box::pin(future);
    poll_outside_of_tasks(context, future.as_mut());
    future
}

fn the_tasks_of_a_leaked_context_count_as_cancelled(case: Case) -> Outcome {
    case.alone(|| {
        let mut context = context_to_leak(case)?;
        let handle = context.handle();
        let begun = handle.spawn(|| async { pending::<()>().await });
        let mut local = context.spawn(pending::<()>());
        let mut waited_for = Box::pin(context.spawn(pending::<()>()));
        let foreign = hooked(|| ());
        assert!(waited_for.as_mut().poll(&mut Context::from_waker(&foreign)).is_pending());
        context.poll_once(Some(Duration::ZERO))?;
        context.poll_once(Some(Duration::ZERO))?;
        let unstarted = handle.spawn(|| async { 7 });
        drop(context);

        assert!(begun.join().unwrap_err().is_cancelled());
        assert!(unstarted.join().unwrap_err().is_cancelled());
        assert!(handle.spawn(|| async { 8 }).join().unwrap_err().is_cancelled());
        assert!(handle.try_message(1, 2).is_err());
        assert_eq!(HOOKED_WAKES.get(), 1);
        assert!(local.is_finished());
        local.cancel();
        let mut next = case.context();
        assert!(next.block_on(&mut local).unwrap_err().is_cancelled());
        assert!(next.block_on(waited_for).unwrap_err().is_cancelled());
        let again = AssertUnwindSafe(|| next.block_on(&mut local));
        assert!(catch_unwind(again).is_err(), "its outcome is given once");
        Ok(())
    })
}

fn a_sleep_of_a_leaked_context_goes_on_in_the_next(case: Case) -> Outcome {
    case.alone(|| {
        let mut context = context_to_leak(case)?;
        let slept = begin(&mut context, sleep(SHORT * 10));
        let limited = begin(&mut context, timeout(SHORT * 10, pending::<()>()));
        drop(context);
        let mut next = case.context();
        next.block_on(slept);
        assert!(next.block_on(limited).is_err());
        Ok(())
    })
}

fn a_time_limit_ends_what_a_leaked_context_has_begun(case: Case) -> Outcome {
    case.alone(|| {
        let mut context = context_to_leak(case)?;
        let (a, _b) = UnixStream::pair()?;
        let a: &'static UnixStream = Box::leak(Box::new(a));
        let receive = || a.recv(vec![0; 8]);
        let alone = begin(&mut context, receive());
        let raced = begin(&mut context, race(receive(), pending::<()>()));
        let limited = begin(&mut context, timeout(SHORT * 10, receive()));
        let own_limit = begin(&mut context, receive().with_timeout(SHORT * 10));
        drop(context);
        let builder = case.driver.builder().drop_policy(DropPolicy::CancelAndWait);
        let mut next = builder.build()?;
        // Those that the kernel has let go of meanwhile were cancelled; the others are given up.
        let is_over = |result: std::io::Result<usize>| {
            let error = result.expect_err("nothing was sent");
            assert!(is_cancelled(&error) || error.kind() == ErrorKind::TimedOut, "{error}");
        };
        if let Ok((result, _)) = next.block_on(timeout(SHORT, alone)) {
            is_over(result);
        }
        if let Ok(output) = next.block_on(timeout(SHORT, raced)) {
            is_over(output.first().expect("a receive ends with a result").0);
        }
        if let Ok((result, _)) = next.block_on(limited) {
            is_over(result);
        }
        is_over(next.block_on(own_limit).0);
        Ok(())
    })
}
