//! Full queues: more operations than the rings have room for.

use std::time::Duration;

use corio::op::AsyncNop;
use corio::{Builder, DropPolicy, Elapsed, join_all, spawn, yield_now};

use crate::harness::{errno, local_pair, poll_now};

/// The smallest rings that the kernel grants.
fn tiny(builder: Builder) -> Builder {
    builder.entries(1).completion_entries(1)
}

every_driver! {
    fn a_thousand_operations_fit_through_one_entry(builder) {
        let mut context = builder.entries(1).build().unwrap();
        context.block_on(async {
            let nops = join_all((0..1000).map(|_| AsyncNop::new())).await;
            assert!(nops.into_iter().all(|result| result.is_ok()));
        });
        let nops = context.stats().of(corio::OpCode::Nop);
        assert_eq!((nops.submitted, nops.completed, nops.failed), (1000, 1000, 0));
    }

    fn five_hundred_completions_fit_through_one_entry(builder) {
        let mut context = tiny(builder).build().unwrap();
        context.block_on(async {
            for result in join_all((0..500).map(|_| AsyncNop::new())).await {
                result.unwrap();
            }
        });
    }

    fn five_hundred_sends_and_receives_fit_through_one_entry(builder) {
        let mut context = tiny(builder).build().unwrap();
        context.block_on(async {
            let pairs: Vec<_> = (0..250).map(|_| local_pair().unwrap()).collect();
            let receives = pairs.iter().enumerate().map(|(n, (a, _))| async move {
                let (result, buf) = a.recv_exact([0; 4]).await;
                result.unwrap();
                assert_eq!(u32::from_le_bytes(buf), n as u32);
            });
            let sends = pairs.iter().enumerate().map(|(n, (_, b))| async move {
                b.send_all((n as u32).to_le_bytes()).await.0.unwrap();
            });
            futures_util::future::join(join_all(receives), join_all(sends)).await;
        });
    }

    fn five_hundred_cancels_fit_through_one_entry(builder) {
        let mut context = tiny(builder).build().unwrap();
        context.block_on(async {
            let tasks: Vec<_> = (0..250)
                .map(|_| {
                    spawn(async {
                        let (a, _b) = local_pair().unwrap();
                        a.recv(vec![0; 8]).await.0.unwrap_err().raw_os_error()
                    })
                })
                .collect();
            yield_now().await;
            tasks.iter().for_each(|task| task.cancel());
            for task in tasks {
                assert_eq!(task.await.unwrap(), Some(errno::ECANCELED));
            }
        });
    }

    /// Far more than the queues hold, while the context's own operations continue.
    fn thousands_of_cancels_end_in_any_order(builder) {
        const MANY: usize = 4000;
        let mut context = builder.entries(8).completion_entries(16).build().unwrap();
        let pairs: Vec<_> = (0..40).map(|_| local_pair().unwrap()).collect();
        let streams: Vec<_> = pairs.into_iter().map(|(a, b)| (std::rc::Rc::new(a), b)).collect();
        let start = |number: usize| {
            let stream = streams[number % streams.len()].0.clone();
            spawn(async move { stream.recv([0; 8]).await.0.map_err(|error| error.raw_os_error()) })
        };
        let all_in_flight = async || {
            while corio::stats().in_flight < MANY as u64 {
                yield_now().await;
            }
        };
        type Order = fn(usize) -> usize;
        let orders: [Order; 3] =
            [|n| n, |n| MANY - 1 - n, |n| n * 1237 % MANY];
        for order in orders {
            context.block_on(async {
                let tasks: Vec<_> = (0..MANY).map(start).collect();
                all_in_flight().await;
                (0..MANY).for_each(|n| tasks[order(n)].cancel());
                for task in tasks {
                    assert_eq!(task.await.unwrap(), Err(Some(errno::ECANCELED)));
                }
            });
        }
        // Until the end of a run, which another thread requests.
        let handle = context.handle();
        context.block_on(async {
            drop((0..MANY).map(start).collect::<Vec<_>>());
            all_in_flight().await;
            let (sender, receiver) = corio::sync::oneshot::channel();
            let thread = std::thread::spawn(move || sender.send(()));
            receiver.await.unwrap();
            thread.join().unwrap().unwrap();
        });
        assert_eq!(context.stats().in_flight, 0);
        let thread = std::thread::spawn(move || handle.stop());
        context.run(|_| {}).unwrap();
        thread.join().unwrap();
        // Until the end of the context.
        for number in 0..MANY {
            let stream = streams[number % streams.len()].0.clone();
            context.spawn(async move { stream.recv([0; 8]).await.0 });
        }
        while context.stats().in_flight < MANY as u64 {
            context.poll_once(Some(Duration::ZERO)).unwrap();
        }
        assert_eq!(context.cancel_all_pending(), MANY);
        drop(context);
    }

    /// Started and cancelled before the kernel has seen them.
    fn operations_cancelled_in_the_backlog_complete(builder) {
        let mut context = tiny(builder).build().unwrap();
        context.block_on(async {
            let pairs: Vec<_> = (0..100).map(|_| local_pair().unwrap()).collect();
            let mut receives: Vec<_> =
                pairs.iter().map(|(a, _)| Box::pin(a.recv(vec![0; 8]))).collect();
            for receive in &mut receives {
                assert!(poll_now(receive).await.is_pending());
            }
            let task = spawn(async {
                // `cancel_all_pending` is the context's; a task's cancel does the same.
                yield_now().await;
            });
            let all = corio::timeout(Duration::ZERO, join_all(receives)).await;
            for (result, buf) in all.expect("each has a result") {
                assert!(Elapsed::of(&result.unwrap_err()).is_some());
                assert_eq!(buf.len(), 8);
            }
            task.await.unwrap();
        });
    }

    fn a_storm_of_cancels_against_results_loses_nothing(builder) {
        let mut context = builder.entries(4).completion_entries(4).build().unwrap();
        context.block_on(async {
            for round in 0..30_usize {
                let (a, b) = local_pair().unwrap();
                let (a, b) = (std::rc::Rc::new(a), std::rc::Rc::new(b));
                let receives: Vec<_> = (0..32)
                    .map(|_| {
                        let a = a.clone();
                        spawn(async move {
                            let (result, buf) = a.recv([0_u8; 1]).await;
                            result.map(|n| buf[..n].to_vec()).unwrap_or_default()
                        })
                    })
                    .collect();
                let sender = {
                    let b = b.clone();
                    spawn(async move {
                        for byte in 0..16_u8 {
                            b.send_all([byte]).await.0.unwrap();
                        }
                    })
                };
                for _ in 0..round % 5 {
                    yield_now().await;
                }
                receives.iter().for_each(|task| task.cancel());
                let mut got = Vec::new();
                for receive in receives {
                    // Cancelled before its first poll, the task has no operation.
                    got.extend(receive.await.unwrap_or_default());
                }
                sender.await.unwrap();
                b.shutdown(std::net::Shutdown::Write).await.unwrap();
                loop {
                    let (result, buf) = a.recv([0_u8; 16]).await;
                    match result.unwrap() {
                        0 => break,
                        n => got.extend_from_slice(&buf[..n]),
                    }
                }
                got.sort_unstable();
                assert_eq!(got, (0..16).collect::<Vec<u8>>(), "round {round}");
            }
        });
    }

    fn operations_dropped_in_the_backlog_are_waited_for(builder) {
        let mut context =
            tiny(builder).drop_policy(DropPolicy::CancelAndWait).build().unwrap();
        context.block_on(async {
            for _ in 0..10 {
                let pairs: Vec<_> = (0..50).map(|_| local_pair().unwrap()).collect();
                let mut nops: Vec<_> = (0..50).map(|_| Box::pin(AsyncNop::new())).collect();
                let mut receives: Vec<_> =
                    pairs.iter().map(|(a, _)| Box::pin(a.recv(vec![0; 8]))).collect();
                for (receive, nop) in receives.iter_mut().zip(&mut nops) {
                    assert!(poll_now(receive).await.is_pending());
                    assert!(poll_now(nop).await.is_pending());
                }
                // In either order: from the first on, and from the last on.
                while let Some(receive) = receives.pop() {
                    drop(receive);
                    if !receives.is_empty() {
                        drop(receives.remove(0));
                    }
                    drop(nops.pop());
                }
                for nop in nops {
                    nop.await.unwrap();
                }
                assert_eq!(corio::stats().in_flight, 0);
            }
        });
    }

    fn a_context_with_full_queues_drops_cleanly(builder) {
        let mut context = tiny(builder).build().unwrap();
        for n in 0..300 {
            drop(context.spawn(async move {
                let (a, _b) = local_pair().unwrap();
                if n % 2 == 0 {
                    let _ = a.recv(vec![0; 64]).await;
                } else {
                    AsyncNop::new().await.unwrap();
                    std::future::pending::<()>().await;
                }
            }));
        }
        context.poll_once(Some(Duration::ZERO)).unwrap();
    }

    fn thousands_of_tasks_share_one_entry(builder) {
        let mut context = tiny(builder).build().unwrap();
        context.block_on(async {
            let tasks: Vec<_> = (0..3000)
                .map(|_| {
                    spawn(async {
                        AsyncNop::new().await.unwrap();
                        yield_now().await;
                        AsyncNop::new().await.unwrap();
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        });
    }
}
