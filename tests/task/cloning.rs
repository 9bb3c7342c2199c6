//! Futures of tasks and operations polled with a waker whose `clone` runs code: it reaps
//! completions, runs the task, or cancels it.

use std::cell::RefCell;
use std::io::Write as _;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use corio::op::AsyncNop;
use corio::{DropPolicy, JoinHandle, sleep, spawn, timeout, yield_now};

use crate::harness::wakers::{HOOKED_CLONES, HOOKED_WAKES, end_by_cloning, hooked};
use crate::harness::{LocalStream, local_pair, poll_now, std_pair};

/// A waker that is only counted.
struct Former;

impl Wake for Former {
    fn wake(self: Arc<Self>) {}
}

every_driver! {
    /// The operation ended within the clone: it dropped its former waker twice, and did not wake
    /// the new one.
    fn a_waker_whose_clone_takes_in_completions_is_woken(builder) {
        let mut context = builder.drop_policy(DropPolicy::CancelAndWait).build().unwrap();
        context.block_on(async {
            let former = Arc::new(Former);
            // Dropped twice, it would still be there to be counted.
            let _spare = [former.clone(), former.clone()];
            let (near, mut far) = std_pair().unwrap();
            let near = LocalStream::from(near);
            let mut future = Box::pin(near.recv(vec![0; 64]));
            let waker = Waker::from(former.clone());
            assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            drop(waker);
            let (a, _end) = local_pair().unwrap();
            let mut other = Box::pin(async move { a.recv(vec![0; 64]).await.0 });
            assert!(poll_now(&mut other).await.is_pending());
            AsyncNop::new().await.unwrap();
            far.write_all(b"hello").unwrap();
            let waker = hooked(|| drop(other));
            let mut cx = Context::from_waker(&waker);
            assert!(future.as_mut().poll(&mut cx).is_pending());
            let mut turns = 0;
            while HOOKED_WAKES.get() == 0 {
                turns += 1;
                assert!(turns < 1000, "no task is woken");
                AsyncNop::new().await.unwrap();
            }
            let Poll::Ready((result, _)) = future.as_mut().poll(&mut cx) else {
                panic!("woken, it has not ended");
            };
            assert_eq!(result.unwrap(), 5);
            yield_now().await;
            AsyncNop::new().await.unwrap();
            assert_eq!(Arc::strong_count(&former), 3);
            drop(waker);
            assert_eq!(HOOKED_CLONES.get(), 0);
        });
    }

    /// The task ended within the clone: the waker stayed in its cell, and leaked without a wake.
    fn a_handle_polled_with_a_waker_whose_clone_runs_the_task(builder) {
        let context = Rc::new(RefCell::new(builder.build().unwrap()));
        let mut task = context.borrow().spawn(async { 5 });
        let inner = context.clone();
        let waker = hooked(move || {
            inner.borrow_mut().poll_once(Some(Duration::ZERO)).unwrap();
        });
        let polled = Pin::new(&mut task).poll(&mut Context::from_waker(&waker));
        assert!(task.is_finished());
        match polled {
            Poll::Ready(output) => assert_eq!(output.unwrap(), 5),
            Poll::Pending => assert_ne!(HOOKED_WAKES.get(), 0, "no task is woken"),
        }
        drop(task);
        drop(waker);
        assert_eq!(HOOKED_CLONES.get(), 0);
    }

    /// It would wait for its own lock.
    fn a_remote_task_polled_with_a_waker_whose_clone_runs_it(builder) {
        let mut context = builder.build().unwrap();
        let task = context.handle().spawn(|| async { 5 });
        let run = move || assert_eq!(context.poll_once(Some(Duration::ZERO)).unwrap(), 0);
        assert_eq!(end_by_cloning(task, run).unwrap(), 5);
    }

    /// The operation was not cancelled with the task, which waited for it.
    fn an_operation_started_with_a_waker_whose_clone_cancels_the_task(builder) {
        builder.build().unwrap().block_on(async {
            let (a, _end) = local_pair().unwrap();
            let own: Rc<RefCell<Option<JoinHandle<()>>>> = Rc::default();
            let handle = own.clone();
            *own.borrow_mut() = Some(spawn(async move {
                let waker = hooked(move || handle.borrow().as_ref().unwrap().cancel());
                let mut future = Box::pin(a.recv(vec![0; 64]));
                let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
                assert!(polled.is_pending());
                // As an executor within the task would.
                while HOOKED_WAKES.get() == 0 {
                    yield_now().await;
                }
            }));
            let mut turns = 0;
            while !own.borrow().as_ref().unwrap().is_finished() {
                turns += 1;
                assert!(turns < 1000, "the operation stays");
                AsyncNop::new().await.unwrap();
            }
        });
    }

    /// The last operation of the cancelled scope ended within the clone: the scope never ended.
    fn a_scope_polled_with_a_waker_whose_clone_takes_in_its_end(builder) {
        let mut context = builder.drop_policy(DropPolicy::CancelAndWait).build().unwrap();
        context.block_on(async {
            let (a, _end) = local_pair().unwrap();
            let (b, _other_end) = local_pair().unwrap();
            let mut limited = Box::pin(timeout(Duration::from_millis(1), async move {
                let mut received = Box::pin(a.recv(vec![0; 64]));
                // This waker wakes no task.
                let mut cx = Context::from_waker(Waker::noop());
                assert!(received.as_mut().poll(&mut cx).is_pending());
                std::future::pending::<()>().await;
            }));
            assert!(poll_now(&mut limited).await.is_pending());
            let mut other = Box::pin(async move { b.recv(vec![0; 64]).await.0 });
            assert!(poll_now(&mut other).await.is_pending());
            sleep(Duration::from_millis(5)).await;
            let waker = hooked(|| drop(other));
            let mut cx = Context::from_waker(&waker);
            let mut turns = 0;
            while limited.as_mut().poll(&mut cx).is_pending() {
                while HOOKED_WAKES.take() == 0 {
                    turns += 1;
                    assert!(turns < 1000, "no task is woken");
                    AsyncNop::new().await.unwrap();
                }
            }
            drop((limited, waker));
            assert_eq!(HOOKED_CLONES.get(), 0);
        });
    }
}
