//! `race`, `race_all` and `timeout`.

use std::cell::Cell;
use std::time::Duration;

use corio::net::{TcpListener, TcpStream};
use corio::op::AsyncNop;
use corio::{DropPolicy, RaceOutput, race, race_all, sleep, spawn, timeout, yield_now};

use crate::harness::{
    Drops, LONG, SHORT, alone, errno, local_pair, open_fds, panics_with, poll_now, std_pair,
};

fn is_cancelled<T>(result: &std::io::Result<T>) -> bool {
    matches!(result, Err(error) if error.raw_os_error() == Some(errno::ECANCELED))
}

/// Polls a future once more after it was ready.
async fn poll_after_its_end<F: Future>(future: F) {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| {
        assert!(future.as_mut().poll(cx).is_ready());
        future.as_mut().poll(cx).map(drop)
    })
    .await;
}

every_driver! {
    fn a_race_polled_after_its_end_says_so(builder) {
        let mut context = builder.build().unwrap();
        panics_with("a race was polled after it gave its outputs", || {
            context.block_on(poll_after_its_end(race(async {}, async {})));
        });
        panics_with("a race was polled after it gave its outputs", || {
            context.block_on(poll_after_its_end(race_all([async {}])));
        });
    }

    fn the_first_wins_and_the_other_is_waited_for(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let (a, b) = local_pair().unwrap();
            b.send_all("x").await.0.unwrap();
            match race(a.recv(vec![0; 8]), b.recv(vec![0; 8])).await {
                RaceOutput::First((Ok(1), _), Some((other, buf))) => {
                    assert!(is_cancelled(&other));
                    assert_eq!(buf.len(), 8);
                }
                // The first future was ready at once, so the other was not started.
                RaceOutput::First((Ok(1), _), None) => {}
                other => panic!("{other:?}"),
            }
            a.send_all("y").await.0.unwrap();
            match race(a.recv(vec![0; 8]), b.recv(vec![0; 8])).await {
                RaceOutput::Second(Some((other, _)), (Ok(1), _)) => assert!(is_cancelled(&other)),
                other => panic!("{other:?}"),
            }
            assert_eq!(corio::stats().in_flight, 0);
        });
    }

    fn a_race_that_both_win_loses_no_output(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let (a, b) = local_pair().unwrap();
            a.send_all("for b").await.0.unwrap();
            b.send_all("for a").await.0.unwrap();
            let both = race(a.recv(Vec::with_capacity(8)), b.recv(Vec::with_capacity(8))).await;
            match both {
                RaceOutput::First((Ok(5), left), Some((Ok(5), right))) => {
                    assert_eq!((&left[..], &right[..]), (&b"for a"[..], &b"for b"[..]));
                }
                // The first future was ready at once, so the other was not started, and its bytes
                // can still be received.
                RaceOutput::First((Ok(5), left), None) => {
                    let (result, right) = b.recv(Vec::with_capacity(8)).await;
                    assert_eq!(result.unwrap(), 5);
                    assert_eq!((&left[..], &right[..]), (&b"for a"[..], &b"for b"[..]));
                }
                other => panic!("{other:?}"),
            }
        });
    }

    fn a_race_that_is_won_at_once_does_not_start_the_other(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let won = race(std::future::ready(1), async { unreachable!() as u8 }).await;
            assert_eq!(won, RaceOutput::First(1, None));
            let won = race(sleep(LONG), std::future::ready(2)).await;
            assert_eq!(won, RaceOutput::Second(None, 2));
        });
    }

    fn a_loser_without_operations_is_dropped(builder) {
        let mut context = builder.build().unwrap();
        let drops = Drops::default();
        context.block_on(async {
            let counted = drops.one();
            let loser = async move {
                sleep(LONG).await;
                drop(counted);
            };
            let raced = race(loser, AsyncNop::new()).await;
            assert!(matches!(raced, RaceOutput::Second(None, Ok(()))));
        });
        assert_eq!(drops.count(), 1);
    }

    fn a_loser_that_ignores_errors_ends(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let (a, _b) = local_pair().unwrap();
            let rounds = Cell::new(0);
            let stubborn = async {
                loop {
                    let _ = a.recv(vec![0; 8]).await;
                    rounds.set(rounds.get() + 1);
                }
            };
            match race(stubborn, sleep(SHORT)).await {
                RaceOutput::Second(None::<()>, ()) => {}
                _ => panic!("the stubborn one has no end"),
            }
            assert!(rounds.get() >= 1);
        });
    }

    fn races_nest_five_deep(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let pairs: Vec<_> = (0..6).map(|_| local_pair().unwrap()).collect();
            let recv = |n: usize| pairs[n].0.recv(vec![0; 8]);
            for (winner, (_, other)) in pairs.iter().enumerate() {
                other.send_all("!").await.0.unwrap();
                let nested = race(
                    recv(0),
                    race(recv(1), race(recv(2), race(recv(3), race(recv(4), recv(5))))),
                );
                let text = format!("{:?}", nested.await);
                assert_eq!(text.matches("Ok(1)").count(), 1, "{winner}: {text}");
                // A future that is ready at once keeps later ones from being started.
                let canceled = format!("code: {}", errno::ECANCELED);
                let (lost, not_started) = (text.matches(&canceled), text.matches("None"));
                assert!(lost.count() == 5 || not_started.count() >= 1, "{winner}: {text}");
                assert_eq!(corio::stats().in_flight, 0);
            }
        });
    }

    fn race_all_returns_every_output(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let pairs: Vec<_> = (0..20).map(|_| local_pair().unwrap()).collect();
            pairs[13].1.send_all("!").await.0.unwrap();
            let branches = pairs.iter().map(|(a, _)| a.recv(vec![0; 8]));
            let (winner, results) = race_all(branches).await;
            assert_eq!((winner, results.len()), (13, 20));
            for (index, result) in results.into_iter().enumerate() {
                let (result, buf) = result.expect("a cancelled receive ends by itself");
                assert_eq!(buf.len(), if index == 13 { 1 } else { 8 });
                assert_eq!(is_cancelled(&result), index != 13);
            }
        });
    }

    fn an_accept_that_loses_at_the_last_moment_keeps_its_connection(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            for round in 0..50 {
                let connecting = spawn(async move {
                    for _ in 0..round % 5 {
                        yield_now().await;
                    }
                    TcpStream::connect(address).await.unwrap()
                });
                let pause = async {
                    for _ in 0..round % 7 {
                        yield_now().await;
                    }
                };
                let accepted = match race(listener.accept(), pause).await {
                    RaceOutput::First(Ok(accepted), _)
                    | RaceOutput::Second(Some(Ok(accepted)), ()) => accepted,
                    _ => listener.accept().await.unwrap(),
                };
                let client = connecting.await.unwrap();
                assert_eq!(accepted.1, client.local_addr().unwrap());
            }
        });
    }

    fn a_race_dropped_under_cancel_and_wait_leaves_nothing_in_flight(builder) {
        let mut context = builder.drop_policy(DropPolicy::CancelAndWait).build().unwrap();
        context.block_on(async {
            let (a, b) = local_pair().unwrap();
            let mut both =
                Box::pin(race(a.recv(vec![0; 8]), race(b.recv(vec![0; 8]), sleep(LONG))));
            assert!(poll_now(&mut both).await.is_pending());
            assert_eq!(corio::stats().in_flight, 2);
            drop(both);
            assert_eq!(corio::stats().in_flight, 0);
            a.send_all("still good").await.0.unwrap();
            assert_eq!(b.recv(vec![0; 64]).await.0.unwrap(), 10);
        });
    }

    fn a_timeout_that_is_not_needed_gives_the_output(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            assert_eq!(timeout(LONG, async { AsyncNop::new().await.unwrap(); 5 }).await, Ok(5));
            let forever = timeout(Duration::MAX, async { sleep(SHORT).await; 6 });
            assert_eq!(forever.await, Ok(6));
            let nop = AsyncNop::new().with_timeout(Duration::MAX);
            nop.await.unwrap();
        });
    }

    fn a_timeout_that_expires_ends_what_is_in_flight(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let (a, _b) = local_pair().unwrap();
            let outcome = timeout(SHORT, async {
                loop {
                    let _ = a.recv(vec![0; 8]).await;
                }
            });
            let error = outcome.await.unwrap_err();
            assert_eq!(error.to_string(), "time limit of 1 ms reached");
            assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::TimedOut);
            assert_eq!(corio::stats().in_flight, 0);
        });
    }

    fn a_late_success_is_delivered(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let (a, _b) = local_pair().unwrap();
            let outcome = timeout(SHORT, async {
                let (result, buf) = a.recv(vec![9; 8]).await;
                (result.unwrap_err().kind(), buf)
            });
            let error = std::io::ErrorKind::TimedOut;
            assert_eq!(outcome.await, Ok((error, vec![9; 8])));
        });
    }

    fn timeouts_nest(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let (a, _b) = local_pair().unwrap();
            let stuck = || async {
                loop {
                    let _ = a.recv(vec![0; 8]).await;
                }
            };
            let inner: Result<Result<(), _>, _> = timeout(LONG, timeout(SHORT, stuck())).await;
            assert!(inner.unwrap().is_err(), "the inner one expires");
            let outer: Result<Result<(), _>, _> = timeout(SHORT, timeout(LONG, stuck())).await;
            assert!(outer.is_err(), "the outer one expires");
            let both: Result<Result<(), _>, _> = timeout(SHORT, timeout(SHORT, stuck())).await;
            assert!(matches!(both, Err(_) | Ok(Err(_))));
        });
    }

    fn a_timeout_around_a_handle_leaves_the_task_alone(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let (a, b) = local_pair().unwrap();
            let mut task = spawn(async move { a.recv(vec![0; 8]).await.0 });
            assert!(timeout(SHORT, &mut task).await.is_err());
            assert!(!task.is_finished());
            b.send_all("x").await.0.unwrap();
            assert_eq!(timeout(LONG, task).await.unwrap().unwrap().unwrap(), 1);
        });
    }

    fn a_zero_timeout_polls_once_and_expires(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            assert_eq!(timeout(Duration::ZERO, async { 5 }).await, Ok(5));
            assert!(timeout(Duration::ZERO, std::future::pending::<()>()).await.is_err());
            let (a, _b) = local_pair().unwrap();
            let (result, _) = a.recv(vec![0; 8]).with_timeout(Duration::ZERO).await;
            assert_eq!(result.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
        });
    }

    fn an_operation_on_a_nonblocking_socket_times_out(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let (a, _b) = std_pair().unwrap();
            a.set_nonblocking(true).unwrap();
            for limit in [Duration::ZERO, SHORT] {
                let recv = corio::op::AsyncRecv::new(&a, vec![0; 8]);
                let error = recv.with_timeout(limit).await.0.unwrap_err();
                assert_eq!(error.kind(), std::io::ErrorKind::TimedOut, "{error}");
            }
        });
    }

    fn timeouts_of_accepts_leak_no_connection(builder) {
        alone(|| {
            let mut context = builder.build().unwrap();
            let before = open_fds();
            context.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let address = listener.local_addr().unwrap();
                let mut accepted = 0;
                for round in 0..100_u64 {
                    let client = std::net::TcpStream::connect(address).unwrap();
                    let limit = Duration::from_micros(round % 10);
                    if listener.accept().with_timeout(limit).await.is_ok() {
                        accepted += 1;
                    }
                    drop(client);
                }
                assert!(accepted > 0);
            });
            assert_eq!(open_fds(), before);
        });
    }
}
