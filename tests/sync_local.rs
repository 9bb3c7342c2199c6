//! Locks and channels of one thread, where wakers run foreign code and grants come at awkward times.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use corio::sync::local::{Barrier, BarrierWait, Notify, Semaphore, mpsc, oneshot};

fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// The receiver had made room, and went before the sender noticed.
#[test]
fn a_message_after_the_receiver_has_gone_comes_back() {
    let (sender, mut receiver) = mpsc::channel(1);
    let value = Rc::new(2);
    sender.try_send(Rc::new(1)).unwrap();
    let mut sending = Box::pin(sender.send(value.clone()));
    assert!(poll(sending.as_mut()).is_pending());
    assert_eq!(receiver.try_recv().as_deref(), Ok(&1));
    drop(receiver);
    let Poll::Ready(result) = poll(sending.as_mut()) else { panic!("nobody is left to wait for") };
    assert!(result.is_err(), "nobody can receive it");
    drop((result, sending));
    assert_eq!(Rc::strong_count(&value), 1);
}

/// `Closed` is the last word: no message comes after it, unless its sender is told that it failed.
#[test]
fn no_message_is_sent_after_the_end() {
    let (sender, mut receiver) = mpsc::channel(1);
    sender.try_send(1).unwrap();
    let mut sending = Box::pin(sender.send(2));
    assert!(poll(sending.as_mut()).is_pending());
    assert_eq!(receiver.try_recv(), Ok(1));
    receiver.close();
    assert_eq!(receiver.try_recv(), Err(mpsc::TryRecvError::Closed));
    let Poll::Ready(result) = poll(sending.as_mut()) else { panic!("there was room") };
    let received = receiver.try_recv();
    assert!(result.is_err() && received.is_err(), "{result:?}, then {received:?}");
}

#[test]
fn a_single_notification_is_passed_on() {
    let notify = Notify::new();
    let (mut first, mut second) = (Box::pin(notify.notified()), Box::pin(notify.notified()));
    assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
    notify.notify_one();
    drop(first);
    assert!(poll(second.as_mut()).is_ready());
}

thread_local! {
    static RECEIVER: Cell<Option<Pin<Box<oneshot::Receiver<u32>>>>> = const { Cell::new(None) };
    static ENDED: Cell<bool> = const { Cell::new(false) };
}

/// Polls where it is woken, as simple executors do.
struct PollsAtOnce;

impl Wake for PollsAtOnce {
    fn wake(self: Arc<Self>) {
        let Some(mut receiver) = RECEIVER.take() else { return };
        let waker = Waker::from(self);
        if receiver.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            ENDED.set(true);
        } else {
            RECEIVER.set(Some(receiver));
        }
    }
}

#[test]
fn a_receiver_polled_by_its_waker_sees_that_the_sender_is_gone() {
    let (sender, receiver) = oneshot::channel();
    RECEIVER.set(Some(Box::pin(receiver)));
    Waker::from(Arc::new(PollsAtOnce)).wake();
    assert!(!ENDED.get());
    drop(sender);
    assert!(ENDED.get(), "it would wait for ever");
}

/// A waiter that is leaked keeps its place, and what it was given; its memory is never looked at.
#[test]
fn leaked_waiters_are_sound() {
    let semaphore = Semaphore::new(0);
    for _ in 0..3 {
        let mut future = Box::pin(semaphore.acquire(1));
        assert!(poll(future.as_mut()).is_pending());
        std::mem::forget(future);
    }
    let mut last = Box::pin(semaphore.acquire(1));
    assert!(poll(last.as_mut()).is_pending());
    semaphore.add_permits(3);
    assert!(poll(last.as_mut()).is_pending());
    semaphore.add_permits(1);
    assert!(poll(last.as_mut()).is_ready());
}

thread_local! {
    static OTHER: Cell<Option<Pin<Box<BarrierWait<'static>>>>> = const { Cell::new(None) };
}

/// Drops somebody else's future where it is woken.
struct DropsTheOther;

impl Wake for DropsTheOther {
    fn wake(self: Arc<Self>) {
        drop(OTHER.take());
    }
}

#[test]
fn who_passes_a_barrier_may_drop_another_who_passes() {
    let barrier: &'static Barrier = Box::leak(Box::new(Barrier::new(3)));
    let waker = Waker::from(Arc::new(DropsTheOther));
    let mut first = Box::pin(barrier.wait());
    assert!(first.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let mut second = Box::pin(barrier.wait());
    assert!(poll(second.as_mut()).is_pending());
    OTHER.set(Some(second));
    assert_eq!(poll(Box::pin(barrier.wait()).as_mut()), Poll::Ready(true));
    assert_eq!(poll(first.as_mut()), Poll::Ready(false));
    // The next round counts from nothing.
    let (mut a, mut b) = (Box::pin(barrier.wait()), Box::pin(barrier.wait()));
    assert!(poll(a.as_mut()).is_pending() && poll(b.as_mut()).is_pending());
    assert_eq!(poll(Box::pin(barrier.wait()).as_mut()), Poll::Ready(true));
}

thread_local! {
    static ADD_TO: Cell<Option<&'static Semaphore>> = const { Cell::new(None) };
}

/// Adds permits where it is woken.
struct Adds;

impl Wake for Adds {
    fn wake(self: Arc<Self>) {
        ADD_TO.get().unwrap().add_permits(5);
    }
}

#[test]
fn nobody_is_served_while_a_semaphore_closes() {
    let semaphore: &'static Semaphore = Box::leak(Box::new(Semaphore::new(0)));
    ADD_TO.set(Some(semaphore));
    let waker = Waker::from(Arc::new(Adds));
    let (mut first, mut second) = (Box::pin(semaphore.acquire(1)), Box::pin(semaphore.acquire(1)));
    assert!(first.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    assert!(poll(second.as_mut()).is_pending());
    semaphore.close();
    assert!(matches!(poll(first.as_mut()), Poll::Ready(Err(_))));
    assert!(matches!(poll(second.as_mut()), Poll::Ready(Err(_))));
}

/// Serving all costs as much as there are waiters, not its square: a debug build would take minutes.
#[test]
fn very_many_wait_at_once() {
    const COUNT: usize = 100_000;
    let (semaphore, notify) = (Semaphore::new(0), Notify::new());
    let mut acquiring: Vec<_> = (0..COUNT).map(|_| Box::pin(semaphore.acquire(1))).collect();
    let mut notified: Vec<_> = (0..COUNT).map(|_| Box::pin(notify.notified())).collect();
    assert!(acquiring.iter_mut().all(|future| poll(future.as_mut()).is_pending()));
    assert!(notified.iter_mut().all(|future| poll(future.as_mut()).is_pending()));
    semaphore.add_permits(COUNT);
    notify.notify_all();
    assert!(notified.iter_mut().all(|future| poll(future.as_mut()).is_ready()));
    // Each is dropped at once, and gives its permit back.
    assert!(acquiring.iter_mut().all(|future| poll(future.as_mut()).is_ready()));
    assert_eq!(semaphore.available(), COUNT);
}
