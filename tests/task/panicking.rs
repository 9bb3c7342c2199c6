//! Foreign wakers that panic: nothing leaks, and no state is half changed.

use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use corio::{sleep, spawn, timeout};

use crate::harness::{alone, local_pair, open_fds, poll_now};

/// Panics when it is woken.
struct PanicsOnWake;

impl Wake for PanicsOnWake {
    fn wake(self: Arc<Self>) {
        panic!("in a foreign waker");
    }
}

/// Panics when it is dropped.
struct PanicsOnDrop;

impl Wake for PanicsOnDrop {
    fn wake(self: Arc<Self>) {}
}

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        panic!("in a foreign waker's destructor");
    }
}

/// Whether `f` panics.
fn panics(f: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(f)).is_err()
}

every_driver! {
    /// The task's cell was never freed, nor the event counter that wakes its context.
    fn a_task_whose_joiner_panics_is_freed(builder) {
        alone(|| {
            let before = open_fds();
            let mut context = builder.build().unwrap();
            let (sender, receiver) = mpsc::channel::<Waker>();
            let mut task = context.spawn(std::future::poll_fn(move |cx| {
                sender.send(cx.waker().clone()).unwrap();
                Poll::Ready(5)
            }));
            let waker = Waker::from(Arc::new(PanicsOnWake));
            assert!(Pin::new(&mut task).poll(&mut Context::from_waker(&waker)).is_pending());
            assert!(panics(|| drop(context.poll_once(Some(Duration::ZERO)))));
            let Poll::Ready(output) = Pin::new(&mut task).poll(&mut Context::from_waker(&waker))
            else {
                panic!("the task is not done");
            };
            assert_eq!(output.unwrap(), 5);
            drop((task, context));
            // The last reference to the task.
            drop(receiver.recv().unwrap());
            assert_eq!(open_fds(), before);
        });
    }

    /// A stall of the task was reported although the loop had been left.
    fn a_task_whose_joiner_panics_is_not_reported_as_a_stall(builder) {
        const THRESHOLD: Duration = Duration::from_millis(100);
        for _ in 0..10 {
            let (tell, told) = mpsc::channel();
            let builder = builder.clone().watch_stalls(THRESHOLD, move |stall| {
                tell.send(stall.clone()).unwrap();
            });
            let mut context = builder.build().unwrap();
            let mut task = context.spawn(async {});
            let waker = Waker::from(Arc::new(PanicsOnWake));
            assert!(Pin::new(&mut task).poll(&mut Context::from_waker(&waker)).is_pending());
            let began = Instant::now();
            assert!(panics(|| drop(context.poll_once(Some(Duration::ZERO)))));
            // On a machine that is busy, the panic itself may take that long.
            if began.elapsed() < THRESHOLD / 2 {
                let stall = told.recv_timeout(3 * THRESHOLD);
                return assert!(stall.is_err(), "nothing is polled");
            }
        }
        panic!("each panic takes very long");
    }

    /// The scope's memory was freed while the tree still referred to it.
    fn a_scope_whose_waiter_panics_is_unlinked(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let (a, _end) = local_pair().unwrap();
            let mut limited = Box::pin(timeout(Duration::from_millis(1), async move {
                let mut received = Box::pin(a.recv(vec![0; 64]));
                assert!(poll_now(&mut received).await.is_pending());
                // The leaked operation stays in the scope until the scope ends.
                std::mem::forget(received);
                pending::<()>().await;
            }));
            assert!(poll_now(&mut limited).await.is_pending());
            sleep(Duration::from_millis(5)).await;
            let waker = Waker::from(Arc::new(PanicsOnDrop));
            assert!(limited.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            drop(waker);
            assert!(panics(|| drop(limited)), "it was not the last of the waker");
            for pending in corio::in_flight() {
                assert!(pending.within.is_empty(), "{pending}");
            }
            spawn(async {}).await.unwrap();
        });
    }
}
