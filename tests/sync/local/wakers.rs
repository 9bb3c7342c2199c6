//! Locks and channels of one thread whose wakers run code, and whose grants arrive late.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use corio::sync::local::{Barrier, BarrierWait, Mutex, Notify, RwLock, Semaphore, mpsc, oneshot};
use corio::{IoContext, race, sleep, spawn, timeout, yield_now};

use crate::harness::many;

fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// The receiver made room, and was dropped before the sender was polled.
#[test]
fn a_message_sent_after_the_receiver_was_dropped_is_returned() {
    let (sender, mut receiver) = mpsc::channel(1);
    let value = Rc::new(2);
    sender.try_send(Rc::new(1)).unwrap();
    let mut sending = Box::pin(sender.send(value.clone()));
    assert!(poll(sending.as_mut()).is_pending());
    assert_eq!(receiver.try_recv().as_deref(), Ok(&1));
    drop(receiver);
    let Poll::Ready(result) = poll(sending.as_mut()) else { panic!("the send still waits") };
    assert!(result.is_err(), "the receiver was dropped");
    drop((result, sending));
    assert_eq!(Rc::strong_count(&value), 1);
}

/// After `Closed` no message is received; a send that comes later fails.
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

/// Polls within `wake`, as simple executors do.
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
fn a_receiver_polled_by_its_waker_sees_the_closed_channel() {
    let (sender, receiver) = oneshot::channel();
    RECEIVER.set(Some(Box::pin(receiver)));
    Waker::from(Arc::new(PollsAtOnce)).wake();
    assert!(!ENDED.get());
    drop(sender);
    assert!(ENDED.get(), "it would wait for ever");
}

/// A leaked waiter keeps its place and its grant; its memory stays valid.
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

/// Drops another task's future when it is woken.
struct DropsTheOther;

impl Wake for DropsTheOther {
    fn wake(self: Arc<Self>) {
        drop(OTHER.take());
    }
}

#[test]
fn a_waiter_that_passes_a_barrier_may_drop_another() {
    let barrier: &'static Barrier = Box::leak(Box::new(Barrier::new(3)));
    let waker = Waker::from(Arc::new(DropsTheOther));
    let mut first = Box::pin(barrier.wait());
    assert!(first.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let mut second = Box::pin(barrier.wait());
    assert!(poll(second.as_mut()).is_pending());
    OTHER.set(Some(second));
    assert_eq!(poll(Box::pin(barrier.wait()).as_mut()), Poll::Ready(true));
    assert_eq!(poll(first.as_mut()), Poll::Ready(false));
    // The next round counts from zero.
    let (mut a, mut b) = (Box::pin(barrier.wait()), Box::pin(barrier.wait()));
    assert!(poll(a.as_mut()).is_pending() && poll(b.as_mut()).is_pending());
    assert_eq!(poll(Box::pin(barrier.wait()).as_mut()), Poll::Ready(true));
}

thread_local! {
    static ADD_TO: Cell<Option<&'static Semaphore>> = const { Cell::new(None) };
}

/// Adds permits when it is woken.
struct Adds;

impl Wake for Adds {
    fn wake(self: Arc<Self>) {
        ADD_TO.get().unwrap().add_permits(5);
    }
}

#[test]
fn no_waiter_is_granted_permits_while_a_semaphore_closes() {
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

/// Serving all takes linear time; quadratic time would be minutes.
#[test]
fn a_hundred_thousand_waiters_are_served_in_linear_time() {
    const COUNT: usize = many(100_000) as usize;
    let (semaphore, notify) = (Semaphore::new(0), Notify::new());
    let mut acquiring: Vec<_> = (0..COUNT).map(|_| Box::pin(semaphore.acquire(1))).collect();
    let mut notified: Vec<_> = (0..COUNT).map(|_| Box::pin(notify.notified())).collect();
    assert!(acquiring.iter_mut().all(|future| poll(future.as_mut()).is_pending()));
    assert!(notified.iter_mut().all(|future| poll(future.as_mut()).is_pending()));
    semaphore.add_permits(COUNT);
    notify.notify_all();
    assert!(notified.iter_mut().all(|future| poll(future.as_mut()).is_ready()));
    // Each is dropped at once, and returns its permit.
    assert!(acquiring.iter_mut().all(|future| poll(future.as_mut()).is_ready()));
    assert_eq!(semaphore.available(), COUNT);
}

/// A small generator of numbers (xorshift64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// The requests for a lock, in order: an id, whether it writes, and whether it holds the lock.
type Queue = Vec<(usize, bool, bool)>;

/// Grants as a fair lock does: readers together, a writer alone, none past a waiting one.
fn let_in(queue: &mut Queue) {
    for place in 0..queue.len() {
        let (earlier, later) = queue.split_at_mut(place);
        let (_, writes, inside) = &mut later[0];
        // The queue has the holders, too, before those that wait.
        if !*inside {
            let free = earlier.iter().all(|other| other.2 && !*writes && !other.1);
            if !free {
                return;
            }
            *inside = true;
        }
    }
}

/// A guard of either kind, which is only dropped.
#[allow(dead_code)]
enum Guard<'a> {
    Reads(corio::sync::local::RwLockReadGuard<'a, ()>),
    Writes(corio::sync::local::RwLockWriteGuard<'a, ()>),
}

type Entering<'a> = Pin<Box<dyn Future<Output = Guard<'a>> + 'a>>;

async fn enter(lock: &RwLock<()>, writes: bool) -> Guard<'_> {
    if writes { Guard::Writes(lock.write().await) } else { Guard::Reads(lock.read().await) }
}

/// Random steps, with futures dropped at every stage, beside a model.
#[test]
fn a_reader_writer_lock_agrees_with_its_model() {
    for seed in 1..=many(200) {
        let mut numbers = Numbers(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(seed));
        let lock = RwLock::new(());
        let mut model = Queue::new();
        let mut waiting: Vec<(usize, Entering<'_>)> = Vec::new();
        let mut held = Vec::new();
        for id in 0..300 {
            match numbers.below(6) {
                0 | 1 => {
                    let writes = numbers.below(3) == 0;
                    let mut future: Entering<'_> = Box::pin(enter(&lock, writes));
                    model.push((id, writes, false));
                    let_in(&mut model);
                    match poll(future.as_mut()) {
                        Poll::Ready(guard) => held.push((id, guard)),
                        Poll::Pending => waiting.push((id, future)),
                    }
                }
                2 | 3 if !held.is_empty() => {
                    let (gone, _guard) = held.remove(numbers.below(held.len()));
                    model.retain(|(id, ..)| *id != gone);
                    let_in(&mut model);
                }
                4 if !waiting.is_empty() => {
                    let (gone, _future) = waiting.remove(numbers.below(waiting.len()));
                    model.retain(|(id, ..)| *id != gone);
                    let_in(&mut model);
                }
                _ => {}
            }
            // Exactly the model's holders have the lock.
            let mut place = 0;
            while place < waiting.len() {
                let (id, future) = &mut waiting[place];
                let inside = model.iter().any(|other| other.0 == *id && other.2);
                // Some are polled later, and may be dropped before that.
                if inside && numbers.below(2) == 0 {
                    place += 1;
                    continue;
                }
                match poll(future.as_mut()) {
                    Poll::Ready(guard) => {
                        assert!(inside, "seed {seed}: let in before its turn");
                        held.push((*id, guard));
                        drop(waiting.remove(place));
                    }
                    Poll::Pending => {
                        assert!(!inside, "seed {seed}: not let in");
                        place += 1;
                    }
                }
            }
            let free = |writes: bool| model.iter().all(|other| other.2 && !writes && !other.1);
            assert_eq!(lock.try_read().is_some(), free(false), "seed {seed}");
            assert_eq!(lock.try_write().is_some(), free(true), "seed {seed}");
        }
    }
}

/// However a waiter ends, before its grant or just after, the next waiter gets the lock.
#[test]
fn a_cancelled_waiter_passes_the_grant_on() {
    const LONG: Duration = Duration::from_secs(60);
    let mut context = IoContext::new(8).unwrap();
    context.block_on(async {
        for granted in [false, true] {
            for way in 0..3 {
                let lock = Rc::new(Mutex::new(()));
                let guard = lock.lock().await;
                let (theirs, alive) = (lock.clone(), Rc::new(()));
                let kept = alive.clone();
                let waiter = spawn(async move {
                    let _kept = kept;
                    match way {
                        0 => drop(race(theirs.lock(), sleep(Duration::ZERO)).await),
                        1 => drop(timeout(Duration::ZERO, theirs.lock()).await),
                        _ => drop(theirs.lock().await),
                    }
                });
                yield_now().await; // it waits now
                let next = lock.clone();
                let next = spawn(async move { drop(next.lock().await) });
                yield_now().await;
                let mut guard = Some(guard);
                if granted {
                    guard.take();
                }
                waiter.cancel();
                drop(guard);
                let _ = timeout(LONG, waiter).await.unwrap();
                timeout(LONG, next).await.unwrap().unwrap();
                assert!(lock.try_lock().is_some());
                assert_eq!(Rc::strong_count(&alive), 1);
            }
        }
    });
}

#[test]
fn owned_permits_move_into_tasks_and_come_back() {
    use corio::sync::local::Semaphore;
    corio::IoContext::new(8).unwrap().block_on(async {
        let semaphore = Rc::new(Semaphore::new(2));
        let (most, now) = (Rc::new(std::cell::Cell::new(0)), Rc::new(std::cell::Cell::new(0)));
        for _ in 0..10 {
            let permit = semaphore.clone().acquire_owned(1).await.unwrap();
            let (most, now) = (most.clone(), now.clone());
            spawn(async move {
                now.set(now.get() + 1);
                most.set(most.get().max(now.get()));
                yield_now().await;
                now.set(now.get() - 1);
                drop(permit);
            });
        }
        let all = semaphore.clone().acquire_owned(2).await.unwrap();
        assert_eq!((most.get(), now.get(), all.count()), (2, 0, 2));
        assert!(semaphore.clone().try_acquire_owned(1).is_none() && semaphore.available() == 0);
        // A waiting future that is dropped takes nothing.
        let waiting = semaphore.clone().acquire_owned(1);
        assert!(timeout(Duration::ZERO, waiting).await.is_err());
        drop(all);
        assert_eq!(semaphore.available(), 2);
        semaphore.try_acquire(2).unwrap().forget();
        semaphore.close();
        let error = semaphore.clone().acquire_owned(1).await.unwrap_err();
        assert_eq!(format!("{error:?}"), error.to_string());
    });
}
