//! Jobs shared by workers: an idle one takes the next.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, ThreadId};
use std::time::Duration;

use corio::op::AsyncNop;
use corio::server::{JobError, Jobs, OnPanic, Workers};
use corio::sync::oneshot;
use corio::{Builder, JoinHandle, join_all, sleep, spawn, timeout, yield_now};

use crate::harness::{Elsewhere, LONG, address, eventually, server, two};

fn this_thread() -> ThreadId {
    thread::current().id()
}

/// A context on a thread of its own that serves.
fn serving(builder: &Builder, jobs: &Jobs) -> (Elsewhere, ThreadId) {
    let there = Elsewhere::new(builder);
    let jobs = jobs.clone();
    let id = there.handle.spawn(move || async move {
        // The service runs on detached.
        drop(spawn(async move { jobs.serve().await }));
        yield_now().await;
        this_thread()
    });
    let id = id.join().unwrap();
    (there, id)
}

/// Starts a job that records its number.
fn numbered(jobs: &Jobs, n: usize, began: &Arc<Mutex<Vec<usize>>>) -> JoinHandle<usize> {
    let (jobs, began) = (jobs.clone(), began.clone());
    spawn(async move {
        let job = move || {
            began.lock().unwrap().push(n);
            async move { n }
        };
        jobs.run(job).await.unwrap()
    })
}

/// Starts a job on another context, by blocking this one until it has started.
async fn begun_elsewhere<F>(
    jobs: &Jobs,
    start: fn() -> F,
) -> JoinHandle<Result<F::Output, JobError>>
where
    F: Future + 'static,
    F::Output: Send,
{
    let (tell, told) = mpsc::channel();
    let job = jobs.run(move || {
        tell.send(()).unwrap();
        start()
    });
    let job = spawn(job);
    // The job is queued in its task's first poll; no service of this thread takes it before.
    yield_now().await;
    told.recv().unwrap();
    job
}

/// Sets a flag when dropped.
struct Gone(Arc<AtomicBool>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

every_driver! {
    fn a_worker_blocked_by_a_job_takes_no_more(builder) {
        let jobs = Jobs::new(8);
        let (one, other) = (serving(&builder, &jobs), serving(&builder, &jobs));
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let (release, held) = mpsc::channel::<()>();
            let (tell, told) = oneshot::channel();
            let long = jobs.clone();
            let long = spawn(async move {
                let job = move || async move {
                    tell.send(this_thread()).unwrap();
                    held.recv().unwrap();
                };
                long.run(job).await
            });
            let busy = told.await.unwrap();
            let free = if busy == one.1 { other.1 } else { one.1 };
            let all = (0..500).map(|_| jobs.run(|| async { this_thread() }));
            for id in join_all(all).await {
                assert_eq!(id.unwrap(), free);
            }
            assert!(!long.is_finished());
            release.send(()).unwrap();
            long.await.unwrap().unwrap();
        });
    }

    fn a_worker_blocked_by_something_else_is_skipped(builder) {
        let jobs = Jobs::new(8);
        let (one, other) = (serving(&builder, &jobs), serving(&builder, &jobs));
        let mut context = builder.build().unwrap();
        for (busy, free) in [(&one, &other), (&other, &one)] {
            let (release, held) = mpsc::channel::<()>();
            let (tell, told) = oneshot::channel();
            let long = busy.0.handle.spawn(move || async move {
                tell.send(()).unwrap();
                held.recv().unwrap();
            });
            context.block_on(async {
                told.await.unwrap();
                for _ in 0..200 {
                    assert_eq!(jobs.run(|| async { this_thread() }).await.unwrap(), free.1);
                }
                release.send(()).unwrap();
                long.await.unwrap();
            });
        }
    }

    fn a_job_never_leaves_its_thread(builder) {
        let jobs = Jobs::new(1000);
        let serving = [serving(&builder, &jobs), serving(&builder, &jobs)];
        let mut context = builder.build().unwrap();
        let ids = context.block_on(async {
            let all = (0..400_u64).map(|n| {
                jobs.run(move || async move {
                    // A value that is not `Send` stays on the other thread.
                    let polls = Rc::new(Cell::new(0));
                    let counts = polls.clone();
                    let mut body = pin!(async move {
                        for step in 0..5 {
                            sleep(Duration::from_micros(n * step % 300)).await;
                            AsyncNop::new().await.unwrap();
                            yield_now().await;
                        }
                    });
                    let first = this_thread();
                    poll_fn(|cx| {
                        assert_eq!(this_thread(), first);
                        counts.set(counts.get() + 1);
                        body.as_mut().poll(cx)
                    })
                    .await;
                    assert!(polls.get() > 5);
                    first
                })
            });
            join_all(all).await
        });
        for id in ids {
            let id = id.unwrap();
            assert!(serving.iter().any(|(_, serves)| *serves == id));
        }
    }

    fn at_most_one_job_starts_per_turn(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let jobs = Jobs::new(1000);
            let turns = Arc::new(AtomicUsize::new(0));
            let counts = turns.clone();
            spawn(async move {
                loop {
                    sleep(Duration::ZERO).await;
                    counts.fetch_add(1, Ordering::SeqCst);
                }
            });
            let all = (0..100).map(|_| {
                let turns = turns.clone();
                jobs.run(move || async move { turns.load(Ordering::SeqCst) })
            });
            let all = spawn(join_all(all.collect::<Vec<_>>()));
            let serves = jobs.clone();
            spawn(async move { serves.serve().await });
            let seen: Vec<usize> = all.await.unwrap().into_iter().map(Result::unwrap).collect();
            assert!(seen.windows(2).all(|two| two[0] < two[1]), "{seen:?}");
        });
    }

    fn a_full_queue_makes_callers_wait_in_order(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let jobs = Jobs::new(2);
            let began = Arc::new(Mutex::new(Vec::new()));
            let tasks: Vec<_> = (0..20).map(|n| numbered(&jobs, n, &began)).collect();
            for _ in 0..5 {
                yield_now().await;
            }
            assert_eq!(jobs.queued(), 2);
            assert!(began.lock().unwrap().is_empty(), "no context serves yet");
            let serves = jobs.clone();
            let service = spawn(async move { serves.serve().await });
            for (n, task) in tasks.into_iter().enumerate() {
                assert_eq!(task.await.unwrap(), n);
            }
            assert_eq!(*began.lock().unwrap(), (0..20).collect::<Vec<_>>());
            assert_eq!(jobs.queued(), 0);
            jobs.close();
            service.await.unwrap();
        });
    }

    fn a_job_cancelled_in_the_queue_never_runs(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let jobs = Jobs::new(2);
            let began = Arc::new(Mutex::new(Vec::new()));
            let tasks: Vec<_> = (0..6).map(|n| numbered(&jobs, n, &began)).collect();
            yield_now().await;
            // A job that is queued, a caller that waits for room, and one that was granted room but
            // was not polled since.
            tasks[1].cancel();
            tasks[3].cancel();
            tasks[2].cancel();
            for _ in 0..5 {
                yield_now().await;
            }
            assert_eq!(jobs.queued(), 2, "places went to the next");
            let serves = jobs.clone();
            spawn(async move { serves.serve().await });
            for (n, task) in tasks.into_iter().enumerate() {
                match task.await {
                    Ok(number) => assert_eq!(number, n),
                    Err(error) => assert!(error.is_cancelled() && (1..=3).contains(&n), "{n}"),
                }
            }
            assert_eq!(*began.lock().unwrap(), [0, 4, 5]);
        });
    }

    /// The slot that a job frees goes to the next waiting caller, and to another if that one is
    /// cancelled.
    fn a_slot_of_the_queue_is_never_lost(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            for turns in 0..4 {
                let jobs = Jobs::new(1);
                let began = Arc::new(Mutex::new(Vec::new()));
                let tasks: Vec<_> = (0..3).map(|n| numbered(&jobs, n, &began)).collect();
                yield_now().await;
                tasks[0].cancel();
                for _ in 0..turns {
                    yield_now().await;
                }
                tasks[1].cancel();
                let serves = jobs.clone();
                spawn(async move { serves.serve().await });
                for (n, task) in tasks.into_iter().enumerate() {
                    assert_eq!(task.await.ok(), (n == 2).then_some(2));
                }
            }
        });
    }

    fn a_job_whose_awaiting_task_is_cancelled_is_cancelled(builder) {
        let jobs = Jobs::new(8);
        let _there = serving(&builder, &jobs);
        let mut context = builder.build().unwrap();
        let gone = Arc::new(AtomicBool::new(false));
        context.block_on(async {
            let guard = Gone(gone.clone());
            let (tell, told) = oneshot::channel();
            let run = jobs.clone();
            let task = spawn(async move {
                let job = move || async move {
                    let _guard = guard;
                    tell.send(()).unwrap();
                    sleep(LONG).await;
                };
                run.run(job).await
            });
            told.await.unwrap();
            task.cancel();
            assert!(task.await.unwrap_err().is_cancelled());
        });
        eventually("the job is gone", || gone.load(Ordering::SeqCst));
    }

    fn a_panic_reaches_the_awaiting_task(builder) {
        let jobs = Jobs::new(8);
        let _there = serving(&builder, &jobs);
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let error = jobs.run(|| async { panic!("oh dear") }).await;
            let Err::<(), _>(JobError::Panicked(error)) = error else { panic!("{error:?}") };
            assert!(error.to_string().contains("oh dear"), "{error}");
            let early = || {
                if this_thread() == thread::current().id() {
                    panic!("even earlier");
                }
                async {}
            };
            let error = jobs.run(early).await.unwrap_err();
            assert!(error.to_string().contains("even earlier"), "{error}");
            assert_eq!(jobs.run(|| async { 1 }).await.unwrap(), 1, "all goes on");
        });
    }

    fn a_close_refuses_jobs_that_have_not_started(builder) {
        let jobs = Jobs::new(1);
        let there = Elsewhere::new(&builder);
        let serves = jobs.clone();
        let service = there.handle.spawn(move || async move { serves.serve().await });
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let (release, held) = mpsc::channel::<()>();
            let (tell, told) = oneshot::channel();
            let begun = jobs.run(move || async move {
                tell.send(()).unwrap();
                held.recv().unwrap();
                sleep(Duration::from_millis(1)).await;
                5
            });
            let begun = spawn(begun);
            told.await.unwrap();
            // One in the queue, and some that wait for room.
            let others: Vec<_> = (0..4).map(|_| spawn(jobs.run(|| async {}))).collect();
            yield_now().await;
            assert!(!jobs.is_closed());
            jobs.close();
            assert!(jobs.is_closed());
            for other in others {
                assert!(matches!(other.await.unwrap(), Err(JobError::Closed)));
            }
            assert!(matches!(jobs.run(|| async {}).await, Err(JobError::Closed)));
            assert!(!service.is_finished());
            release.send(()).unwrap();
            assert_eq!(begun.await.unwrap().unwrap(), 5);
            service.await.unwrap();
            // A service that starts now has nothing to do.
            jobs.serve().await;
        });
    }

    fn callers_get_an_error_when_the_last_serving_context_ends(builder) {
        let jobs = Jobs::new(2);
        let mut there = builder.build().unwrap();
        let serves = jobs.clone();
        there.spawn(async move { serves.serve().await });
        let (began, has_begun) = mpsc::channel();
        let run = jobs.clone();
        let awaiting = thread::spawn(move || {
            let mut context = builder.build().unwrap();
            context.block_on(async {
                let begun = run.run(move || async move {
                    began.send(()).unwrap();
                    sleep(LONG).await;
                });
                let begun = spawn(begun);
                let error = begun.await.unwrap().unwrap_err();
                assert!(matches!(error, JobError::Cancelled), "{error}");
                let others = (0..4).map(|_| run.run(|| async {}));
                for other in timeout(LONG, join_all(others)).await.unwrap() {
                    assert!(matches!(other, Err(JobError::Closed)));
                }
            });
        });
        while has_begun.try_recv().is_err() {
            there.poll_once(Some(Duration::from_millis(1))).unwrap();
        }
        drop(there);
        awaiting.join().unwrap();
        assert!(jobs.is_closed());
    }

    fn waiting_callers_get_an_error_when_the_last_service_is_cancelled(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let jobs = Jobs::new(1);
            let serves = jobs.clone();
            let service = spawn(async move { serves.serve().await });
            yield_now().await;
            // The service is woken for the first job, and is cancelled before it is polled.
            let tasks: Vec<_> = (0..3).map(|_| spawn(jobs.run(|| async {}))).collect();
            service.cancel();
            for task in tasks {
                let result = task.await.unwrap();
                assert!(matches!(result, Ok(()) | Err(JobError::Closed)), "{result:?}");
            }
            service.await.unwrap_err();
            assert!(matches!(jobs.run(|| async {}).await, Err(JobError::Closed)));
            // With another service, jobs are accepted again.
            let serves = jobs.clone();
            spawn(async move { serves.serve().await });
            yield_now().await;
            assert_eq!(jobs.run(|| async { 3 }).await.unwrap(), 3);
        });
    }

    fn many_jobs_of_many_contexts_run_once_each(builder) {
        const EACH: usize = 1500;
        let jobs = Jobs::new(16);
        let contexts: Vec<_> = (0..4).map(|_| Elsewhere::new(&builder)).collect();
        let count = Arc::new(AtomicUsize::new(0));
        for context in &contexts[..3] {
            let serves = jobs.clone();
            drop(context.handle.spawn(move || async move { serves.serve().await }));
        }
        // Three contexts submit and serve jobs, and one only submits.
        let bringing: Vec<_> = contexts
            .iter()
            .map(|context| {
                let (jobs, count) = (jobs.clone(), count.clone());
                context.handle.spawn(move || async move {
                    let all = (0..EACH).map(|n| {
                        let count = count.clone();
                        let job = move || async move {
                            if n % 7 == 0 {
                                yield_now().await;
                            }
                            count.fetch_add(1, Ordering::SeqCst);
                            n
                        };
                        jobs.run(job)
                    });
                    join_all(all).await.into_iter().map(Result::unwrap).sum::<usize>()
                })
            })
            .collect();
        for task in bringing {
            assert_eq!(task.join().unwrap(), EACH * (EACH - 1) / 2);
        }
        assert_eq!(count.load(Ordering::SeqCst), 4 * EACH);
        assert_eq!(jobs.queued(), 0);
    }

    fn jobs_may_wait_for_other_jobs(builder) {
        let jobs = Jobs::new(1);
        let _there = serving(&builder, &jobs);
        let mut context = builder.build().unwrap();
        let inner = jobs.clone();
        let job = move || async move {
            let innermost = inner.clone();
            let job = move || async move { innermost.run(|| async { 1 }).await.unwrap() + 1 };
            inner.run(job).await.unwrap() + 1
        };
        assert_eq!(context.block_on(jobs.run(job)).unwrap(), 3);
    }

    fn workers_share_the_jobs(builder) {
        let workers = two(&builder)
            .share_jobs(4)
            .start(|worker| async move {
                let all = (0..200).map(|n| worker.jobs().run(move || async move { n }));
                let sum = join_all(all).await.into_iter().map(Result::unwrap).sum::<i32>();
                // The worker that ends first leaves the rest to the other.
                (worker.index(), sum)
            })
            .unwrap();
        for (index, result) in workers.join().into_iter().enumerate() {
            assert_eq!(result.unwrap(), (index, 199 * 200 / 2));
        }
    }

    fn a_worker_finishes_the_jobs_that_it_started_before_it_ends(builder) {
        let workers = two(&builder).share_jobs(4).start(|worker| async move {
            if worker.index() == 1 {
                return worker.stopping().await;
            }
            let job = begun_elsewhere(worker.jobs(), || async {
                sleep(Duration::from_millis(20)).await;
                this_thread()
            })
            .await;
            // The other's program ends while the job runs there.
            worker.stop_all();
            assert_ne!(job.await.unwrap().unwrap(), this_thread());
        });
        for result in workers.unwrap().join() {
            result.unwrap();
        }
    }

    fn a_worker_does_not_wait_for_jobs_of_its_own_tasks(builder) {
        let workers = Workers::builder().count(1).context(builder).share_jobs(4);
        let workers = workers.start(|worker| async move {
            let (tell, told) = oneshot::channel();
            let job = move || async move {
                tell.send(()).unwrap();
                sleep(LONG).await;
            };
            drop(spawn(worker.jobs().run(job)));
            told.await.unwrap();
        });
        workers.unwrap().join().remove(0).unwrap();
    }

    fn a_forced_stop_does_not_wait_for_jobs(builder) {
        let (tell, told) = mpsc::channel();
        let workers = two(&builder).share_jobs(4).start(move |worker| {
            let tell = tell.clone();
            async move {
                if worker.index() == 1 {
                    return worker.stopping().await;
                }
                let job = begun_elsewhere(worker.jobs(), || sleep(LONG)).await;
                tell.send(()).unwrap();
                let error = job.await.unwrap().unwrap_err();
                assert!(matches!(error, JobError::Cancelled), "{error}");
            }
        });
        let workers = workers.unwrap();
        told.recv().unwrap();
        workers.stop();
        thread::sleep(Duration::from_millis(5));
        assert_eq!(workers.remaining(), 2, "the job goes on");
        workers.abort();
        for result in workers.join() {
            result.unwrap();
        }
    }

    fn a_program_that_starts_again_serves_again(builder) {
        let starts = Arc::new(AtomicUsize::new(0));
        let counts = starts.clone();
        let workers = Workers::builder()
            .count(1)
            .context(builder)
            .on_panic(OnPanic::Restart(1))
            .share_jobs(4)
            .start(move |worker| {
                let first = counts.fetch_add(1, Ordering::SeqCst) == 0;
                async move {
                    let answer = worker.jobs().run(|| async { 8 }).await.unwrap();
                    assert!(!first, "worker trouble");
                    answer
                }
            })
            .unwrap();
        assert_eq!(workers.join().remove(0).unwrap(), 8);
    }

    fn jobs_of_workers_without_share_jobs_panic(builder) {
        let workers = two(&builder)
            .start(|worker| async move {
                worker.jobs().queued();
            })
            .unwrap();
        for result in workers.join() {
            let error = result.unwrap_err().to_string();
            assert!(error.contains("call `share_jobs`"), "{error}");
        }
    }

    /// The jobs of handlers that end while the server stops are still done.
    fn a_server_serves_jobs_until_its_last_connection(builder) {
        use std::io::{Read, Write};
        let server = server(&builder)
            .workers(two(&builder).share_jobs(8))
            .grace_period(LONG)
            .start(|_| (), |stream, ctx| async move {
                let (result, buf) = stream.recv_exact([0; 1]).await;
                result?;
                ctx.stopping().await;
                let answer = ctx.worker().jobs().run(move || async move { [buf[0] + 1] }).await?;
                stream.send_all(answer).await.0
            })
            .unwrap();
        let mut streams: Vec<_> = (0..10_u8)
            .map(|n| {
                let mut stream = std::net::TcpStream::connect(address(&server)).unwrap();
                stream.write_all(&[n]).unwrap();
                stream
            })
            .collect();
        eventually("all are there", || server.totals().active() == 10);
        server.stop();
        for (n, stream) in streams.iter_mut().enumerate() {
            let mut answer = [0];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(answer[0] as usize, n + 1);
        }
        assert_eq!(server.join().finished, 10);
    }
}
