//! Futures polled with a waker whose `clone` causes the event that they wait for.

use corio::sync::{self, watch};

use crate::harness::guarded;
use crate::harness::wakers::end_by_cloning;

/// A clone under the channel's lock would deadlock.
#[test]
fn a_waker_whose_clone_changes_a_watched_value() {
    let (sender, mut receiver) = watch::channel(1);
    let other = sender.clone();
    end_by_cloning(receiver.changed(), move || other.send(2)).unwrap();
    assert_eq!(receiver.get(), 2);
    end_by_cloning(receiver.changed(), || drop(sender)).unwrap_err();
}

/// A clone under the channel's lock would deadlock.
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
