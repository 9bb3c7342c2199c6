//! `run`, `block_on`, `poll_once`, `stop`, and operations without a context.

// # Why this file has `unsafe`
// It sends its own thread signals.

use std::cell::Cell;
use std::time::{Duration, Instant};

use corio::op::{AsyncNop, AsyncRecv};
use corio::{IoContext, sleep, spawn, yield_now};

use crate::harness::{
    Drops, LONG, SHORT, alone, local_pair, open_fds, panics_with, poll_now, std_pair,
};

const NO_CONTEXT: &str = "no IoContext on this thread";

every_driver! {
    fn a_stop_before_the_run_is_not_lost(builder) {
        let mut context = builder.build().unwrap();
        let ran = std::rc::Rc::new(Cell::new(false));
        let flag = ran.clone();
        drop(context.spawn(async move { flag.set(true) }));
        context.stop();
        context.run(|_| {}).unwrap();
        assert!(ran.get(), "what was ready is polled");
        // The request to stop was used up.
        let handle = context.handle();
        drop(context.spawn(async move {
            AsyncNop::new().await.unwrap();
            handle.stop();
        }));
        let turns = Cell::new(0);
        context.run(|_| turns.set(turns.get() + 1)).unwrap();
        assert!(turns.get() > 0);
    }

    fn a_stop_from_another_thread_ends_a_sleep(builder) {
        let mut context = builder.build().unwrap();
        for _ in 0..20 {
            let handle = context.handle();
            let stopper = std::thread::spawn(move || {
                while !handle.is_running() {
                    std::thread::yield_now();
                }
                handle.stop();
            });
            context.run(|_| {}).unwrap();
            stopper.join().unwrap();
        }
    }

    fn a_stopped_context_does_not_spin(builder) {
        let mut context = builder.build().unwrap();
        context.stop();
        let before = context.stats().turns;
        context.block_on(sleep(Duration::from_millis(30)));
        let turns = context.stats().turns - before;
        assert!(turns < 10, "{turns} turns for one sleep");
        // The request to stop is kept for the next run.
        context.run(|_| {}).unwrap();
    }

    fn a_stop_during_block_on_ends_the_next_run(builder) {
        let mut context = builder.build().unwrap();
        let before = context.stats().turns;
        context.block_on(async {
            let handle = corio::handle();
            std::thread::spawn(move || handle.stop()).join().unwrap();
            sleep(Duration::from_millis(20)).await;
        });
        let turns = context.stats().turns - before;
        assert!(turns < 10, "{turns} turns for one sleep");
        context.run(|_| {}).unwrap();
    }

    fn the_tick_runs_once_per_batch_of_completions(builder) {
        let mut context = builder.build().unwrap();
        let handle = context.handle();
        drop(context.spawn(async move {
            for _ in 0..10 {
                AsyncNop::new().await.unwrap();
            }
            handle.stop();
        }));
        let ticks = Cell::new(0);
        context
            .run(|context| {
                assert!(context.is_running());
                ticks.set(ticks.get() + 1);
            })
            .unwrap();
        assert!(ticks.get() >= 10);
        assert!(!context.is_running());
    }

    fn a_tick_may_panic(builder) {
        let mut context = builder.build().unwrap();
        drop(context.spawn(async { AsyncNop::new().await.unwrap() }));
        panics_with("tick", || drop(context.run(|_| panic!("tick"))));
        assert!(!context.is_running());
        context.block_on(async { AsyncNop::new().await }).unwrap();
    }

    fn an_idle_context_sleeps(builder) {
        let mut context = builder.build().unwrap();
        let (a, _b) = local_pair().unwrap();
        let task = context.spawn(async move { a.recv(vec![0; 8]).await.0 });
        let before = context.stats();
        context.block_on(sleep(Duration::from_millis(30)));
        let after = context.stats();
        assert!(after.turns - before.turns < 10, "{}", after.turns - before.turns);
        assert!(after.syscalls - before.syscalls < 10);
        assert!(task.is_finished());
    }

    fn a_context_knows_whether_it_runs(builder) {
        let mut context = builder.build().unwrap();
        let handle = context.handle();
        assert!(!context.is_running() && !handle.is_running());
        let seen = handle.clone();
        assert!(context.block_on(async move { seen.is_running() }));
        assert!(!handle.is_running());
        drop(context);
        assert!(!handle.is_running());
        handle.stop();
    }

    fn a_second_context_on_a_thread_is_refused(builder) {
        let refused = || {
            let error = IoContext::new(8).expect_err("two on one thread").to_string();
            assert!(error.contains("this thread has an IoContext already, made at"), "{error}");
            assert!(error.contains("running.rs"), "{error}");
        };
        let mut context = builder.build().unwrap();
        refused();
        context.block_on(async { refused() });
        // A context whose future panicked still exists.
        panics_with("main", || context.block_on(async { panic!("main") }));
        refused();
        drop(context);
        drop(builder.build().unwrap());
    }

    fn block_on_leaves_nothing_in_flight(builder) {
        let mut context = builder.build().unwrap();
        let drops = Drops::default();
        context.block_on(async {
            for n in 0..30 {
                let counted = drops.one();
                drop(spawn(async move {
                    let _counted = counted;
                    let (a, _b) = local_pair().unwrap();
                    match n % 3 {
                        0 => drop(a.recv(vec![0; 8]).await),
                        1 => sleep(LONG).await,
                        _ => loop {
                            yield_now().await;
                        },
                    }
                }));
            }
            yield_now().await;
            yield_now().await;
        });
        assert_eq!(drops.count(), 30);
        assert_eq!(context.stats().in_flight, 0);
        assert!(context.in_flight().is_empty());
    }

    fn block_on_does_not_wait_for_leaked_operations(builder) {
        let mut context = builder.grace_period(LONG).build().unwrap();
        let (a, _b) = local_pair().unwrap();
        context.block_on(async {
            let mut recv = Box::pin(a.recv(vec![0; 8]));
            assert!(poll_now(&mut recv).await.is_pending());
            std::mem::forget(recv);
        });
        assert_eq!(context.stats().in_flight, 0);
    }

    fn block_on_takes_futures_that_borrow(builder) {
        let mut context = builder.build().unwrap();
        let (mut text, other) = (String::from("a"), String::from("b"));
        let out = context.block_on(async {
            AsyncNop::new().await.unwrap();
            text.push_str(&other);
            &text[..]
        });
        assert_eq!(out, "ab");
    }

    fn a_panic_of_the_future_propagates(builder) {
        let mut context = builder.build().unwrap();
        let (a, _b) = local_pair().unwrap();
        panics_with("main", || {
            context.block_on(async {
                let mut recv = Box::pin(a.recv(vec![0; 8]));
                assert!(poll_now(&mut recv).await.is_pending());
                panic!("main");
            })
        });
        assert!(!context.is_running());
        assert_eq!(context.stats().in_flight, 0);
        context.block_on(async { AsyncNop::new().await }).unwrap();
    }

    fn poll_once_waits_at_most_the_given_time(builder) {
        let mut context = builder.build().unwrap();
        assert_eq!(context.poll_once(Some(Duration::ZERO)).unwrap(), 0);
        let start = Instant::now();
        context.poll_once(Some(Duration::from_millis(5))).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(5));
        let (a, b) = local_pair().unwrap();
        let task = context.spawn(async move { a.recv(vec![0; 8]).await.0.unwrap() });
        assert_eq!(context.poll_once(Some(Duration::ZERO)).unwrap(), 0);
        drop(b);
        assert_eq!(context.poll_once(None).unwrap(), 1);
        assert!(task.is_finished(), "what the completion made ready was polled");
        let nap = context.spawn(sleep(SHORT));
        context.poll_once(None).unwrap();
        while !nap.is_finished() {
            context.poll_once(None).unwrap();
        }
    }

    fn operations_without_a_context_panic_with_a_clear_message(builder) {
        let (a, _b) = std_pair().unwrap();
        let poll = |future: std::pin::Pin<Box<dyn Future<Output = ()>>>| {
            let mut future = future;
            let waker = std::task::Waker::noop();
            let _ = future.as_mut().poll(&mut std::task::Context::from_waker(waker));
        };
        let try_all = || {
            panics_with(NO_CONTEXT, || poll(Box::pin(async { drop(AsyncNop::new().await) })));
            let a = a.try_clone().unwrap();
            panics_with(NO_CONTEXT, || {
                poll(Box::pin(async move { drop(AsyncRecv::new(&a, vec![0; 8]).await) }));
            });
            panics_with(NO_CONTEXT, || poll(Box::pin(sleep(SHORT))));
            panics_with(NO_CONTEXT, || {
                poll(Box::pin(async { corio::timeout(LONG, async {}).await.unwrap() }));
            });
            panics_with(NO_CONTEXT, || drop(spawn(async {})));
            panics_with(NO_CONTEXT, || drop(corio::in_flight()));
            panics_with(NO_CONTEXT, || assert_eq!(corio::stats().polls, 0));
            panics_with(NO_CONTEXT, || drop(corio::handle()));
        };
        try_all();
        // A context that is not running does not count.
        let context = builder.build().unwrap();
        try_all();
        drop(context);
        try_all();
    }

    #[cfg(unix)]
    fn signals_interrupt_no_operation(builder) {
        extern "C" fn ignore(_: libc::c_int) {}
        alone(|| {
            // SAFETY: the handler does nothing; all memory passed is valid.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = ignore as *const () as usize;
                assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
            }
            let mut context = builder.build().unwrap();
            // SAFETY: a plain call.
            let thread = unsafe { libc::pthread_self() };
            let over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
            let flag = over.clone();
            let disturber = std::thread::spawn(move || {
                while !flag.load(std::sync::atomic::Ordering::Relaxed) {
                    // SAFETY: the thread waits for this one before it ends.
                    unsafe { libc::pthread_kill(thread, libc::SIGUSR1) };
                    std::thread::sleep(Duration::from_micros(50));
                }
            });
            context.block_on(async {
                let (a, b) = local_pair().unwrap();
                let echo = spawn(async move {
                    for _ in 0..200 {
                        let (result, buf) = b.recv_exact([0; 8]).await;
                        result.unwrap();
                        sleep(Duration::from_micros(100)).await;
                        b.send_all(buf).await.0.unwrap();
                    }
                });
                for n in 0..200_u64 {
                    a.send_all(n.to_le_bytes()).await.0.unwrap();
                    let (result, buf) = a.recv_exact([0; 8]).await;
                    result.unwrap();
                    assert_eq!(u64::from_le_bytes(buf), n);
                }
                echo.await.unwrap();
            });
            over.store(true, std::sync::atomic::Ordering::Relaxed);
            disturber.join().unwrap();
        });
    }

    #[cfg(unix)]
    fn handles_dropped_without_a_context_close_their_fd(builder) {
        alone(|| {
            let before = open_fds();
            let pair = local_pair().unwrap();
            assert_eq!(open_fds(), before + 2);
            drop(pair);
            assert_eq!(open_fds(), before);
            let context = builder.build().unwrap();
            let before = open_fds();
            let pair = local_pair().unwrap();
            drop(pair);
            assert_eq!(open_fds(), before, "a context that does not run is no reason to wait");
            drop(context);
        });
    }

    fn handles_dropped_within_a_context_close_their_fd(builder) {
        alone(|| {
            let mut context = builder.build().unwrap();
            let before = open_fds();
            context.block_on(async {
                for _ in 0..100 {
                    drop(local_pair().unwrap());
                }
            });
            assert_eq!(open_fds(), before);
        });
    }
}
