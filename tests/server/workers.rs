//! Workers: started together, stopped at every stage, panics by policy.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use corio::server::{OnPanic, Phase, StartError, Workers, cpus};
use corio::sleep;

use crate::harness::two;

every_driver! {
    fn each_worker_has_its_own_thread_name_and_processor(builder) {
        let workers = Workers::builder()
            .count(3)
            .name("names")
            .context(builder)
            .start(|worker| async move {
                assert_eq!(worker.count(), 3);
                let name = std::thread::current().name().unwrap().to_owned();
                (worker.index(), name, worker.cpu())
            })
            .unwrap();
        let pinned = cpus().len() >= 3;
        for (index, result) in workers.join().into_iter().enumerate() {
            let (number, name, cpu) = result.unwrap();
            assert_eq!((number, name), (index, format!("names-{index}")));
            assert_eq!(cpu, pinned.then(|| cpus()[index].id));
        }
    }

    fn workers_reach_each_other_from_the_start(builder) {
        let workers = two(&builder).start(|worker| async move {
            let other = &worker.handles()[1 - worker.index()];
            let answer = other.spawn(|| async { 7 }).await;
            // The other may have ended, and cancelled the task.
            let answer = answer.unwrap_or(7);
            worker.stop_all();
            worker.stopping().await;
            answer
        });
        let results = workers.unwrap().join();
        assert_eq!(results.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [7, 7]);
    }

    fn workers_can_be_stopped_at_once(builder) {
        for _ in 0..20 {
            let workers = two(&builder)
                .start(|worker| async move { worker.stopping().await })
                .unwrap();
            workers.stop();
            assert!(workers.join().into_iter().all(|result| result.is_ok()));
            // Dropped without a request to stop.
            drop(two(&builder).start(|worker| async move { worker.stopping().await }).unwrap());
        }
    }

    fn a_stop_has_phases(builder) {
        let workers = two(&builder)
            .start(|worker| async move {
                let mut phase = worker.phase();
                worker.stopping().await;
                phase.wait_for(|&phase| phase == Phase::Forced).await.unwrap();
                phase.get()
            })
            .unwrap();
        let stopper = workers.stopper();
        stopper.stop();
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(workers.remaining(), 2);
        stopper.abort();
        stopper.stop(); // the phase never goes back
        for result in workers.join() {
            assert_eq!(result.unwrap(), Phase::Forced);
        }
    }

    fn a_panic_stops_all(builder) {
        let workers = two(&builder)
            .start(|worker| async move {
                if worker.index() == 1 {
                    sleep(Duration::from_millis(1)).await;
                    panic!("worker trouble");
                }
                worker.stopping().await;
                5
            })
            .unwrap();
        let mut results = workers.join().into_iter();
        assert_eq!(results.next().unwrap().unwrap(), 5);
        assert!(results.next().unwrap().unwrap_err().to_string().contains("worker trouble"));
    }

    fn a_panic_can_be_ignored(builder) {
        let workers = two(&builder)
            .on_panic(OnPanic::Ignore)
            .start(|worker| async move {
                assert!(worker.index() == 0, "worker trouble");
                worker.stopping().await;
            })
            .unwrap();
        while workers.remaining() == 2 {
            std::thread::yield_now();
        }
        assert_eq!(workers.remaining(), 1);
        workers.stop();
        assert_eq!(workers.join().into_iter().filter(Result::is_ok).count(), 1);
    }

    fn a_panic_can_restart_the_worker(builder) {
        let starts = Arc::new(AtomicUsize::new(0));
        let counts = starts.clone();
        let workers = two(&builder)
            .on_panic(OnPanic::Restart(3))
            .start(move |worker| {
                let nth = match worker.index() {
                    0 => 0,
                    _ => counts.fetch_add(1, Ordering::SeqCst),
                };
                // Panics once before it returns a future, and once within the future.
                assert_ne!(nth, 1);
                async move {
                    assert_ne!((worker.index(), nth), (1, 0));
                    if nth >= 2 {
                        worker.stop_all();
                    }
                    worker.stopping().await;
                }
            })
            .unwrap();
        assert!(workers.join().into_iter().all(|result| result.is_ok()));
        assert_eq!(starts.load(Ordering::SeqCst), 3);
        // The program is not restarted more often than allowed.
        let workers = two(&builder)
            .on_panic(OnPanic::Restart(3))
            .start(move |_| async move { panic!("always") })
            .unwrap();
        assert!(workers.join().into_iter().all(|result: Result<(), _>| result.is_err()));
    }

    fn a_context_that_cannot_be_built_is_reported(builder) {
        let impossible = builder.entries(1 << 30);
        let error = two(&impossible).start(|_| async {}).unwrap_err();
        match &error {
            StartError::Context { index: 0 | 1, .. } => {}
            other => panic!("{other}"),
        }
        assert!(error.to_string().starts_with("no context for worker"), "{error}");
    }

    fn workers_can_be_started_from_within_a_context(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let workers = two(&builder).start(|worker| async move { worker.index() }).unwrap();
            assert_eq!(workers.join().len(), 2);
        });
    }
}
