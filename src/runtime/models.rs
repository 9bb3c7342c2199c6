//! Models of everything that happens between threads, run by loom through all interleavings:
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
    /// What a waker's thread has done before it woke the node.
    news: AtomicUsize,
}

impl Node {
    fn leak() -> &'static Node {
        Box::leak(Box::new(Node { link: InboxLink::new(), news: AtomicUsize::new(0) }))
    }
}

impl InboxNode for Node {
    fn inbox(&self) -> &InboxLink<Self> {
        &self.link
    }
}

/// Counts notifications, as the event counter does.
struct Bell(AtomicUsize);

impl Notify for Bell {
    fn notify(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn wake(remote: &Remote<Node>, node: &'static Node) {
    node.news.fetch_add(1, Ordering::Relaxed);
    if node.link.enter() {
        // SAFETY: leaked, and entered just now.
        unsafe { remote.post(node) };
    }
}

/// The owner either sees the news before it sleeps, or is rung out of its sleep.
#[test]
fn no_wake_is_lost() {
    loom::model(|| {
        let bell = StdArc::new(Bell(AtomicUsize::new(0)));
        let remote = Arc::new(Remote::<Node>::new(bell.clone()));
        let node = Node::leak();
        let waker = {
            let remote = remote.clone();
            thread::spawn(move || wake(&remote, node))
        };
        let sleeps = remote.fall_asleep();
        if sleeps {
            // In the kernel: only the bell gets us out.
            waker.join().unwrap();
            assert_eq!(bell.0.load(Ordering::SeqCst), 1, "asleep, and nobody rang");
            remote.wake_up();
        } else {
            waker.join().unwrap();
        }
        let mut taken = 0;
        remote.take(|node| {
            taken += 1;
            // SAFETY: leaked.
            assert_eq!(unsafe { &*node }.news.load(Ordering::Relaxed), 1);
        });
        assert_eq!(taken, 1);
    });
}

/// An owner that sleeps and wakes as the loop does, until two nodes have come.
fn take_two_as_the_loop_does(remote: &Remote<Node>, bell: &Bell) {
    let (mut taken, mut rung) = (0, 0);
    while taken < 2 {
        if remote.fall_asleep() {
            // In the kernel until the bell rings once more.
            while bell.0.load(Ordering::SeqCst) == rung {
                thread::yield_now();
            }
            rung += 1;
            remote.wake_up();
        }
        remote.take(|node| {
            taken += 1;
            // SAFETY: leaked.
            assert_eq!(unsafe { &*node }.news.load(Ordering::Relaxed), 1);
        });
    }
}

/// Two wakers of two nodes, against an owner that sleeps and wakes as the loop does: it never
/// sleeps through news unless it is rung out again.
#[test]
fn no_wake_is_lost_between_two_sleeps() {
    loom::model(|| {
        let bell = StdArc::new(Bell(AtomicUsize::new(0)));
        let remote = Arc::new(Remote::<Node>::new(bell.clone()));
        let wakers: Vec<_> = (0..2)
            .map(|_| {
                let remote = remote.clone();
                thread::spawn(move || wake(&remote, Node::leak()))
            })
            .collect();
        take_two_as_the_loop_does(&remote, &bell);
        for waker in wakers {
            waker.join().unwrap();
        }
    });
}

/// The same with an owner whom nobody has woken for a while, so that it stays announced as asleep.
#[test]
fn no_wake_is_lost_on_a_quiet_context() {
    loom::model(|| {
        let bell = StdArc::new(Bell(AtomicUsize::new(0)));
        let remote = Arc::new(Remote::<Node>::new(bell.clone()));
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
        take_two_as_the_loop_does(&remote, &bell);
        waker.join().unwrap();
    });
}

/// Two wakers of one node: it is taken once or twice, and each one's news is seen.
#[test]
fn wakes_of_one_node_are_coalesced_but_all_news_is_seen() {
    loom::model(|| {
        let bell = StdArc::new(Bell(AtomicUsize::new(0)));
        let remote = Arc::new(Remote::<Node>::new(bell));
        let node = Node::leak();
        let wakers: Vec<_> = (0..2)
            .map(|_| {
                let remote = remote.clone();
                thread::spawn(move || wake(&remote, node))
            })
            .collect();
        let mut seen = 0;
        // SAFETY: leaked.
        let mut look = |node: *const Node| seen = unsafe { &*node }.news.load(Ordering::Relaxed);
        remote.take(&mut look);
        for waker in wakers {
            waker.join().unwrap();
        }
        remote.take(&mut look);
        assert_eq!(seen, 2, "the last look came after the last news");
    });
}

/// A stop while the owner falls asleep, and one while nobody looks: neither is lost.
#[test]
fn no_stop_is_lost() {
    loom::model(|| {
        let bell = StdArc::new(Bell(AtomicUsize::new(0)));
        let remote = Arc::new(Remote::<Node>::new(bell.clone()));
        let stopper = {
            let remote = remote.clone();
            thread::spawn(move || remote.stop())
        };
        if remote.fall_asleep() {
            stopper.join().unwrap();
            assert_eq!(bell.0.load(Ordering::SeqCst), 1);
            remote.wake_up();
        } else {
            stopper.join().unwrap();
        }
        assert!(remote.take_stop());
    });
}

/// Posting races with the context's end: each node is either taken or stays with its poster.
#[test]
fn a_closed_inbox_takes_nothing_and_loses_nothing() {
    loom::model(|| {
        let bell = StdArc::new(Bell(AtomicUsize::new(0)));
        let remote = Arc::new(Remote::<Node>::new(bell));
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

/// Whoever drops the last reference is told so, exactly one of them.
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
