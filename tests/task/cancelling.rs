//! `JoinHandle::cancel` and `cancel_all_pending`.

// # Why this file has `unsafe`
// It puts a pipe into non-blocking mode.

use std::cell::Cell;
#[cfg(unix)]
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Duration;

use corio::op::AsyncNop;
use corio::{race, sleep, spawn, timeout, yield_now};

use crate::harness::{Drops, LONG, errno, local_pair};

every_driver! {
    fn a_cancelled_operation_gives_its_buffer_back(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let (a, _b) = local_pair().unwrap();
            let task = spawn(async move { a.recv(vec![7; 64]).await });
            yield_now().await;
            task.cancel();
            let (result, buf) = task.await.expect("the task ended by itself");
            assert_eq!(result.unwrap_err().raw_os_error(), Some(errno::ECANCELED));
            assert_eq!(buf, vec![7; 64]);
        });
    }

    fn data_that_came_before_the_cancel_is_not_lost(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let (a, b) = local_pair().unwrap();
            for round in 0..200_u32 {
                let receiver = async {
                    let (result, buf) = a.recv(Vec::with_capacity(4)).await;
                    result.map(|n| buf[..n].to_vec())
                };
                let sender = async {
                    for _ in 0..round % 4 {
                        yield_now().await;
                    }
                    b.send_all(round.to_le_bytes().to_vec()).await.0.unwrap();
                };
                // In any order: the bytes that were sent are received, here or by the next receive.
                let got = match race(receiver, sender).await {
                    corio::RaceOutput::First(Ok(got), _)
                    | corio::RaceOutput::Second(Some(Ok(got)), ()) => got,
                    _ => a.recv(Vec::with_capacity(4)).await.1,
                };
                assert_eq!(got, round.to_le_bytes());
            }
        });
    }

    fn a_sleeping_task_is_dropped(builder) {
        let mut context = builder.build().unwrap();
        let drops = Drops::default();
        context.block_on(async {
            let counted = drops.one();
            let task = spawn(async move {
                sleep(LONG).await;
                drop(counted);
            });
            yield_now().await;
            task.cancel();
            task.cancel();
            assert!(task.await.unwrap_err().is_cancelled());
            assert_eq!(drops.count(), 1);
        });
    }

    fn a_task_cancelled_before_its_first_poll_never_runs(builder) {
        let mut context = builder.build().unwrap();
        let (drops, ran) = (Drops::default(), Rc::new(Cell::new(false)));
        context.block_on(async {
            let (counted, ran) = (drops.one(), ran.clone());
            let task = spawn(async move {
                ran.set(true);
                drop(counted);
            });
            task.cancel();
            assert!(task.await.unwrap_err().is_cancelled());
        });
        assert_eq!((drops.count(), ran.get()), (1, false));
    }

    fn a_task_that_yields_for_ever_is_dropped(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let task = spawn(async {
                loop {
                    yield_now().await;
                }
            });
            yield_now().await;
            task.cancel();
            assert!(task.await.unwrap_err().is_cancelled());
        });
    }

    fn a_task_that_ignores_errors_ends(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let (a, _b) = local_pair().unwrap();
            let task = spawn(async move {
                loop {
                    let _ = a.recv(vec![0; 8]).await;
                }
            });
            yield_now().await;
            task.cancel();
            assert!(task.await.unwrap_err().is_cancelled());
        });
    }

    /// Each round makes a scope of its own, within which little is refused.
    fn a_task_that_ignores_errors_of_timeouts_ends(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let (a, _b) = local_pair().unwrap();
            let task = spawn(async move {
                loop {
                    let _ = timeout(LONG, a.recv(vec![0; 8])).await;
                }
            });
            yield_now().await;
            task.cancel();
            assert!(task.await.unwrap_err().is_cancelled());
        });
    }

    fn a_task_that_ignores_errors_of_races_ends(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let (a, b) = local_pair().unwrap();
            let task = spawn(async move {
                loop {
                    let _ = race(a.recv(vec![0; 8]), race(b.recv(vec![0; 8]), sleep(LONG))).await;
                }
            });
            yield_now().await;
            task.cancel();
            assert!(task.await.unwrap_err().is_cancelled());
        });
    }

    /// As many as there are, each in a scope of its own below the cancelled one.
    fn a_task_that_ignores_errors_of_many_branches_ends(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let (a, _b) = local_pair().unwrap();
            let task = spawn(async move {
                loop {
                    let branches = (0..10).map(|_| timeout(LONG, a.recv(vec![0; 8])));
                    let _ = corio::join_all(branches).await;
                }
            });
            yield_now().await;
            task.cancel();
            assert!(task.await.unwrap_err().is_cancelled());
        });
    }

    fn a_cancelled_task_may_clean_up(builder) {
        let mut context = builder.build().unwrap();
        let cleaned = Rc::new(Cell::new(false));
        context.block_on(async {
            let (a, _b) = local_pair().unwrap();
            let flag = cleaned.clone();
            let task = spawn(async move {
                let (result, _) = a.recv(vec![0; 8]).await;
                // New operations are refused, with the same error.
                let again = AsyncNop::new().await;
                assert_eq!(again.unwrap_err().raw_os_error(), Some(errno::ECANCELED));
                flag.set(true);
                result
            });
            yield_now().await;
            task.cancel();
            assert!(task.await.unwrap().is_err());
        });
        assert!(cleaned.get());
    }

    fn a_cancelled_task_that_holds_many_operations_waits_for_all(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let pairs: Vec<_> = (0..50).map(|_| local_pair().unwrap()).collect();
            let task = spawn(async move {
                let all = pairs.iter().map(|(a, _)| async { a.recv(vec![0; 8]).await.0.is_err() });
                corio::join_all(all).await
            });
            yield_now().await;
            assert_eq!(corio::stats().in_flight, 50);
            task.cancel();
            assert_eq!(task.await.unwrap(), vec![true; 50]);
            assert_eq!(corio::stats().in_flight, 0);
        });
    }

    fn cancelling_a_task_that_has_ended_does_nothing(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let task = spawn(async { 5 });
            yield_now().await;
            task.cancel();
            assert_eq!(task.await.unwrap(), 5);
        });
    }

    fn a_task_can_cancel_itself(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let slot = Rc::new(std::cell::RefCell::new(None::<corio::JoinHandle<()>>));
            let own = slot.clone();
            let drops = Drops::default();
            let counted = drops.one();
            *slot.borrow_mut() = Some(spawn(async move {
                own.borrow().as_ref().unwrap().cancel();
                assert!(AsyncNop::new().await.is_err());
                std::future::pending::<()>().await;
                drop(counted);
            }));
            while !slot.borrow().as_ref().unwrap().is_finished() {
                yield_now().await;
            }
            assert_eq!(drops.count(), 1);
        });
    }

    fn cancel_all_pending_does_not_affect_new_operations(builder) {
        let mut context = builder.build().unwrap();
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                let (a, b) = local_pair().unwrap();
                context.spawn(async move {
                    let first = a.recv(vec![0; 8]).await.0;
                    b.send_all("x").await.0.unwrap();
                    (first, a.recv(vec![0; 8]).await.0)
                })
            })
            .collect();
        context.poll_once(Some(Duration::ZERO)).unwrap();
        assert_eq!(context.cancel_all_pending(), 20);
        assert_eq!(context.cancel_all_pending(), 20, "they have not ended yet");
        context.block_on(async {
            for task in tasks {
                let (first, second) = task.await.unwrap();
                assert_eq!(first.unwrap_err().raw_os_error(), Some(errno::ECANCELED));
                assert_eq!(second.unwrap(), 1);
            }
        });
        assert_eq!(context.cancel_all_pending(), 0);
    }

    /// There the kernel answers `EAGAIN` at once, and the driver polls the file.
    #[cfg(unix)]
    fn an_operation_cancelled_in_its_first_turn_on_a_nonblocking_file_is_cancelled(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            for turns in 0..3 {
                let (reader, writer) = std::io::pipe().unwrap();
                let reader = std::os::fd::OwnedFd::from(reader);
                // SAFETY: passes no memory.
                unsafe { libc::fcntl(reader.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
                let task = spawn(async move {
                    corio::op::AsyncRead::at_position(&reader, vec![0; 8]).await.0
                });
                let canceller = spawn(async move {
                    for _ in 0..turns {
                        // One turn of the loop.
                        corio::sleep(Duration::ZERO).await;
                    }
                    task.cancel();
                    task.await
                });
                let error = canceller.await.unwrap().unwrap().unwrap_err();
                assert_eq!(error.raw_os_error(), Some(errno::ECANCELED), "{turns}: {error}");
                drop(writer);
            }
        });
    }
}
