//! Stall reports, and adaptive busy-polling before the loop blocks.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use corio::sync::mpsc::channel;
use corio::{sleep, spawn, timeout, yield_now};

use crate::harness::{Elsewhere, LONG};

every_driver! {
    fn a_stall_report_names_the_task_that_holds_its_thread(builder) {
        let (tell, told) = mpsc::channel();
        let builder = builder.watch_stalls(Duration::from_millis(10), move |stall| {
            tell.send(stall.clone()).unwrap();
        });
        let mut context = builder.build().unwrap();
        let stall = context.block_on(async {
            // Tasks that wait or return soon do not hold the thread.
            for _ in 0..3 {
                sleep(Duration::from_millis(15)).await;
                yield_now().await;
            }
            let line = line!() + 1;
            let task = spawn(async move {
                let stall = told.recv_timeout(Duration::from_secs(60)).expect("a report");
                // One report per poll, and none for the poll before.
                assert!(told.recv_timeout(Duration::from_millis(30)).is_err());
                (stall, line)
            });
            task.await.unwrap()
        });
        let (stall, line) = stall;
        assert_eq!((stall.task.file(), stall.task.line()), (file!(), line));
        assert!(stall.lasted >= Duration::from_millis(10));
        assert_eq!(stall.thread.as_deref(), std::thread::current().name());
        let text = stall.to_string();
        assert!(text.contains("health.rs") && text.contains("corio::spawn_blocking"), "{text}");
    }

    fn a_context_that_busy_polls_misses_no_wake(builder) {
        for limit in [Duration::from_micros(1), Duration::from_micros(200), Duration::MAX] {
            let busy = builder.clone().busy_poll(limit);
            let there = Elsewhere::new(&busy);
            let (to, mut from) = channel(1);
            let (back, mut answers) = channel(1);
            drop(there.handle.spawn(move || async move {
                while let Some(value) = from.recv().await {
                    back.send(value).await.unwrap();
                }
            }));
            let mut context = busy.build().unwrap();
            context.block_on(async {
                for value in 0..500 {
                    to.send(value).await.unwrap();
                    let answer = timeout(LONG, answers.recv()).await.unwrap();
                    assert_eq!(answer, Some(value));
                }
                // A timer that is due ends busy-polling.
                let began = Instant::now();
                sleep(Duration::from_millis(3)).await;
                assert!(began.elapsed() >= Duration::from_millis(3));
            });
            if limit < LONG {
                // So does the caller's limit.
                assert_eq!(context.poll_once(Some(Duration::from_millis(1))).unwrap(), 0);
            }
        }
    }
}
