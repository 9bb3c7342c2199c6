//! Wakers: from other threads, too late, too often, and after everything is gone.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use corio::op::AsyncNop;
use corio::{spawn, yield_now};

use crate::harness::{Drops, Event, alone, many, open_fds, waker};

every_driver! {
    fn a_wake_from_another_thread_ends_a_sleep(builder) {
        let mut context = builder.build().unwrap();
        for _ in 0..20 {
            let event = Event::default();
            let other = event.clone();
            let thread = thread::spawn(move || other.signal());
            context.block_on(event.wait());
            thread.join().unwrap();
        }
    }

    fn a_wake_that_comes_too_late_does_nothing(builder) {
        let mut context = builder.build().unwrap();
        let drops = Drops::default();
        let counted = drops.one();
        let waker = context.block_on(async move {
            let _counted = counted;
            waker().await
        });
        assert_eq!(drops.count(), 1);
        let before = context.stats();
        waker.wake_by_ref();
        let other = waker.clone();
        thread::spawn(move || other.wake()).join().unwrap();
        context.block_on(async { AsyncNop::new().await }).unwrap();
        assert_eq!(context.stats().polls - before.polls, 2, "only the new task was polled");
        let other = waker.clone();
        drop(context);
        waker.wake_by_ref();
        thread::spawn(move || other.wake()).join().unwrap();
        waker.wake();
    }

    fn a_cancelled_tasks_waker_does_nothing(builder) {
        let mut context = builder.build().unwrap();
        let slot = Rc::new(Cell::new(None));
        let inner = slot.clone();
        let task = context.spawn(async move {
            inner.set(Some(waker().await));
            std::future::pending::<()>().await;
        });
        context.poll_once(Some(Duration::ZERO)).unwrap();
        drop(context);
        assert!(task.is_finished());
        slot.take().unwrap().wake();
        task.cancel();
    }

    /// The event counter closes when the last waker that could use it is gone.
    #[cfg(unix)]
    fn wakers_that_outlive_everything_leak_nothing(builder) {
        alone(|| {
            let before = open_fds();
            let mut context = builder.build().unwrap();
            let wakers: Vec<Waker> = context.block_on(async {
                let one = waker().await;
                let two = spawn(waker()).await.unwrap();
                let three = spawn(async {
                    let waker = waker().await;
                    drop(spawn(std::future::pending::<()>()));
                    waker
                });
                let mut all = vec![one, two, three.await.unwrap()];
                all.extend_from_within(..);
                all
            });
            drop(context);
            let left = open_fds();
            assert!((1..=3).contains(&(left - before)), "only what wakes is left: {left} {before}");
            let (here, there) = (wakers.clone(), wakers);
            thread::spawn(move || there.into_iter().for_each(Waker::wake)).join().unwrap();
            assert_eq!(open_fds(), left);
            drop(here);
            assert_eq!(open_fds(), before);
        });
    }

    fn many_wakes_are_one_notification(builder) {
        let mut context = builder.build().unwrap();
        let event = Event::default();
        let (inner, polls) = (event.clone(), Rc::new(Cell::new(0)));
        let counter = polls.clone();
        let slot = Arc::new(std::sync::Mutex::new(None));
        let out = slot.clone();
        let task = context.spawn(async move {
            *out.lock().unwrap() = Some(waker().await);
            let mut inner = Box::pin(inner.wait());
            poll_fn(|cx| {
                counter.set(counter.get() + 1);
                inner.as_mut().poll(cx)
            })
            .await;
        });
        context.poll_once(Some(Duration::ZERO)).unwrap();
        let waker = slot.lock().unwrap().take().unwrap();
        let before = context.stats();
        let other = waker.clone();
        thread::spawn(move || (0..1000).for_each(|_| other.wake_by_ref())).join().unwrap();
        context.poll_once(None).unwrap();
        let after = context.stats();
        assert_eq!(after.remote_wakes - before.remote_wakes, 1);
        assert_eq!((after.turns - before.turns, polls.get()), (1, 2));
        // While the loop sleeps: at most one turn for each wake that found it asleep.
        let before = context.stats();
        let thread = thread::spawn(move || {
            (0..1000).for_each(|_| waker.wake_by_ref());
            event.signal();
        });
        context.block_on(task).unwrap();
        thread.join().unwrap();
        let after = context.stats();
        let wakes = after.remote_wakes - before.remote_wakes;
        assert!((1..=1001).contains(&wakes), "{wakes}");
        assert!(after.turns - before.turns <= 2 * wakes + 8);
    }

    fn no_wake_of_a_storm_is_lost(builder) {
        const WAKES: usize = many(10_000) as usize;
        let mut context = builder.build().unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        context.block_on(async {
            let waker = waker().await;
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let (waker, count) = (waker.clone(), count.clone());
                    thread::spawn(move || {
                        for _ in 0..WAKES {
                            count.fetch_add(1, Ordering::Relaxed);
                            #[allow(clippy::waker_clone_wake)] // Both ways of waking.
                            waker.clone().wake();
                        }
                    })
                })
                .collect();
            poll_fn(|_| {
                if count.load(Ordering::Relaxed) == 4 * WAKES {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }

    fn no_wake_is_lost_while_tasks_come_and_go(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            for _ in 0..20 {
                let events: Vec<Event> = (0..50).map(|_| Event::default()).collect();
                let others = events.clone();
                let thread = thread::spawn(move || others.iter().for_each(Event::signal));
                let tasks: Vec<_> = events
                    .into_iter()
                    .map(|event| spawn(async move { event.wait().await }))
                    .collect();
                for (index, task) in tasks.into_iter().enumerate() {
                    if index % 3 == 0 {
                        task.cancel();
                        let _ = task.await;
                    } else {
                        task.await.unwrap();
                    }
                }
                thread.join().unwrap();
            }
        });
    }

    fn two_contexts_wake_each_other(builder) {
        const ROUNDS: usize = 500;
        let (ping, pong) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let wakers: Arc<[std::sync::Mutex<Option<Waker>>; 2]> = Default::default();
        let play = move |me: usize, mine: Arc<AtomicUsize>, theirs: Arc<AtomicUsize>,
                         wakers: Arc<[std::sync::Mutex<Option<Waker>>; 2]>| async move {
            poll_fn(move |cx| {
                *wakers[me].lock().unwrap() = Some(cx.waker().clone());
                let seen = theirs.load(Ordering::SeqCst);
                mine.store((seen + 1 - me).min(ROUNDS), Ordering::SeqCst);
                if let Some(waker) = wakers[1 - me].lock().unwrap().take() {
                    waker.wake();
                }
                if seen >= ROUNDS { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        };
        let second = {
            let (builder, ping, pong, wakers) =
                (builder.clone(), ping.clone(), pong.clone(), wakers.clone());
            thread::spawn(move || {
                builder.build().unwrap().block_on(play(1, pong, ping, wakers));
            })
        };
        builder.build().unwrap().block_on(play(0, ping, pong, wakers));
        second.join().unwrap();
    }

    fn a_waker_of_the_threads_former_context_does_nothing(builder) {
        let mut first = builder.build().unwrap();
        let stale = first.block_on(waker());
        drop(first);
        let mut second = builder.build().unwrap();
        second.block_on(async move {
            stale.wake_by_ref();
            yield_now().await;
            AsyncNop::new().await.unwrap();
            stale.wake();
            yield_now().await;
        });
        assert_eq!(second.stats().remote_wakes, 0);
    }

    fn a_wake_during_the_poll_means_one_more_poll(builder) {
        let mut context = builder.build().unwrap();
        let polls = Cell::new(0);
        context.block_on(poll_fn(|cx| {
            polls.set(polls.get() + 1);
            match polls.get() {
                1 => {
                    for _ in 0..10 {
                        cx.waker().wake_by_ref();
                        #[allow(clippy::waker_clone_wake)] // Both ways of waking.
                        cx.waker().clone().wake();
                    }
                    let waker = cx.waker().clone();
                    thread::spawn(move || waker.wake()).join().unwrap();
                    Poll::Pending
                }
                _ => Poll::Ready(()),
            }
        }));
        assert_eq!(polls.get(), 2, "all wakes together are one");
    }

    fn a_task_woken_between_two_runs_is_polled_in_the_second(builder) {
        let mut context = builder.build().unwrap();
        let event = Event::default();
        let inner = event.clone();
        let task = context.spawn(async move { inner.wait().await });
        context.poll_once(Some(Duration::ZERO)).unwrap();
        event.signal();
        context.poll_once(None).unwrap();
        assert!(task.is_finished());
    }
}
