//! Futures polled with a waker whose `clone` causes the event that they wait for.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use corio::sync::local::{Barrier, Notify, Semaphore, mpsc, oneshot};

use crate::harness::wakers::end_by_cloning;

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
    // No notification is left for others.
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
