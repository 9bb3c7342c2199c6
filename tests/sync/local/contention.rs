//! Locks and channels of one thread under contention: fairness, order, cancelled waiters.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use corio::sync::local::{Barrier, Mutex, Notify, RwLock, Semaphore, mpsc, oneshot};
use corio::{sleep, spawn, timeout, yield_now};

use crate::harness::{LONG, many};

/// A small generator of numbers (xorshift64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// A simple model of a semaphore.
struct Model {
    permits: usize,
    /// The waiters' ids and counts, in order.
    waiting: Vec<(usize, usize)>,
    /// The holders' ids and counts.
    held: Vec<(usize, usize)>,
}

impl Model {
    fn settle(&mut self) {
        while let Some(&(id, count)) = self.waiting.first() {
            if count > self.permits {
                return;
            }
            self.permits -= count;
            self.waiting.remove(0);
            self.held.push((id, count));
        }
    }
}

/// Thousands of random steps, with futures dropped at every stage, beside the model.
#[test]
fn a_semaphore_agrees_with_its_model() {
    for seed in 1..=many(200) {
        let mut numbers = Numbers(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(seed));
        let semaphore = Semaphore::new(3);
        let mut model = Model { permits: 3, waiting: Vec::new(), held: Vec::new() };
        let mut waiting = Vec::new();
        let mut held = Vec::new();
        for id in 0..300 {
            match numbers.below(5) {
                0 | 1 => {
                    let count = 1 + numbers.below(3) as usize;
                    let mut future = Box::pin(semaphore.acquire(count));
                    model.waiting.push((id, count));
                    model.settle();
                    match poll(future.as_mut()) {
                        Poll::Ready(permit) => held.push((id, permit.unwrap())),
                        Poll::Pending => waiting.push((id, future)),
                    }
                }
                2 if !held.is_empty() => {
                    let (id, permit) = held.remove(numbers.below(held.len() as u64) as usize);
                    drop(permit);
                    let place = model.held.iter().position(|held| held.0 == id).unwrap();
                    model.permits += model.held.remove(place).1;
                    model.settle();
                }
                3 if !waiting.is_empty() => {
                    let (id, future) = waiting.remove(numbers.below(waiting.len() as u64) as usize);
                    drop(future);
                    model.waiting.retain(|waiting| waiting.0 != id);
                    if let Some(place) = model.held.iter().position(|held| held.0 == id) {
                        model.permits += model.held.remove(place).1;
                    }
                    model.settle();
                }
                _ if !waiting.is_empty() => {
                    let place = numbers.below(waiting.len() as u64) as usize;
                    let (id, future) = &mut waiting[place];
                    let has = model.held.iter().any(|held| held.0 == *id);
                    match poll(future.as_mut()) {
                        Poll::Ready(permit) => {
                            assert!(has, "seed {seed}: served before its turn");
                            held.push((*id, permit.unwrap()));
                            drop(waiting.remove(place));
                        }
                        Poll::Pending => assert!(!has, "seed {seed}: not served"),
                    }
                }
                _ => {}
            }
            assert_eq!(semaphore.available(), model.permits, "seed {seed}");
        }
    }
}

every_driver! {
    fn a_mutex_is_granted_in_order(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let list = Rc::new(Mutex::new(Vec::new()));
            let tasks: Vec<_> = (0..20)
                .map(|n| {
                    let list = list.clone();
                    spawn(async move {
                        let mut list = list.lock().await;
                        let before = list.len();
                        sleep(Duration::from_micros(10)).await;
                        assert_eq!(list.len(), before);
                        list.push(n);
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            assert_eq!(*list.lock().await, (0..20).collect::<Vec<_>>());
            let guard = list.try_lock().unwrap();
            assert!(list.try_lock().is_none());
            assert!(timeout(Duration::from_millis(1), list.lock()).await.is_err());
            drop(guard);
            assert!(list.try_lock().is_some());
        });
    }

    fn a_panic_releases_the_lock(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let lock = Rc::new(Mutex::new(1));
            let theirs = lock.clone();
            let task = spawn(async move {
                let _guard = theirs.lock().await;
                panic!("with the lock");
            });
            assert!(task.await.unwrap_err().is_panic());
            assert_eq!(*lock.lock().await, 1);
        });
    }

    fn a_writer_is_not_starved_by_readers(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let lock = Rc::new(RwLock::new(0));
            let done = Rc::new(Cell::new(false));
            let readers: Vec<_> = (0..4)
                .map(|_| {
                    let (lock, done) = (lock.clone(), done.clone());
                    spawn(async move {
                        while !done.get() {
                            let _value = lock.read().await;
                            yield_now().await;
                            yield_now().await;
                        }
                    })
                })
                .collect();
            for n in 0..100 {
                yield_now().await;
                let mut value = timeout(LONG, lock.write()).await.unwrap();
                assert_eq!(*value, n);
                assert!(lock.try_read().is_none() && lock.try_write().is_none());
                *value += 1;
            }
            done.set(true);
            for reader in readers {
                reader.await.unwrap();
            }
        });
    }

    fn a_cancelled_waiter_passes_the_lock_on(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let lock = Rc::new(Mutex::new(()));
            let guard = lock.lock().await;
            let tasks: Vec<_> = (0..10)
                .map(|_| {
                    let lock = lock.clone();
                    spawn(async move { drop(lock.lock().await) })
                })
                .collect();
            yield_now().await;
            for task in tasks.iter().step_by(2) {
                task.cancel();
            }
            drop(guard);
            for (n, task) in tasks.into_iter().enumerate() {
                // A task that got the lock before the cancellation may have completed.
                assert!(timeout(LONG, task).await.unwrap().is_ok() || n % 2 == 0);
            }
        });
    }

    fn notifications_reach_one_or_all(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let notify = Rc::new(Notify::new());
            notify.notify_one();
            notify.notify_one();
            notify.notified().await; // two notifications count as one
            assert!(poll(Box::pin(notify.notified()).as_mut()).is_pending());
            let count = Rc::new(Cell::new(0));
            let tasks: Vec<_> = (0..5)
                .map(|_| {
                    let (notify, count) = (notify.clone(), count.clone());
                    spawn(async move {
                        notify.notified().await;
                        count.set(count.get() + 1);
                    })
                })
                .collect();
            yield_now().await;
            notify.notify_one();
            yield_now().await;
            assert_eq!(count.get(), 1);
            let mut first = Box::pin(notify.notified());
            assert!(poll(first.as_mut()).is_pending());
            notify.notify_all();
            for task in tasks {
                timeout(LONG, task).await.unwrap().unwrap();
            }
            assert_eq!(count.get(), 5);
            // What was meant for all is not passed on, what was meant for one is.
            drop(first);
            let mut next = Box::pin(notify.notified());
            assert!(poll(next.as_mut()).is_pending());
            notify.notify_one();
            drop(next);
            timeout(LONG, notify.notified()).await.unwrap();
        });
    }

    fn a_barrier_can_be_passed_repeatedly(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let barrier = Rc::new(Barrier::new(3));
            let log = Rc::new(RefCell::new(Vec::new()));
            let tasks: Vec<_> = (0..3)
                .map(|_| {
                    let (barrier, log) = (barrier.clone(), log.clone());
                    spawn(async move {
                        let mut led = 0;
                        for round in 0..10 {
                            log.borrow_mut().push(round);
                            led += u32::from(barrier.wait().await);
                        }
                        led
                    })
                })
                .collect();
            let mut led = 0;
            for task in tasks {
                led += task.await.unwrap();
            }
            assert_eq!(led, 10);
            assert!(log.borrow().is_sorted());
            // A cancelled wait does not count.
            assert!(timeout(Duration::from_millis(1), barrier.wait()).await.is_err());
            let (one, two) = (barrier.clone(), barrier.clone());
            let one = spawn(async move { one.wait().await });
            let two = spawn(async move { two.wait().await });
            let tasks = [one, two];
            yield_now().await;
            assert!(tasks.iter().all(|task| !task.is_finished()));
            assert!(barrier.wait().await);
            for task in tasks {
                assert!(!task.await.unwrap());
            }
        });
    }

    fn a_closed_semaphore_refuses_every_acquire(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let semaphore = Rc::new(Semaphore::new(0));
            let waits = semaphore.clone();
            let task = spawn(async move { waits.acquire(1).await.map(drop) });
            yield_now().await;
            semaphore.close();
            semaphore.add_permits(5);
            assert!(task.await.unwrap().is_err());
            assert!(semaphore.acquire(1).await.is_err());
            assert!(semaphore.try_acquire(1).is_none());
        });
    }

    fn local_channels_deliver_in_order(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let (sender, mut receiver) = mpsc::channel(2);
            let other = sender.clone();
            let task = spawn(async move {
                for n in 0..1000 {
                    other.send(Rc::new(n)).await.unwrap();
                }
            });
            for n in 0..1000 {
                assert_eq!(receiver.recv().await.as_deref(), Some(&n));
            }
            task.await.unwrap();
            sender.try_send(Rc::new(1)).unwrap();
            sender.try_send(Rc::new(2)).unwrap();
            assert!(sender.try_send(Rc::new(3)).is_err());
            let value = Rc::new(4);
            let sent = value.clone();
            let sending = sender.clone();
            let waiting = spawn(async move { sending.send(sent).await.is_err() });
            yield_now().await;
            drop(receiver);
            assert!(waiting.await.unwrap());
            assert_eq!(Rc::strong_count(&value), 1);
            assert!(sender.is_closed());

            let (sender, receiver) = oneshot::channel::<u32>();
            let task = spawn(receiver);
            yield_now().await;
            drop(sender);
            assert!(task.await.unwrap().is_err());
            let (sender, receiver) = oneshot::channel();
            drop(receiver);
            assert_eq!(sender.send(1), Err(1));
        });
    }
}
