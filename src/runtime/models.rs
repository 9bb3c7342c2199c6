//! Loom models of everything that happens between threads, run through all interleavings by
//! `RUSTFLAGS="--cfg loom" cargo test --release --lib models`.

use std::sync::Arc as StdArc;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use super::inbox::{InboxLink, InboxNode};
use super::refcount::AtomicCount;
use super::remote::Remote;
use crate::driver::Notify;

struct Node {
    link: InboxLink<Node>,
    /// Written by a waking thread before it wakes the node.
    writes: AtomicUsize,
}

impl Node {
    fn leak() -> &'static Node {
        Box::leak(Box::new(Node { link: InboxLink::new(), writes: AtomicUsize::new(0) }))
    }
}

impl InboxNode for Node {
    fn inbox(&self) -> &InboxLink<Self> {
        &self.link
    }
}

/// Counts notifications, as the event counter does.
struct CountingNotifier(AtomicUsize);

impl Notify for CountingNotifier {
    fn notify(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn wake(remote: &Remote<Node>, node: &'static Node) {
    node.writes.fetch_add(1, Ordering::Relaxed);
    if node.link.enter() {
        // SAFETY: leaked, and entered just now.
        unsafe { remote.post(node) };
    }
}

/// The owner either sees the wake-up before it sleeps, or is notified.
#[test]
fn no_wake_is_lost() {
    loom::model(|| {
        let notifier = StdArc::new(CountingNotifier(AtomicUsize::new(0)));
        let remote = Arc::new(Remote::<Node>::new(notifier.clone()));
        let node = Node::leak();
        let waker = {
            let remote = remote.clone();
            thread::spawn(move || wake(&remote, node))
        };
        let sleeps = remote.fall_asleep();
        if sleeps {
            // In the kernel: only a notification ends the wait.
            waker.join().unwrap();
            assert_eq!(notifier.0.load(Ordering::SeqCst), 1, "asleep, and not notified");
            remote.wake_up();
        } else {
            waker.join().unwrap();
        }
        let mut taken = 0;
        remote.take(|node| {
            taken += 1;
            // SAFETY: leaked.
            assert_eq!(unsafe { &*node }.writes.load(Ordering::Relaxed), 1);
        });
        assert_eq!(taken, 1);
    });
}

/// Sleeps and wakes as the loop does, until two nodes were taken.
fn take_two_as_the_loop_does(remote: &Remote<Node>, notifier: &CountingNotifier) {
    let (mut taken, mut notified) = (0, 0);
    while taken < 2 {
        if remote.fall_asleep() {
            // In the kernel until the next notification.
            while notifier.0.load(Ordering::SeqCst) == notified {
                thread::yield_now();
            }
            notified += 1;
            remote.wake_up();
        }
        remote.take(|node| {
            taken += 1;
            // SAFETY: leaked.
            assert_eq!(unsafe { &*node }.writes.load(Ordering::Relaxed), 1);
        });
    }
}

/// Two threads wake two nodes of an owner that sleeps and wakes as the loop does.
#[test]
fn no_wake_is_lost_between_two_sleeps() {
    loom::model(|| {
        let notifier = StdArc::new(CountingNotifier(AtomicUsize::new(0)));
        let remote = Arc::new(Remote::<Node>::new(notifier.clone()));
        let wakers: Vec<_> = (0..2)
            .map(|_| {
                let remote = remote.clone();
                thread::spawn(move || wake(&remote, Node::leak()))
            })
            .collect();
        take_two_as_the_loop_does(&remote, &notifier);
        for waker in wakers {
            waker.join().unwrap();
        }
    });
}

/// The same with an owner that was not woken for some time, and so stays announced as asleep.
#[test]
fn no_wake_is_lost_on_a_quiet_context() {
    loom::model(|| {
        let notifier = StdArc::new(CountingNotifier(AtomicUsize::new(0)));
        let remote = Arc::new(Remote::<Node>::new(notifier.clone()));
        while !remote.is_quiet() {
            assert!(remote.fall_asleep());
            remote.wake_up();
        }
        let waker = {
            let remote = remote.clone();
            thread::spawn(move || {
                wake(&remote, Node::leak());
                wake(&remote, Node::leak());
            })
        };
        take_two_as_the_loop_does(&remote, &notifier);
        waker.join().unwrap();
    });
}

/// Two threads wake one node: it is taken once or twice, and what each wrote before is seen.
#[test]
fn wakes_of_one_node_are_coalesced_but_all_writes_are_seen() {
    loom::model(|| {
        let notifier = StdArc::new(CountingNotifier(AtomicUsize::new(0)));
        let remote = Arc::new(Remote::<Node>::new(notifier));
        let node = Node::leak();
        let wakers: Vec<_> = (0..2)
            .map(|_| {
                let remote = remote.clone();
                thread::spawn(move || wake(&remote, node))
            })
            .collect();
        let mut seen = 0;
        // SAFETY: leaked.
        let mut look = |node: *const Node| seen = unsafe { &*node }.writes.load(Ordering::Relaxed);
        remote.take(&mut look);
        for waker in wakers {
            waker.join().unwrap();
        }
        remote.take(&mut look);
        assert_eq!(seen, 2, "the last take comes after the last wake");
    });
}

/// A stop that is requested while the owner falls asleep is not lost.
#[test]
fn no_stop_is_lost() {
    loom::model(|| {
        let notifier = StdArc::new(CountingNotifier(AtomicUsize::new(0)));
        let remote = Arc::new(Remote::<Node>::new(notifier.clone()));
        let stopper = {
            let remote = remote.clone();
            thread::spawn(move || remote.stop())
        };
        if remote.fall_asleep() {
            stopper.join().unwrap();
            assert_eq!(notifier.0.load(Ordering::SeqCst), 1);
            remote.wake_up();
        } else {
            stopper.join().unwrap();
        }
        assert!(remote.take_stop());
    });
}

/// Posting races with the drop of the context: each node is either taken or stays with its poster.
#[test]
fn a_closed_inbox_loses_no_node() {
    loom::model(|| {
        let notifier = StdArc::new(CountingNotifier(AtomicUsize::new(0)));
        let remote = Arc::new(Remote::<Node>::new(notifier));
        let poster = {
            let remote = remote.clone();
            thread::spawn(move || {
                let node = Node::leak();
                assert!(node.link.enter());
                // SAFETY: leaked, and entered just now.
                unsafe { remote.post(node) }
            })
        };
        let mut taken = 0;
        remote.close(|_| taken += 1);
        let posted = poster.join().unwrap();
        assert_eq!(taken, usize::from(posted));
    });
}

/// Exactly one of the threads that drop a reference drops the last one.
#[test]
fn exactly_one_reference_is_the_last() {
    loom::model(|| {
        let count = Arc::new(AtomicCount::one());
        let last = Arc::new(AtomicUsize::new(0));
        count.increment();
        count.increment();
        let droppers: Vec<_> = (0..2)
            .map(|_| {
                let (count, last) = (count.clone(), last.clone());
                thread::spawn(move || {
                    if count.decrement() {
                        last.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        if count.decrement() {
            last.fetch_add(1, Ordering::Relaxed);
        }
        for dropper in droppers {
            dropper.join().unwrap();
        }
        assert_eq!(last.load(Ordering::Relaxed), 1);
    });
}
