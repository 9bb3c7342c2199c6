//! Tasks: their outputs, panics, order and fairness.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use corio::op::AsyncNop;
use corio::{JoinError, join_all, spawn, yield_now};

use crate::harness::{Drops, Event, OnDrop, SHORT, local_pair, many, panics_with, poll_now};

every_driver! {
    fn a_task_gives_its_output(builder) {
        let mut context = builder.build().unwrap();
        let early = context.spawn(async { String::from("early") });
        let (early, late) = context.block_on(async {
            let late = spawn(async { yield_now().await; 7 });
            (early.await.unwrap(), late.await.unwrap())
        });
        assert_eq!((early.as_str(), late), ("early", 7));
        assert_eq!(context.stats().tasks_spawned, 3);
    }

    /// Future and output share their memory, at the alignment of either.
    fn futures_and_outputs_may_have_any_alignment(builder) {
        #[repr(align(64))]
        struct Strict([u8; 64]);
        #[repr(align(256))]
        struct Stricter(u8);
        fn is_aligned<T>(value: &T) -> bool {
            std::ptr::from_ref(value).is_aligned()
        }
        builder.build().unwrap().block_on(async {
            for n in 0..3_u8 {
                let strict = Strict([n; 64]);
                let inside = spawn(async move {
                    yield_now().await;
                    assert!(is_aligned(&strict));
                    strict.0[63]
                });
                let outside = spawn(async move { Stricter(n) });
                let both = spawn(async move {
                    let strict = Strict([n; 64]);
                    yield_now().await;
                    assert!(is_aligned(&strict));
                    Stricter(strict.0[0])
                });
                assert_eq!(inside.await.unwrap(), n);
                assert_eq!(outside.await.unwrap().0, n);
                assert_eq!(both.await.unwrap().0, n);
                spawn(async {}).await.unwrap();
            }
        });
    }

    /// Cached bytes are read inline, but a bounded number of them per turn.
    fn large_reads_that_end_at_once_let_others_run(builder) {
        // A read that overdraws the budget by far was counted as many refused operations.
        const LEN: usize = 32 << 20;
        let mut context = builder.build().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![7; LEN]).unwrap();
        context.block_on(async {
            let file = corio::fs::File::open(file.path()).await.unwrap();
            let turns = Rc::new(Cell::new(0));
            let others = turns.clone();
            let other = spawn(async move {
                loop {
                    others.set(others.get() + 1);
                    yield_now().await;
                }
            });
            let (mut in_a_row, mut most) = (0, 0);
            for read in 0..68 {
                let len = if read < 64 { 1 << 20 } else { LEN };
                let mut reading = Box::pin(file.read_at(Vec::with_capacity(len), 0));
                let mut took_long = false;
                let (result, _) = poll_fn(|cx| {
                    let polled = reading.as_mut().poll(cx);
                    took_long |= corio::stats().in_flight > 0;
                    polled
                })
                .await;
                assert_eq!(result.unwrap(), len);
                in_a_row = match turns.replace(0) {
                    // A read of pages that the system has evicted meanwhile does not complete
                    // inline, and may precede those that do.
                    ran if took_long => {
                        assert_ne!(ran, 0, "others wait for a read that takes long");
                        0
                    }
                    0 => in_a_row + 1,
                    _ => 1,
                };
                most = most.max(in_a_row);
                assert!(read < 65 || in_a_row <= 1, "{in_a_row} large reads in a row");
            }
            assert!(most <= 5, "{most} reads in a row");
            other.cancel();
        });
    }

    fn a_panic_reaches_the_awaiter_and_nothing_else(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let bystander = spawn(async { yield_now().await; yield_now().await; 1 });
            let error = spawn(async { panic!("oh {}", "dear") }).await.unwrap_err();
            assert!(error.is_panic() && !error.is_cancelled());
            assert_eq!(error.to_string(), "the task panicked: oh dear");
            assert_eq!(bystander.await.unwrap(), 1);
        });
        context.block_on(async { AsyncNop::new().await }).unwrap();
    }

    fn a_panic_of_a_detached_task_does_not_propagate(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            drop(spawn(async { panic!("unobserved") }));
            yield_now().await;
            yield_now().await;
            AsyncNop::new().await.unwrap();
        });
    }

    /// The unwinding drops the operation.
    fn a_panic_with_an_operation_in_flight_waits_for_it(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let (a, _b) = local_pair().unwrap();
            let error = spawn(async move {
                let mut recv = Box::pin(a.recv(vec![0; 64]));
                assert!(poll_now(&mut recv).await.is_pending());
                yield_now().await;
                panic!("in the middle");
            })
            .await
            .unwrap_err();
            assert_eq!(error.to_string(), "the task panicked: in the middle");
            assert_eq!(corio::stats().in_flight, 0);
        });
    }

    /// The unwinding does not drop the operation, as its future is not on the stack: it belongs to
    /// a future that holds several.
    fn a_panic_beside_an_operation_in_flight_waits_for_it(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let (a, _b) = local_pair().unwrap();
            let a = Rc::new(a);
            let receiver = a.clone();
            let error = spawn(async move {
                let recv = async { receiver.recv(vec![0; 64]).await.0.map(drop) };
                let bad = async { yield_now().await; panic!("beside") };
                futures_util::future::join(recv, bad).await;
            })
            .await
            .unwrap_err();
            assert!(error.is_panic());
            assert_eq!(corio::stats().in_flight, 0);
            assert_eq!(Rc::strong_count(&a), 1, "the task's future is gone");
        });
    }

    fn a_panic_in_a_futures_destructor_reaches_the_awaiter(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let task = spawn(async {
                let _bad = OnDrop(|| panic!("in drop"));
                corio::sleep(crate::harness::LONG).await;
            });
            yield_now().await;
            task.cancel();
            assert_eq!(task.await.unwrap_err().to_string(), "the task panicked: in drop");
        });
    }

    fn a_panic_in_an_outputs_destructor_affects_no_other_task(builder) {
        struct Bad;
        impl Drop for Bad {
            fn drop(&mut self) {
                panic!("output");
            }
        }
        let mut context = builder.build().unwrap();
        context.block_on(async {
            drop(spawn(async { Bad }));
            yield_now().await;
            let task = spawn(async { Bad });
            yield_now().await;
            // It stays with the output, whether the handle is dropped before or after the end.
            drop(task);
        });
        context.block_on(async { AsyncNop::new().await }).unwrap();
    }

    fn a_panic_in_both_destructors_reaches_the_awaiter(builder) {
        struct BadOutput;
        impl Drop for BadOutput {
            fn drop(&mut self) {
                panic!("output");
            }
        }
        struct BadFuture;
        impl Future for BadFuture {
            type Output = BadOutput;
            fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<BadOutput> {
                Poll::Ready(BadOutput)
            }
        }
        impl Drop for BadFuture {
            fn drop(&mut self) {
                panic!("future");
            }
        }
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let error = spawn(BadFuture).await.err().unwrap();
            assert_eq!(error.to_string(), "the task panicked: future");
            drop(spawn(BadFuture));
            yield_now().await;
            AsyncNop::new().await.unwrap();
        });
    }

    fn a_panic_whose_payload_panics_when_dropped_affects_no_other_task(builder) {
        struct Bad;
        impl Drop for Bad {
            fn drop(&mut self) {
                panic!("payload");
            }
        }
        let mut context = builder.build().unwrap();
        context.block_on(async {
            drop(spawn(async { std::panic::panic_any(Bad) }));
            yield_now().await;
            let error = spawn(async { std::panic::panic_any(Bad) }).await.unwrap_err();
            panics_with("payload", || drop(error));
            AsyncNop::new().await.unwrap();
        });
    }

    fn join_errors_say_what_happened(builder) {
        let mut context = builder.build().unwrap();
        let (cancelled, text, owned, other) = context.block_on(async {
            let cancelled = spawn(std::future::pending::<()>());
            cancelled.cancel();
            let text = spawn(async { panic!("static") });
            let owned = spawn(async { panic!("{}", 1 + 1) });
            let other = spawn(async { std::panic::panic_any(5_u8) });
            fn error<T>(result: Result<T, JoinError>) -> JoinError {
                result.err().unwrap()
            }
            (error(cancelled.await), error(text.await), error(owned.await), error(other.await))
        });
        assert_eq!(cancelled.to_string(), "the task was cancelled");
        assert_eq!(format!("{cancelled:?}"), "the task was cancelled");
        assert_eq!(text.to_string(), "the task panicked: static");
        assert_eq!(owned.to_string(), "the task panicked: 2");
        assert_eq!(other.to_string(), "the task panicked: ?");
        panics_with("static", || text.resume_panic());
        panics_with("cancelled before it had an output", || cancelled.resume_panic());
    }

    fn a_dropped_handle_lets_the_task_run_on(builder) {
        let mut context = builder.build().unwrap();
        let done = Event::default();
        context.block_on(async {
            let signal = done.clone();
            drop(spawn(async move {
                AsyncNop::new().await.unwrap();
                signal.signal();
            }));
            done.wait().await;
        });
    }

    fn an_output_is_dropped_exactly_once(builder) {
        let mut context = builder.build().unwrap();
        let drops = Drops::default();
        let task = |drops: &Drops| {
            let output = drops.one();
            async move { output }
        };
        context.block_on(async {
            drop(spawn(task(&drops)).await.unwrap());
            assert_eq!(drops.count(), 1, "joined");
            drop(spawn(task(&drops)));
            yield_now().await;
            assert_eq!(drops.count(), 2, "detached before its end");
            let late = spawn(task(&drops));
            yield_now().await;
            assert!(late.is_finished());
            assert_eq!(drops.count(), 2);
            drop(late);
            assert_eq!(drops.count(), 3, "detached after its end");
            let cancelled = spawn(task(&drops));
            cancelled.cancel();
            assert!(cancelled.await.is_err());
            assert_eq!(drops.count(), 4, "cancelled before its first poll");
        });
        let kept = context.spawn(task(&drops));
        let ended = context.spawn(task(&drops));
        let sleeping = drops.one();
        let unfinished = context.spawn(async move {
            std::future::pending::<()>().await;
            sleeping
        });
        context.block_on(ended).map(drop).unwrap();
        assert!(unfinished.is_finished() && kept.is_finished());
        assert_eq!(drops.count(), 6, "one taken, one cancelled");
        drop(context);
        assert_eq!(drops.count(), 6, "the kept one lives with its handle");
        drop(kept);
        assert_eq!(drops.count(), 7);
    }

    fn a_future_is_gone_before_its_output_is_seen(builder) {
        let mut context = builder.build().unwrap();
        let order = Rc::new(RefCell::new(Vec::new()));
        let note = |text: &'static str| {
            let order = order.clone();
            OnDrop(move || order.borrow_mut().push(text))
        };
        context.block_on(async {
            let (first, second) = (note("first local"), note("second local"));
            let output = note("output");
            let task = spawn(async move {
                let _first = first;
                let _second = second;
                yield_now().await;
                output
            });
            let output = task.await.unwrap();
            drop(note("seen"));
            drop(output);
        });
        assert_eq!(*order.borrow(), ["second local", "first local", "seen", "output"]);
    }

    fn yielding_takes_turns(builder) {
        let mut context = builder.build().unwrap();
        let order = Rc::new(RefCell::new(Vec::new()));
        context.block_on(async {
            let tasks = (0..3).map(|task| {
                let order = order.clone();
                spawn(async move {
                    for round in 0..3 {
                        order.borrow_mut().push((round, task));
                        yield_now().await;
                    }
                })
            });
            for result in join_all(tasks).await {
                result.unwrap();
            }
        });
        let expected: Vec<_> = (0..3).flat_map(|round| (0..3).map(move |t| (round, t))).collect();
        assert_eq!(*order.borrow(), expected);
    }

    fn a_task_that_always_yields_starves_neither_io_nor_timers(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let busy = spawn(async {
                loop {
                    yield_now().await;
                }
            });
            let (a, b) = local_pair().unwrap();
            let echo = spawn(async move {
                let (result, buf) = b.recv_exact([0; 2]).await;
                result.unwrap();
                b.send_all(buf).await.0.unwrap();
            });
            corio::sleep(SHORT).await;
            a.send_all("hi").await.0.unwrap();
            let (result, buf) = a.recv_exact([0; 2]).await;
            result.unwrap();
            assert_eq!(&buf, b"hi");
            echo.await.unwrap();
            busy.cancel();
            assert!(busy.await.unwrap_err().is_cancelled());
        });
    }

    fn a_task_whose_reads_never_wait_leaves_others_their_turn(builder) {
        let mut context = builder.build().unwrap();
        let file = corio::fs::File::from(std::fs::File::open("Cargo.toml").unwrap());
        context.block_on(async {
            let rounds = Rc::new(Cell::new(0));
            let seen = rounds.clone();
            let busy = spawn(async move {
                let mut buf = vec![0; 16];
                for _ in 0..100_000 {
                    let result;
                    (result, buf) = file.read_at(buf, 0).await;
                    assert_eq!(result.unwrap(), 16);
                    if seen.get() == 3 {
                        return true;
                    }
                }
                false
            });
            for _ in 0..3 {
                yield_now().await;
                rounds.set(rounds.get() + 1);
            }
            assert!(busy.await.unwrap(), "it has read all the time");
        });
    }

    /// An executor within a task polls for as long as it is woken, and never yields.
    fn polling_in_a_loop_within_a_task_makes_progress(builder) {
        let mut context = builder.build().unwrap();
        let file = corio::fs::File::from(std::fs::File::open("Cargo.toml").unwrap());
        context.block_on(async {
            let reads = async {
                for _ in 0..1000 {
                    assert_eq!(file.read_at(vec![0; 16], 0).await.0.unwrap(), 16);
                }
            };
            let mut reads = pin!(reads);
            std::future::poll_fn(|cx| {
                for _ in 0..100_000 {
                    if reads.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(());
                    }
                }
                // Where reads go to another thread, this has to wait.
                Poll::Pending
            })
            .await;
        });
    }

    fn a_connection_with_much_waiting_leaves_others_their_turn(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let a = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let a = corio::net::TcpStream::from(a);
            let b = corio::net::TcpStream::from(listener.accept().unwrap().0);
            // Fills the sockets' buffers, before anything is received.
            a.send_all(vec![7; 32 << 10]).await.0.unwrap();
            let rounds = Rc::new(Cell::new(0));
            let seen = rounds.clone();
            let busy = spawn(async move {
                let mut buf = vec![0; 4];
                for _ in 0..(32 << 10) / 4 {
                    let result;
                    (result, buf) = b.recv(buf).await;
                    assert!(result.unwrap() > 0);
                    if seen.get() == 3 {
                        return true;
                    }
                }
                false
            });
            for _ in 0..3 {
                yield_now().await;
                rounds.set(rounds.get() + 1);
            }
            assert!(busy.await.unwrap(), "it has received all the time");
        });
    }

    fn the_task_budget_bounds_a_turn(builder) {
        let mut context = builder.task_budget(4).build().unwrap();
        for _ in 0..100 {
            drop(context.spawn(async {
                for _ in 0..10 {
                    yield_now().await;
                }
            }));
        }
        context.poll_once(Some(std::time::Duration::ZERO)).unwrap();
        let polls = context.stats().polls;
        assert!(polls <= 8, "{polls} polls before and after one look at the ring");
        context.block_on(async {
            while corio::stats().polls < 1100 {
                yield_now().await;
            }
        });
        let stats = context.stats();
        assert!(stats.polls <= 4 * (stats.turns + 2), "{stats}");
    }

    fn thousands_of_tasks_all_get_their_turn(builder) {
        const TASKS: u64 = many(10_000);
        let mut context = builder.build().unwrap();
        let count = Rc::new(Cell::new(0));
        context.block_on(async {
            let tasks: Vec<_> = (0..TASKS)
                .map(|_| {
                    let count = count.clone();
                    spawn(async move {
                        AsyncNop::new().await.unwrap();
                        count.set(count.get() + 1);
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        });
        assert_eq!(count.get(), TASKS);
    }

    fn task_locals_follow_their_task(builder) {
        corio::task_local! {
            static NAME: String;
            static DEPTH: u32;
        }
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let tasks = (0..50_u32).map(|n| {
                spawn(NAME.scope(format!("task {n}"), async move {
                    for _ in 0..3 {
                        assert_eq!(NAME.get(), format!("task {n}"));
                        DEPTH
                            .scope(n, async {
                                yield_now().await;
                                assert_eq!(DEPTH.get(), n);
                                let inner = DEPTH.scope(n + 1, async {
                                    AsyncNop::new().await.unwrap();
                                    DEPTH.get()
                                });
                                assert_eq!(inner.await, n + 1);
                                assert_eq!(DEPTH.get(), n);
                            })
                            .await;
                        assert!(DEPTH.try_with(|_| ()).is_none());
                    }
                    let heir = spawn(NAME.inherit(async { NAME.get() })).await.unwrap();
                    let stranger = spawn(async { NAME.try_with(String::clone) }).await.unwrap();
                    (heir, stranger)
                }))
            });
            for (n, result) in join_all(tasks).await.into_iter().enumerate() {
                assert_eq!(result.unwrap(), (format!("task {n}"), None));
            }
            panics_with("this task-local has no value here", || drop(NAME.get()));
            // A panic puts the values back.
            let bad = spawn(DEPTH.scope(1, async { panic!("with a value") }));
            assert!(bad.await.unwrap_err().is_panic());
            assert!(DEPTH.try_with(|_| ()).is_none());
        });
    }

    fn join_all_keeps_the_order(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let outputs = join_all((0..20).map(|n| async move {
                for _ in 0..(20 - n) {
                    yield_now().await;
                }
                n
            }))
            .await;
            assert_eq!(outputs, (0..20).collect::<Vec<_>>());
            assert!(join_all(Vec::<std::future::Ready<()>>::new()).await.is_empty());
        });
    }

    fn a_task_that_awaits_itself_ends_with_its_context(builder) {
        let context = builder.build().unwrap();
        let drops = Drops::default();
        let slot = Rc::new(RefCell::new(None));
        let (own, counted) = (slot.clone(), drops.one());
        let task = context.spawn(async move {
            let handle: corio::JoinHandle<()> = own.borrow_mut().take().unwrap();
            let result = pin!(handle).await;
            drop((result, counted));
        });
        *slot.borrow_mut() = Some(task);
        let mut context = context;
        context.poll_once(Some(SHORT)).unwrap();
        assert_eq!(drops.count(), 0);
        drop(context);
        assert_eq!(drops.count(), 1);
    }
}
