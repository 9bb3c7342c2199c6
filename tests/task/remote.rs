//! Tasks on other contexts.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use corio::{Handle, RemoteTask, sleep, timeout};

use crate::harness::{Elsewhere, LONG, eventually, many};

/// Sets a flag when dropped.
struct Gone(Arc<AtomicBool>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

every_driver! {
    fn the_output_comes_back(builder) {
        let there = Elsewhere::new(&builder);
        let id = there.handle.spawn(|| async { std::thread::current().id() });
        assert_ne!(id.join().unwrap(), std::thread::current().id());
        let mut context = builder.build().unwrap();
        let tasks: Vec<_> = (0..many(1000))
            .map(|n| {
                there.handle.spawn(move || async move {
                    // A value that is not `Send` stays on the other thread.
                    let local = Rc::new(RefCell::new(n));
                    sleep(Duration::from_micros(n % 100)).await;
                    *local.borrow_mut() += 1;
                    *local.borrow()
                })
            })
            .collect();
        context.block_on(async {
            for (n, task) in tasks.into_iter().enumerate() {
                assert_eq!(task.await.unwrap(), n as u64 + 1);
            }
        });
    }

    fn a_context_can_spawn_on_itself_through_its_handle(builder) {
        let mut context = builder.build().unwrap();
        let handle = context.handle();
        let early = handle.spawn(|| async { 1 });
        let sum = context.block_on(async move {
            early.await.unwrap() + corio::handle().spawn(|| async { 2 }).await.unwrap()
        });
        assert_eq!(sum, 3);
    }

    fn a_panic_reaches_the_awaiting_context(builder) {
        let there = Elsewhere::new(&builder);
        let task: RemoteTask<()> = there.handle.spawn(|| async { panic!("oh dear") });
        let error = task.join().unwrap_err();
        assert!(error.is_panic());
        assert!(error.to_string().contains("oh dear"), "{error}");
        let task: RemoteTask<()> = there.handle.spawn(|| {
            if true {
                panic!("even earlier");
            }
            async {}
        });
        assert!(task.join().unwrap_err().to_string().contains("even earlier"));
        assert_eq!(there.handle.spawn(|| async { 1 }).join().unwrap(), 1, "all goes on");
    }

    fn a_remote_task_can_be_cancelled(builder) {
        let there = Elsewhere::new(&builder);
        let gone = Arc::new(AtomicBool::new(false));
        let guard = Gone(gone.clone());
        let started = Arc::new(AtomicBool::new(false));
        let starts = started.clone();
        let task = there.handle.spawn(move || async move {
            let _guard = guard;
            starts.store(true, Ordering::SeqCst);
            sleep(LONG).await;
        });
        eventually("started", || started.load(Ordering::SeqCst));
        assert!(!task.is_finished());
        task.cancel();
        assert!(task.join().unwrap_err().is_cancelled());
        assert!(gone.load(Ordering::SeqCst));
        // At once, perhaps before it starts.
        let task = there.handle.spawn(|| async { sleep(LONG).await });
        task.cancel();
        assert!(task.join().unwrap_err().is_cancelled());
    }

    fn a_cancelled_remote_task_may_still_return_its_output(builder) {
        let there = Elsewhere::new(&builder);
        let (tell, told) = corio::sync::oneshot::channel();
        let task = there.handle.spawn(|| async move {
            tell.send(()).unwrap();
            let (a, _b) = std::net::TcpListener::bind("127.0.0.1:0")
                .map(|listener| (corio::net::TcpListener::from(listener), ()))
                .unwrap();
            a.accept().await.unwrap_err().kind()
        });
        told.recv_blocking().unwrap();
        std::thread::sleep(Duration::from_millis(5));
        task.cancel();
        // The task's operation had ended, and the task had an output, which is not lost.
        match task.join() {
            Ok(_) => {}
            Err(error) => assert!(error.is_cancelled()),
        }
    }

    fn a_remote_task_runs_on_when_its_handle_is_dropped(builder) {
        let there = Elsewhere::new(&builder);
        let (tell, told) = corio::sync::oneshot::channel();
        drop(there.handle.spawn(|| async move {
            sleep(Duration::from_millis(1)).await;
            tell.send(5).unwrap();
        }));
        assert_eq!(told.recv_blocking(), Ok(5));
    }

    fn a_context_that_ends_cancels_its_remote_tasks(builder) {
        let gone = Arc::new(AtomicBool::new(false));
        let handle: Handle;
        let (never_started, started);
        {
            let mut context = builder.build().unwrap();
            handle = context.handle();
            let guard = Gone(gone.clone());
            started = handle.spawn(move || async move {
                let _guard = guard;
                sleep(LONG).await;
            });
            context.poll_once(Some(Duration::ZERO)).unwrap();
            context.poll_once(Some(Duration::ZERO)).unwrap();
            never_started = handle.spawn(|| async {});
        }
        assert!(gone.load(Ordering::SeqCst));
        assert!(started.join().unwrap_err().is_cancelled());
        assert!(never_started.join().unwrap_err().is_cancelled());
        assert!(handle.spawn(|| async {}).join().unwrap_err().is_cancelled());
        assert!(!handle.is_running());
    }

    fn contexts_can_spawn_on_each_other(builder) {
        const ROUNDS: u64 = many(2000);
        let (a, b) = (Elsewhere::new(&builder), Elsewhere::new(&builder));
        let (to_b, to_a) = (b.handle.clone(), a.handle.clone());
        let task = a.handle.spawn(move || async move {
            let mut sum = 0;
            for n in 0..ROUNDS {
                let back = to_a.clone();
                let there_and_back =
                    move || async move { back.spawn(move || async move { n }).await.unwrap() };
                sum += to_b.spawn(there_and_back).await.unwrap();
            }
            sum
        });
        let mut context = builder.build().unwrap();
        let sum = context.block_on(timeout(LONG, task)).unwrap().unwrap();
        assert_eq!(sum, (ROUNDS - 1) * ROUNDS / 2);
    }
}
