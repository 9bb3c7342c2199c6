//! Work on a pool of threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use corio::blocking::{BlockingError, BlockingPool};
use corio::{join_all, spawn, spawn_blocking, timeout, yield_now};

use crate::harness::{LONG, eventually};

/// A gate at which work waits until it is opened.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn pass(&self) {
        let open = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(open, |open| !*open).unwrap());
    }

    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}

/// Counts how often it was dropped.
#[derive(Clone, Default)]
struct Drops(Arc<AtomicUsize>);

impl Drops {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    fn one(&self) -> Counted {
        Counted(self.0.clone())
    }
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

every_driver! {
    fn results_come_back(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let here = std::thread::current().id();
            assert_ne!(spawn_blocking(|| std::thread::current().id()).await.unwrap(), here);
            let jobs = (0..2000_u64).map(|n| spawn_blocking(move || n * n));
            let sum: u64 = join_all(jobs).await.into_iter().map(Result::unwrap).sum();
            assert_eq!(sum, (0..2000).map(|n| n * n).sum());
        });
    }

    fn a_panic_of_the_work_reaches_the_awaiting_task(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let error = spawn_blocking(|| panic!("in the pool")).await.unwrap_err();
            assert!(error.to_string().contains("in the pool"), "{error}");
            assert!(matches!(error, BlockingError::Panicked(_)));
            assert_eq!(spawn_blocking(|| 1).await.unwrap(), 1);
        });
    }

    fn a_full_queue_makes_callers_wait_in_order(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let pool = Arc::new(BlockingPool::builder().threads(1).queue(2).build());
            let gate = Gate::default();
            let log = Arc::new(Mutex::new(Vec::new()));
            let tasks: Vec<_> = (0..20)
                .map(|n| {
                    let (pool, gate, log) = (pool.clone(), gate.clone(), log.clone());
                    spawn(async move {
                        let work = move || {
                            gate.pass();
                            log.lock().unwrap().push(n);
                        };
                        pool.run(work).await
                    })
                })
                .collect();
            yield_now().await;
            assert!(pool.queued() <= 2);
            assert_eq!(pool.threads(), 1);
            gate.open();
            for task in tasks {
                timeout(LONG, task).await.unwrap().unwrap().unwrap();
            }
            assert_eq!(*log.lock().unwrap(), (0..20).collect::<Vec<_>>());
        });
    }

    fn work_that_has_not_started_can_be_cancelled(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let pool = Arc::new(BlockingPool::builder().threads(1).queue(1).build());
            let gate = Gate::default();
            let (drops, ran) = (Drops::default(), Drops::default());
            let start = |gate: &Gate| {
                let (pool, gate) = (pool.clone(), gate.clone());
                let (guard, ran) = (drops.one(), ran.clone());
                spawn(async move {
                    let work = move || {
                        let _guard = guard;
                        gate.pass();
                        drop(ran.one());
                    };
                    pool.run(work).await
                })
            };
            // One job runs, one is queued, two callers wait for room.
            let running = start(&gate);
            yield_now().await;
            eventually("it runs", || pool.queued() == 0);
            let queued = start(&gate);
            let waiting = [start(&gate), start(&gate)];
            yield_now().await;
            assert_eq!(pool.queued(), 1);
            queued.cancel();
            assert!(queued.await.unwrap_err().is_cancelled());
            assert_eq!(drops.count(), 1, "dropped there and then");
            let [first, second] = waiting;
            first.cancel();
            let _ = first.await;
            running.cancel();
            let _ = running.await;
            gate.open();
            timeout(LONG, second).await.unwrap().unwrap().unwrap();
            eventually("all are dropped", || drops.count() == 4);
            assert_eq!(ran.count(), 2, "what ran went on");
        });
    }

    fn a_shutdown_ends_every_wait(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let pool = Arc::new(BlockingPool::builder().threads(1).queue(2).build());
            let (gate, began) = (Gate::default(), Arc::new(AtomicBool::new(false)));
            let tasks: Vec<_> = (0..6)
                .map(|n| {
                    let (pool, gate, began) = (pool.clone(), gate.clone(), began.clone());
                    spawn(async move {
                        pool.run(move || {
                            began.store(true, Ordering::SeqCst);
                            gate.pass();
                            n
                        })
                        .await
                    })
                })
                .collect();
            yield_now().await;
            eventually("the first runs", || began.load(Ordering::SeqCst));
            let stops = pool.clone();
            let stopping = std::thread::spawn(move || stops.shutdown());
            eventually("the queue is given up", || pool.queued() == 0);
            gate.open();
            for (n, task) in tasks.into_iter().enumerate() {
                match timeout(LONG, task).await.unwrap().unwrap() {
                    Ok(result) => assert_eq!((result, n), (0, 0)),
                    Err(BlockingError::Closed) => assert!(n > 0),
                    Err(other) => panic!("{other}"),
                }
            }
            stopping.join().unwrap();
            assert_eq!(pool.threads(), 0);
            assert!(matches!(pool.run(|| ()).await, Err(BlockingError::Closed)));
        });
    }

    fn every_shutdown_waits_for_the_work(_builder) {
        let pool = Arc::new(BlockingPool::builder().threads(1).build());
        let (gate, over) = (Gate::default(), Arc::new(AtomicBool::new(false)));
        let (began_sender, began) = std::sync::mpsc::channel();
        let (work, ends) = (gate.clone(), over.clone());
        let owner = pool.clone();
        let job = std::thread::spawn(move || {
            let result = owner.run(move || {
                began_sender.send(()).unwrap();
                work.pass();
                ends.store(true, Ordering::SeqCst);
            });
            result.join()
        });
        began.recv_timeout(LONG).unwrap();
        let (early_sender, early) = std::sync::mpsc::channel();
        let stops: Vec<_> = (0..2)
            .map(|_| {
                let (pool, over, early) = (pool.clone(), over.clone(), early_sender.clone());
                std::thread::spawn(move || {
                    pool.shutdown();
                    early.send(over.load(Ordering::SeqCst)).unwrap();
                })
            })
            .collect();
        // A shutdown that does not wait would return within this time.
        let hasty = early.recv_timeout(Duration::from_millis(200));
        gate.open();
        assert!(hasty.is_err(), "a shutdown returned while the work ran");
        for stop in stops {
            stop.join().unwrap();
            assert!(early.recv_timeout(LONG).unwrap());
        }
        job.join().unwrap().unwrap();
    }

    fn work_that_shuts_its_pool_down_is_waited_for_by_the_next(_builder) {
        let pool = Arc::new(BlockingPool::builder().threads(1).build());
        let (gate, over) = (Gate::default(), Arc::new(AtomicBool::new(false)));
        let (stopped_sender, stopped) = std::sync::mpsc::channel();
        let (work, ends, own) = (gate.clone(), over.clone(), Arc::downgrade(&pool));
        let owner = pool.clone();
        let job = std::thread::spawn(move || {
            let result = owner.run(move || {
                own.upgrade().unwrap().shutdown();
                stopped_sender.send(()).unwrap();
                work.pass();
                ends.store(true, Ordering::SeqCst);
            });
            result.join()
        });
        stopped.recv_timeout(LONG).unwrap();
        let (early_sender, early) = std::sync::mpsc::channel();
        let (again, seen) = (pool.clone(), over.clone());
        let stop = std::thread::spawn(move || {
            again.shutdown();
            early_sender.send(seen.load(Ordering::SeqCst)).unwrap();
        });
        let hasty = early.recv_timeout(Duration::from_millis(200));
        gate.open();
        assert!(hasty.is_err(), "a shutdown returned while the work ran");
        assert!(early.recv_timeout(LONG).unwrap());
        stop.join().unwrap();
        job.join().unwrap().unwrap();
    }

    fn a_destructor_that_panics_leaves_no_caller_waiting(builder) {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("from a destructor");
            }
        }
        let mut context = builder.build().unwrap();
        context.block_on(async {
            for shut_down in [false, true] {
                let pool = Arc::new(BlockingPool::builder().threads(1).queue(1).build());
                let gate = Gate::default();
                let (work, owner) = (gate.clone(), pool.clone());
                let running = spawn(async move { owner.run(move || work.pass()).await });
                yield_now().await;
                eventually("it runs", || pool.queued() == 0);
                let bomb = Bomb;
                let mut queued = Box::pin(pool.run(move || std::mem::forget(bomb)));
                assert!(futures_util::poll!(queued.as_mut()).is_pending());
                let owner = pool.clone();
                let waiting = spawn(async move { owner.run(|| 7).await });
                yield_now().await;
                let panicked = if shut_down {
                    let (opens, watched) = (gate.clone(), pool.clone());
                    let opener = std::thread::spawn(move || {
                        eventually("the queue is given up", || watched.queued() == 0);
                        opens.open();
                    });
                    let panicked = catch_unwind(AssertUnwindSafe(|| pool.shutdown())).is_err();
                    opener.join().unwrap();
                    panicked
                } else {
                    let panicked = catch_unwind(AssertUnwindSafe(|| drop(queued))).is_err();
                    gate.open();
                    panicked
                };
                assert!(panicked, "the panic is the caller's");
                match timeout(LONG, waiting).await.expect("every wait ends").unwrap() {
                    Ok(result) => assert_eq!(result, 7),
                    Err(error) => assert!(shut_down && matches!(error, BlockingError::Closed)),
                }
                timeout(LONG, running).await.unwrap().unwrap().unwrap();
            }
        });
    }

    fn a_waker_that_panics_ends_no_thread(_builder) {
        struct Fuse;
        impl Wake for Fuse {
            fn wake(self: Arc<Self>) {
                panic!("from a waker");
            }
        }
        let pool = BlockingPool::builder().threads(1).build();
        let gate = Gate::default();
        let work = gate.clone();
        let mut running = Box::pin(pool.run(move || work.pass()));
        let fuse = Waker::from(Arc::new(Fuse));
        assert!(running.as_mut().poll(&mut Context::from_waker(&fuse)).is_pending());
        gate.open();
        assert_eq!(pool.run(|| 7).join().unwrap(), 7);
        assert!(running.as_mut().poll(&mut Context::from_waker(&fuse)).is_ready());
        pool.shutdown();
        assert_eq!(pool.threads(), 0);
    }

    fn ten_thousand_jobs_from_many_threads_all_run(_builder) {
        let pool = BlockingPool::builder().threads(3).queue(8).build();
        let ran = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..10 {
                scope.spawn(|| {
                    for n in 0..1000_u32 {
                        assert_eq!(pool.run(move || n).join().unwrap(), n);
                        ran.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(ran.load(Ordering::SeqCst), 10_000);
        assert!(pool.threads() <= 3);
        pool.shutdown();
        assert_eq!((pool.threads(), pool.queued()), (0, 0));
    }

    fn a_timeout_does_not_wait_for_the_work(builder) {
        let mut context = builder.build().unwrap();
        let gate = Gate::default();
        let (work, over) = (gate.clone(), Arc::new(AtomicBool::new(false)));
        let ends = over.clone();
        let (start, started) = std::sync::mpsc::channel();
        context.block_on(async {
            let work = spawn_blocking(move || {
                start.send(()).expect("the test waits");
                work.pass();
                ends.store(true, Ordering::SeqCst);
            });
            // Work that has not been started ends with its future.
            started.recv().expect("it starts");
            assert!(timeout(Duration::from_millis(1), work).await.is_err());
        });
        gate.open();
        eventually("the work ends by itself", || over.load(Ordering::SeqCst));
    }

    fn idle_threads_end(builder) {
        let pool = BlockingPool::builder().threads(3).idle_time(Duration::from_millis(5)).build();
        let mut context = builder.build().unwrap();
        for _ in 0..3 {
            let jobs = (0..20).map(|_| pool.run(|| std::thread::sleep(Duration::from_micros(100))));
            context.block_on(join_all(jobs));
            assert!(pool.threads() <= 3);
            eventually("they end", || pool.threads() == 0);
        }
        assert_eq!(pool.run(|| 5).join().unwrap(), 5);
    }

    fn work_starts_when_it_is_spawned(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let (tell, started) = std::sync::mpsc::channel();
            let job = spawn_blocking(move || tell.send(()).unwrap());
            // The future is not polled yet, and the loop does not turn.
            started.recv_timeout(LONG).unwrap();
            job.await.unwrap();
        });
    }

    fn work_that_finds_the_queue_full_waits_in_its_future(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let pool = BlockingPool::builder().threads(1).queue(1).build();
            let gate = Gate::default();
            let pass = || {
                let gate = gate.clone();
                move || gate.pass()
            };
            let running = pool.run(pass());
            eventually("a thread has the job", || pool.queued() == 0);
            let (queued, late) = (pool.run(pass()), pool.run(|| 7));
            assert_eq!(pool.queued(), 1);
            gate.open();
            running.await.unwrap();
            queued.await.unwrap();
            // There is room since, but the future has not been polled.
            assert_eq!(late.await.unwrap(), 7);
            let drops = Drops::default();
            let guard = drops.one();
            pool.shutdown();
            let refused = pool.run(move || drop(guard));
            assert_eq!(drops.count(), 1, "refused work is dropped at the call");
            assert!(matches!(refused.await, Err(BlockingError::Closed)));
        });
    }

    fn queued_work_that_is_dropped_unpolled_never_runs(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let pool = BlockingPool::builder().threads(1).idle_time(Duration::MAX).build();
            let (gate, drops) = (Gate::default(), Drops::default());
            let running = {
                let gate = gate.clone();
                pool.run(move || gate.pass())
            };
            eventually("a thread has the job", || pool.queued() == 0);
            let guard = drops.one();
            let unwanted = pool.run(move || {
                let _guard = guard;
                panic!("taken back before");
            });
            drop(unwanted);
            assert_eq!((drops.count(), pool.queued()), (1, 0));
            gate.open();
            running.await.unwrap();
        });
    }
}

/// After a burst, a light load needs one thread; if it went to all in turn, none would be idle for
/// long enough.
#[test]
fn a_light_load_keeps_one_thread() {
    let pool = BlockingPool::builder().threads(8).idle_time(Duration::from_millis(500)).build();
    let barrier = std::sync::Arc::new(std::sync::Barrier::new(8));
    let burst: Vec<_> = (0..8)
        .map(|_| {
            let barrier = barrier.clone();
            pool.run(move || barrier.wait().is_leader())
        })
        .collect();
    for work in burst {
        work.join().unwrap();
    }
    assert_eq!(pool.threads(), 8);
    let start = std::time::Instant::now();
    while pool.threads() > 1 {
        pool.run(|| ()).join().unwrap();
        std::thread::sleep(Duration::from_millis(5));
        let elapsed = start.elapsed();
        assert!(elapsed < Duration::from_secs(60), "{} threads remain", pool.threads());
    }
}
