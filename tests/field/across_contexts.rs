//! Futures that were begun in a context that has ended.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::Write;
use std::net::TcpStream;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use corio::net::{TcpListener, UnixStream};
use corio::{RaceOutput, race, sleep, timeout, try_join};

use crate::harness::{Case, LONG, Outcome, SHORT, poll_outside_of_tasks};

every_driver! { cases:
    a_loser_that_was_done_in_an_earlier_context_gives_its_output,
    an_accepted_connection_of_an_earlier_context_is_not_lost,
    an_error_does_not_hide_what_an_earlier_context_has_received,
    a_block_whose_context_has_ended_goes_on_in_the_next,
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
fn settle(context: &mut corio::IoContext) {
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
            assert!(corio::op::is_cancelled(&b.recv(vec![0; 8]).await.0.unwrap_err()));
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
