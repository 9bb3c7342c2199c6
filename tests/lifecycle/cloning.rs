//! Wakers whose `clone` does more than count: it may bring what they are for, be it the end of an
//! operation or a message.
//!
//! # Why this file has `unsafe`
//! It makes such a waker by hand.

use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use corio::op::AsyncNop;
use corio::sync::local::{Barrier, Notify, Semaphore, mpsc, oneshot};
use corio::sync::{self, watch};
use corio::{DropPolicy, JoinHandle, sleep, spawn, timeout, yield_now};

use crate::every::every_driver;
use crate::support::{LocalStream, guarded, local_pair, poll_now, std_pair};

/// A waker that is only counted.
struct Former;

impl Wake for Former {
    fn wake(self: Arc<Self>) {}
}

thread_local! {
    /// What the next clone of a [`hooked`] waker does.
    static CLONING: Cell<Option<Box<dyn FnOnce()>>> = const { Cell::new(None) };
    static HOOKED_CLONES: Cell<usize> = const { Cell::new(0) };
    static HOOKED_WAKES: Cell<usize> = const { Cell::new(0) };
}

/// A waker of this thread that does something when it is cloned, and counts.
fn hooked(hook: impl FnOnce() + 'static) -> Waker {
    use std::task::{RawWaker, RawWakerVTable};
    fn clone(data: *const ()) -> RawWaker {
        HOOKED_CLONES.set(HOOKED_CLONES.get() + 1);
        if let Some(hook) = CLONING.take() {
            hook();
        }
        RawWaker::new(data, &HOOKED)
    }
    fn wake(data: *const ()) {
        wake_by_ref(data);
        drop(data);
    }
    fn wake_by_ref(_: *const ()) {
        HOOKED_WAKES.set(HOOKED_WAKES.get() + 1);
    }
    fn drop(_: *const ()) {
        HOOKED_CLONES.set(HOOKED_CLONES.get() - 1);
    }
    static HOOKED: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, drop);
    CLONING.set(Some(Box::new(hook)));
    HOOKED_CLONES.set(1);
    HOOKED_WAKES.set(0);
    // SAFETY: the functions touch no data, and what they count is each thread's own.
    unsafe { Waker::from_raw(RawWaker::new(std::ptr::null(), &HOOKED)) }
}

every_driver! {
    /// The operation ended within: it dropped its former waker twice, and woke the new one never.
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
                assert!(turns < 1000, "nobody is woken");
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

    /// The task ended within: the waker stayed in its cell, was never woken, and leaked with it.
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
            Poll::Pending => assert_ne!(HOOKED_WAKES.get(), 0, "nobody is woken"),
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

    /// It was not cancelled with the task, which waited for it.
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

    /// The last operation of the cancelled scope ended within: the scope waited for it for ever.
    fn a_scope_polled_with_a_waker_whose_clone_takes_in_its_end(builder) {
        let mut context = builder.drop_policy(DropPolicy::CancelAndWait).build().unwrap();
        context.block_on(async {
            let (a, _end) = local_pair().unwrap();
            let (b, _other_end) = local_pair().unwrap();
            let mut limited = Box::pin(timeout(Duration::from_millis(1), async move {
                let mut received = Box::pin(a.recv(vec![0; 64]));
                // Woken by it is nobody.
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
                    assert!(turns < 1000, "nobody is woken");
                    AsyncNop::new().await.unwrap();
                }
            }
            drop((limited, waker));
            assert_eq!(HOOKED_CLONES.get(), 0);
        });
    }
}

/// Polls with a waker whose clone is what the future waits for: that is not missed.
fn end_by_cloning<F: Future>(future: F, event: impl FnOnce() + 'static) -> F::Output {
    let mut future = Box::pin(future);
    let waker = hooked(event);
    let mut cx = Context::from_waker(&waker);
    let mut polled = future.as_mut().poll(&mut cx);
    assert!(CLONING.take().is_none(), "the waker was not cloned");
    if polled.is_pending() {
        assert_ne!(HOOKED_WAKES.get(), 0, "nobody is woken");
        polled = future.as_mut().poll(&mut cx);
    }
    drop((future, waker));
    assert_eq!(HOOKED_CLONES.get(), 0);
    let Poll::Ready(output) = polled else { panic!("woken, it has not ended") };
    output
}

#[test]
fn a_waker_whose_clone_sends_the_value() {
    let (sender, receiver) = oneshot::channel();
    assert_eq!(end_by_cloning(receiver, || sender.send(5).unwrap()), Ok(5));
    let (sender, receiver) = oneshot::channel::<()>();
    assert!(end_by_cloning(receiver, || drop(sender)).is_err());
}

#[test]
fn a_waker_whose_clone_sends_a_message() {
    let (sender, mut receiver) = mpsc::channel(2);
    let other = sender.clone();
    assert_eq!(end_by_cloning(receiver.recv(), move || other.try_send(5).unwrap()), Some(5));
    assert_eq!(end_by_cloning(receiver.recv(), || drop(sender)), None);
}

#[test]
fn a_waker_whose_clone_receives_a_message() {
    let (sender, receiver) = mpsc::channel(1);
    sender.try_send(1).unwrap();
    let receiver = Rc::new(RefCell::new(receiver));
    let other = receiver.clone();
    let took = move || assert_eq!(other.borrow_mut().try_recv(), Ok(1));
    end_by_cloning(sender.send(2), took).unwrap();
    let end = move || receiver.borrow_mut().close();
    end_by_cloning(sender.send(3), end).unwrap_err();
}

#[test]
fn a_waker_whose_clone_notifies() {
    let notify = Rc::new(Notify::new());
    for rings in [Notify::notify_one, Notify::notify_all] {
        let other = notify.clone();
        end_by_cloning(notify.notified(), move || rings(&other));
    }
    // Nothing is left of it for others.
    assert!(
        Box::pin(notify.notified())
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_pending()
    );
}

#[test]
fn a_waker_whose_clone_adds_permits() {
    let semaphore = Rc::new(Semaphore::new(1));
    let other = semaphore.clone();
    let permit = end_by_cloning(semaphore.acquire(3), move || other.add_permits(2));
    assert_eq!((permit.unwrap().count(), semaphore.available()), (3, 0));
    let other = semaphore.clone();
    assert!(end_by_cloning(semaphore.acquire(4), move || other.close()).is_err());
}

#[test]
fn a_waker_whose_clone_comes_to_the_barrier() {
    let barrier = Rc::new(Barrier::new(2));
    let other = barrier.clone();
    let comes = move || {
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(Box::pin(other.wait()).as_mut().poll(&mut cx), Poll::Ready(true));
    };
    assert!(!end_by_cloning(barrier.wait(), comes));
}

/// It would wait for its own lock.
#[test]
fn a_waker_whose_clone_changes_a_watched_value() {
    let (sender, mut receiver) = watch::channel(1);
    let other = sender.clone();
    end_by_cloning(receiver.changed(), move || other.send(2)).unwrap();
    assert_eq!(receiver.get(), 2);
    end_by_cloning(receiver.changed(), || drop(sender)).unwrap_err();
}

/// Likewise.
#[test]
fn a_waker_whose_clone_sends_what_threads_share() {
    guarded(|| {
        let (sender, receiver) = sync::oneshot::channel();
        assert_eq!(end_by_cloning(receiver, || sender.send(5).unwrap()), Ok(5));
        let (mut sender, receiver) = sync::oneshot::channel::<()>();
        end_by_cloning(sender.closed(), || drop(receiver));
        let (sender, mut receiver) = sync::mpsc::channel(1);
        let sends = move || sender.try_send(5).unwrap();
        assert_eq!(end_by_cloning(async move { receiver.recv().await }, sends), Some(5));
        let (sender, mut receiver) = sync::mpsc::channel::<()>(1);
        assert_eq!(end_by_cloning(async move { receiver.recv().await }, || drop(sender)), None);
    });
}
