//! Sleeps: their order, their cost, and extreme times.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use corio::op::AsyncNop;
use corio::time::Instant as OurInstant;
use corio::{Elapsed, race, sleep, sleep_until, spawn, timeout, timeout_at};

use crate::harness::{LONG, SHORT, local_pair, many, poll_now};

every_driver! {
    fn sleeps_end_in_the_order_of_their_deadlines(builder) {
        let mut context = builder.build().unwrap();
        let order = Rc::new(RefCell::new(Vec::new()));
        context.block_on(async {
            let start = Instant::now();
            let tasks: Vec<_> = [7_u64, 3, 9, 1, 5, 3, 8]
                .into_iter()
                .enumerate()
                .map(|(index, ms)| {
                    let order = order.clone();
                    spawn(async move {
                        sleep_until(start + Duration::from_millis(ms)).await;
                        assert!(start.elapsed() >= Duration::from_millis(ms));
                        order.borrow_mut().push((ms, index));
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        });
        assert_eq!(*order.borrow(), [(1, 3), (3, 1), (3, 5), (5, 4), (7, 0), (8, 6), (9, 2)]);
    }

    fn a_hundred_thousand_sleeps_cost_no_submission(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let before = corio::stats();
            let mut sleeps: Vec<_> = (0..many(100_000))
                .map(|n| Box::pin(sleep(LONG + Duration::from_nanos(n * 7919 % 100_000))))
                .collect();
            for sleep in &mut sleeps {
                assert!(poll_now(sleep).await.is_pending());
            }
            sleep(SHORT).await;
            drop(sleeps);
            let after = corio::stats();
            assert_eq!(after.total().submitted, before.total().submitted);
            assert!(after.syscalls - before.syscalls <= after.turns - before.turns);
        });
    }

    fn a_deadline_in_the_past_has_elapsed(builder) {
        let mut context = builder.build().unwrap();
        let past = Instant::now() - Duration::from_millis(5);
        context.block_on(async {
            sleep_until(past).await;
            sleep_until(Instant::now()).await;
            sleep(Duration::ZERO).await;
        });
    }

    fn a_sleep_of_duration_max_is_legal(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            race(sleep(Duration::MAX), sleep(SHORT)).await;
            let far = Instant::now() + Duration::from_secs(u64::MAX >> 4);
            race(sleep_until(far), sleep(SHORT)).await;
        });
    }

    fn limits_without_end_are_never_reached(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let never = OurInstant::now() + Duration::MAX;
            for seconds in [u64::MAX, u64::MAX >> 4, 1 << 35, 1 << 34, 3_000_000_000] {
                let far = Duration::new(seconds, 999_999_999);
                race(sleep(far), sleep(SHORT)).await;
                race(sleep_until(OurInstant::now() + far), sleep(SHORT)).await;
                timeout(far, sleep(SHORT)).await.unwrap();
                timeout_at(OurInstant::now() + far, sleep(SHORT)).await.unwrap();
                AsyncNop::new().with_timeout(far).await.unwrap();
            }
            // Many timers with one deadline.
            let crowd = (0..100).map(|_| timeout_at(never, sleep(SHORT)));
            assert!(corio::join_all(crowd).await.into_iter().all(|ended| ended.is_ok()));
        });
    }

    fn a_deadline_limits_several_blocks_together(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let start = Instant::now();
            let deadline = start + Duration::from_millis(20);
            timeout_at(deadline, sleep(Duration::from_millis(1))).await.unwrap();
            let late = timeout_at(deadline, sleep(LONG)).await.unwrap_err();
            assert!(start.elapsed() >= Duration::from_millis(20));
            assert!(late.limit().unwrap() < Duration::from_millis(20));
            // With a deadline in the past, a future that does not wait completes.
            assert_eq!(timeout_at(start, std::future::ready(7)).await, Ok(7));
            assert!(timeout_at(start, sleep(LONG)).await.is_err());
        });
    }

    fn a_time_limit_says_how_long_it_was(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let (a, _b) = local_pair().unwrap();
            let limit = Duration::from_millis(2);
            let said = "time limit of 2 ms reached";
            let error = a.recv([0; 1]).with_timeout(limit).await.0.unwrap_err();
            assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::TimedOut, said));
            let error = timeout(limit, a.recv([0; 1])).await.unwrap().0.unwrap_err();
            assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::TimedOut, said));
            let elapsed = timeout(limit, sleep(LONG)).await.unwrap_err();
            assert_eq!((&*elapsed.to_string(), &*format!("{elapsed:?}")), (said, said));
            // A whole transfer reports the limit too, and how many bytes were moved.
            let error = timeout(limit, a.recv_exact([0; 9])).await.unwrap().0.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            assert_eq!(error.to_string(), format!("{said}: 0 of 9 bytes were moved"));
            assert_eq!(Elapsed::of(&error).unwrap().limit(), Some(limit));
            // So do an operation that starts after the limit, and a receive of a stream.
            let errors = timeout(limit, async {
                let first = a.recv([0; 1]).await.0.unwrap_err();
                (first, AsyncNop::new().await.unwrap_err())
            });
            let (first, second) = errors.await.unwrap();
            assert_eq!((&*first.to_string(), &*second.to_string()), (said, said));
            let mut stream = a.recv_stream();
            let error = timeout(limit, stream.recv()).await.unwrap().unwrap_err();
            drop(stream);
            assert_eq!(error.to_string(), said);
            // The inner of two limits, when that is the one that was reached.
            let inner = timeout(limit, a.recv([0; 1]));
            let error = timeout(LONG, inner).await.unwrap().unwrap().0.unwrap_err();
            assert_eq!(error.to_string(), said);
            // The outer of two.
            let inner = timeout(LONG, a.recv([0; 1]));
            let error = timeout(limit, inner).await.unwrap().unwrap().0.unwrap_err();
            assert_eq!(error.to_string(), said);
            // The `TimedOut` of TCP itself carries no time limit.
            assert!(Elapsed::of(&ErrorKind::TimedOut.into()).is_none());
        });
    }

    fn a_wait_of_duration_max_is_legal(builder) {
        let mut context = builder.build().unwrap();
        let task = context.spawn(sleep(SHORT));
        while !task.is_finished() {
            context.poll_once(Some(Duration::MAX)).unwrap();
        }
        // Without a timer, or with a distant one, the whole timeout is passed to the kernel.
        for sleeps in [false, true] {
            if sleeps {
                drop(context.spawn(sleep(Duration::MAX)));
            }
            let handle = context.handle();
            let over = Arc::new(AtomicBool::new(false));
            let flag = over.clone();
            let stopper = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(20));
                flag.store(true, Ordering::SeqCst);
                handle.stop();
            });
            let before = context.stats().turns;
            while !over.load(Ordering::SeqCst) {
                context.poll_once(Some(Duration::MAX)).unwrap();
            }
            let turns = context.stats().turns - before;
            stopper.join().unwrap();
            context.run(|_| {}).unwrap();
            assert!(turns < 10, "{turns} turns for one wait");
        }
    }

    fn a_grace_period_of_duration_max_is_legal(builder) {
        let mut context = builder.grace_period(Duration::MAX).build().unwrap();
        context.block_on(async { drop(spawn(sleep(LONG))) });
        drop(context);
    }

    fn a_sleep_can_be_dropped_at_any_time(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let mut kept = Vec::new();
            for n in 0..1000_u64 {
                let mut nap = Box::pin(sleep(Duration::from_micros(n * 31 % 977)));
                assert!(poll_now(&mut nap).await.is_pending());
                kept.push(nap);
                if n % 3 == 0 {
                    drop(kept.swap_remove((n as usize * 17) % kept.len()));
                }
            }
            for nap in kept {
                nap.await;
            }
        });
    }
}
