//! Channels between contexts and threads.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use corio::sync::mpsc::{TryRecvError, TrySendError, channel};
use corio::sync::{oneshot, watch};
use corio::{RaceOutput, join_all, race, sleep, spawn, timeout, yield_now};

use crate::harness::{Elsewhere, LONG, many};

/// Counts its instances.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Counted(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

every_driver! {
    fn a_million_messages_are_in_order_per_sender(builder) {
        const EACH: u64 = if cfg!(miri) { 300 } else { 250_000 };
        let (sender, mut receiver) = channel::<(usize, u64)>(256);
        let contexts = [Elsewhere::new(&builder), Elsewhere::new(&builder)];
        let mut tasks = Vec::new();
        for (number, context) in contexts.iter().chain(&contexts).enumerate() {
            let sender = sender.clone();
            tasks.push(context.handle.spawn(move || async move {
                for value in 0..EACH {
                    sender.send((number, value)).await.unwrap();
                }
            }));
        }
        drop(sender);
        let mut context = builder.build().unwrap();
        context.block_on(async move {
            let mut next = [0; 4];
            while let Some((number, value)) = receiver.recv().await {
                assert_eq!(value, next[number]);
                next[number] += 1;
            }
            assert_eq!(next, [EACH; 4]);
            for task in tasks {
                task.await.unwrap();
            }
        });
    }

    fn plain_threads_send_and_receive(builder) {
        let (sender, mut receiver) = channel(2);
        let (back, mut answers) = channel(2);
        let context = Elsewhere::new(&builder);
        drop(context.handle.spawn(move || async move {
            while let Some(value) = receiver.recv().await {
                back.send(value * 2).await.unwrap();
            }
        }));
        let thread = thread::spawn(move || {
            for value in 0..many(1000) {
                sender.send_blocking(value).unwrap();
            }
        });
        for value in 0..many(1000) {
            assert_eq!(answers.recv_blocking(), Some(value * 2));
        }
        thread.join().unwrap();
        assert_eq!(answers.recv_blocking(), None);
    }

    fn a_full_channel_makes_senders_wait_in_order(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let (sender, mut receiver) = channel(2);
            assert_eq!(sender.capacity(), 2);
            sender.try_send(0).unwrap();
            sender.try_send(1).unwrap();
            assert_eq!(sender.try_send(9), Err(TrySendError::Full(9)));
            let tasks: Vec<_> = (2..20)
                .map(|value| {
                    let sender = sender.clone();
                    spawn(async move { sender.send(value).await })
                })
                .collect();
            yield_now().await;
            for expected in 0..20 {
                assert_eq!(receiver.recv().await, Some(expected));
            }
            assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
            for task in tasks {
                task.await.unwrap().unwrap();
            }
            // One slot, one message: a message that the receiver has taken does not count.
            sender.try_send(1).unwrap();
            sender.try_send(2).unwrap();
            assert_eq!(receiver.try_recv(), Ok(1));
            sender.try_send(3).unwrap();
            assert_eq!(sender.try_send(4), Err(TrySendError::Full(4)));
        });
    }

    fn a_cancelled_sender_passes_its_slot_on(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let count = Arc::new(AtomicUsize::new(0));
            for turns in 0..4 {
                let (sender, mut receiver) = channel(1);
                sender.try_send(Counted::new(&count)).unwrap();
                let message = Counted::new(&count);
                let one = sender.clone();
                let first = spawn(async move { one.send(message).await.is_ok() });
                let message = Counted::new(&count);
                let other = sender.clone();
                let second = spawn(async move { other.send(message).await.is_ok() });
                yield_now().await;
                // The first is given a slot, and is cancelled before or after it has used it.
                drop(receiver.recv().await.unwrap());
                for _ in 0..turns {
                    yield_now().await;
                }
                first.cancel();
                let sent = first.await.unwrap_or(false);
                let received = async {
                    let mut received = 0;
                    while received < 1 + u32::from(sent) {
                        drop(receiver.recv().await.unwrap());
                        received += 1;
                    }
                };
                timeout(LONG, received).await.unwrap();
                assert!(second.await.unwrap());
                assert_eq!(count.load(Ordering::SeqCst), 0);
            }
        });
    }

    fn a_dropped_receiver_returns_unsent_messages(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let count = Arc::new(AtomicUsize::new(0));
            let (sender, receiver) = channel(1);
            sender.send(Counted::new(&count)).await.unwrap();
            let waits = sender.clone();
            let message = Counted::new(&count);
            let task = spawn(async move { waits.send(message).await });
            yield_now().await;
            drop(receiver);
            assert_eq!(count.load(Ordering::SeqCst), 1, "what was in the channel is dropped");
            let error = task.await.unwrap().unwrap_err();
            drop(error.0);
            assert_eq!(count.load(Ordering::SeqCst), 0);
            assert!(sender.is_closed());
            assert!(sender.send(Counted::new(&count)).await.is_err());
        });
    }

    fn a_closed_channel_delivers_what_it_holds(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let (sender, mut receiver) = channel(8);
            sender.send(1).await.unwrap();
            sender.send(2).await.unwrap();
            receiver.close();
            assert_eq!(sender.try_send(3), Err(TrySendError::Closed(3)));
            assert_eq!(receiver.recv().await, Some(1));
            assert_eq!(receiver.recv().await, Some(2));
            assert_eq!(receiver.recv().await, None);
        });
    }

    fn a_receiver_that_is_always_fed_lets_others_run(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let (sender, mut receiver) = channel(1000);
            let ran = Rc::new(Cell::new(false));
            let runs = ran.clone();
            spawn(async move { runs.set(true) });
            for value in 0..1000 {
                sender.try_send(value).unwrap();
            }
            for _ in 0..1000 {
                receiver.recv().await.unwrap();
            }
            assert!(ran.get(), "the receiver yields now and then");
        });
    }

    fn a_receiver_is_dropped_with_its_context(builder) {
        let (sender, mut receiver) = channel::<u32>(1);
        let mut context = builder.build().unwrap();
        context.spawn(async move { receiver.recv().await });
        context.poll_once(Some(Duration::ZERO)).unwrap();
        drop(context);
        assert!(sender.is_closed());
        assert!(sender.send_blocking(1).is_err());
    }

    fn a_receive_can_time_out(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let (sender, mut receiver) = channel::<u32>(1);
            assert!(timeout(Duration::from_millis(1), receiver.recv()).await.is_err());
            match race(receiver.recv(), sleep(Duration::from_millis(1))).await {
                RaceOutput::Second(None, ()) => {}
                other => panic!("{other:?}"),
            }
            sender.send(5).await.unwrap();
            assert_eq!(receiver.recv().await, Some(5));
        });
    }

    fn blocking_a_context_is_refused(builder) {
        let mut context = builder.build().unwrap();
        let task = context.spawn(async {
            let (_sender, mut receiver) = channel::<u32>(1);
            receiver.recv_blocking()
        });
        let error = context.block_on(task).unwrap_err();
        assert!(error.to_string().contains("`.await` instead"), "{error}");
    }

    fn a_oneshot_carries_one_value(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let (sender, receiver) = oneshot::channel();
            sender.send(1).unwrap();
            assert_eq!(receiver.await, Ok(1));
            let (sender, receiver) = oneshot::channel::<u32>();
            drop(sender);
            assert!(receiver.await.is_err());
            let (sender, receiver) = oneshot::channel();
            drop(receiver);
            assert!(sender.is_closed());
            assert_eq!(sender.send(7), Err(7));
            let (mut sender, mut receiver) = oneshot::channel::<u32>();
            assert_eq!(receiver.try_recv(), None);
            let waits = spawn(async move { sender.closed().await });
            yield_now().await;
            drop(receiver);
            timeout(LONG, waits).await.unwrap().unwrap();
        });
    }

    fn every_watcher_sees_the_latest_value(builder) {
        const END: u64 = many(1000);
        let (sender, receiver) = watch::channel(0);
        let contexts = [Elsewhere::new(&builder), Elsewhere::new(&builder)];
        let tasks: Vec<_> = (0..20)
            .map(|index| {
                let mut receiver = receiver.clone();
                contexts[index % 2].handle.spawn(move || async move {
                    let mut last = 0;
                    while last < END {
                        receiver.changed().await.unwrap();
                        let now = receiver.get();
                        assert!(now >= last);
                        last = now;
                    }
                    assert!(receiver.wait_for(|value| *value > END).await.is_err());
                })
            })
            .collect();
        for value in 1..=END {
            sender.send(value);
        }
        drop((sender, receiver));
        let mut context = builder.build().unwrap();
        context.block_on(async {
            for result in join_all(tasks).await {
                result.unwrap();
            }
        });
    }
}
