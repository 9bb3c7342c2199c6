//! Futures that move after their first poll: to other tasks, wakers, scopes and contexts.

// # Why this file has `unsafe`
// It makes a file in memory, and a waker that panics.

use std::cell::{Cell, RefCell};
#[cfg(unix)]
use std::os::fd::{FromRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use corio::op::AsyncNop;
use corio::{DropPolicy, Elapsed, JoinHandle, race, sleep, spawn, timeout, yield_now};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use crate::harness::{
    LONG, LocalStream, SHORT, alone, errno, local_pair, open_fds, poll_now, poll_outside_of_tasks,
};

type Received = Pin<Box<dyn Future<Output = std::io::Result<usize>>>>;

/// A receive that owns its stream, and the stream's other end.
fn receive() -> (Received, LocalStream) {
    let (a, b) = local_pair().unwrap();
    (Box::pin(async move { a.recv(vec![0; 64]).await.0 }), b)
}

/// The same in a race and a timeout, which are scopes of their own.
fn receive_in_scopes() -> (Received, LocalStream) {
    let (inner, b) = receive();
    let outer = async move {
        match timeout(LONG, race(inner, sleep(LONG))).await {
            Ok(corio::RaceOutput::First(result, _))
            | Ok(corio::RaceOutput::Second(Some(result), _)) => result,
            _ => Err(std::io::ErrorKind::TimedOut.into()),
        }
    };
    (Box::pin(outer), b)
}

/// Polls `future` in a task of its own, which sleeps from then on.
async fn poll_in_sleeper(mut future: Received) -> (JoinHandle<()>, Received) {
    let slot = Rc::new(RefCell::new(None));
    let out = slot.clone();
    let task = spawn(async move {
        assert!(poll_now(&mut future).await.is_pending());
        *out.borrow_mut() = Some(future);
        sleep(LONG).await;
    });
    yield_now().await;
    (task, slot.take().expect("the task has left it"))
}

/// Polls `future` in a task of its own, which ends before this returns.
async fn poll_elsewhere(mut future: Received) -> Received {
    let slot = Rc::new(RefCell::new(None));
    let out = slot.clone();
    let task = spawn(async move {
        assert!(poll_now(&mut future).await.is_pending());
        *out.borrow_mut() = Some(future);
    });
    task.await.unwrap();
    slot.take().expect("the task has left it")
}

/// A waker that counts, and runs a function when it is dropped.
struct Foreign {
    wakes: AtomicUsize,
    gone: Option<fn()>,
}

impl Wake for Foreign {
    fn wake(self: Arc<Self>) {
        self.wakes.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        if let Some(gone) = self.gone {
            gone();
        }
    }
}

fn foreign(gone: Option<fn()>) -> Arc<Foreign> {
    Arc::new(Foreign { wakes: AtomicUsize::new(0), gone })
}

#[cfg(unix)]
/// A file in memory, so that lengthening it clears pages.
fn memory_file() -> OwnedFd {
    // SAFETY: a string that ends with a NUL; the fd is new.
    unsafe {
        let fd = libc::memfd_create(c"lifecycle".as_ptr(), libc::MFD_CLOEXEC);
        assert!(fd >= 0);
        OwnedFd::from_raw_fd(fd)
    }
}

#[cfg(windows)]
fn memory_file() -> std::fs::File {
    tempfile::tempfile().unwrap()
}

every_driver! {
    fn an_operation_moves_to_another_task(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            for make in [receive, receive_in_scopes] {
                let (future, other) = make();
                let future = poll_elsewhere(future).await;
                let task = spawn(future);
                yield_now().await;
                other.send_all("x").await.0.unwrap();
                assert_eq!(task.await.unwrap().unwrap(), 1);
            }
        });
    }

    fn the_task_that_polled_last_is_woken(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            for make in [receive, receive_in_scopes] {
                let (future, other) = make();
                let shared = Rc::new(RefCell::new(Some(future)));
                let tasks: Vec<JoinHandle<bool>> = (0..3)
                    .map(|_| {
                        let shared = shared.clone();
                        spawn(std::future::poll_fn(move |cx| {
                            let mut slot = shared.borrow_mut();
                            let Some(future) = slot.as_mut() else { return Poll::Ready(false) };
                            let polled = future.as_mut().poll(cx);
                            if polled.is_ready() {
                                *slot = None;
                                return Poll::Ready(true);
                            }
                            Poll::Pending
                        }))
                    })
                    .collect();
                yield_now().await;
                other.send_all("x").await.0.unwrap();
                let mut tasks = tasks.into_iter();
                let last = tasks.next_back().unwrap();
                assert!(last.await.unwrap(), "the last one got the result");
                assert!(tasks.all(|task| !task.is_finished()));
            }
        });
    }

    fn a_cancel_of_the_new_task_waits_for_a_moved_operation(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            for make in [receive, receive_in_scopes] {
                let (future, _other) = make();
                let future = poll_elsewhere(future).await;
                let task = spawn(future);
                yield_now().await;
                task.cancel();
                let error = task.await.expect("it ended by itself").unwrap_err();
                assert_eq!(error.raw_os_error(), Some(errno::ECANCELED));
                assert_eq!(corio::stats().in_flight, 0);
            }
        });
    }

    fn a_cancel_of_the_old_task_leaves_a_moved_operation_alone(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            for make in [receive, receive_in_scopes] {
                let (future, other) = make();
                let (old, future) = poll_in_sleeper(future).await;
                let new = spawn(future);
                yield_now().await;
                old.cancel();
                assert!(old.await.unwrap_err().is_cancelled());
                other.send_all("x").await.0.unwrap();
                assert_eq!(new.await.unwrap().unwrap(), 1);
            }
        });
    }

    /// The moved operation has not been polled by another task yet.
    fn a_cancel_of_the_old_task_waits_for_an_operation_that_no_task_polls(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            for make in [receive, receive_in_scopes] {
                let (future, _other) = make();
                let (old, future) = poll_in_sleeper(future).await;
                old.cancel();
                assert!(old.await.unwrap_err().is_cancelled());
                let error = future.await.unwrap_err();
                assert!(matches!(
                    error.raw_os_error(),
                    Some(errno::ECANCELED) | None
                ));
            }
        });
    }

    fn a_timeout_around_a_moved_operation_ends_it(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            for make in [receive, receive_in_scopes] {
                let (future, _other) = make();
                let future = poll_elsewhere(future).await;
                let late = timeout(SHORT, future).await.expect("a late result");
                let limit = Elapsed::of(&late.unwrap_err()).unwrap().limit();
                assert_eq!(limit, Some(SHORT));
            }
        });
    }

    fn an_operation_outlives_the_scope_it_began_in(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            for make in [receive, receive_in_scopes] {
                let (mut future, other) = make();
                // Three levels of scopes are opened and ended.
                let _ = timeout(LONG, async {
                    race(
                        async {
                            assert!(poll_now(&mut future).await.is_pending());
                        },
                        std::future::pending::<()>(),
                    )
                    .await;
                })
                .await;
                assert_eq!(corio::stats().in_flight, 1);
                assert_eq!(corio::in_flight().len(), 1);
                other.send_all("x").await.0.unwrap();
                let _ = future.await;
            }
        });
    }

    /// The task waits for its own operation when it ends, which must not keep it alive.
    fn a_cancelled_task_that_gave_its_operation_away_leaks_nothing(builder) {
        alone(|| {
            let before = open_fds();
            let mut context = builder.build().unwrap();
            context.block_on(async {
                for _ in 0..20 {
                    let slot = Rc::new(RefCell::new(None));
                    let (out, event) = (slot.clone(), crate::harness::Event::default());
                    let inner = event.clone();
                    let file = corio::fs::File::from(memory_file());
                    // A kernel worker is busy with it for a while, and sees a cancel late.
                    let future = Box::pin(async move { file.allocate(0, 64 << 20).await });
                    let task = spawn(async move {
                        let mut future = future;
                        assert!(poll_now(&mut future).await.is_pending());
                        *out.borrow_mut() = Some(future);
                        inner.wait().await;
                    });
                    // As a rule the worker has begun by then; this only matters to coverage.
                    sleep(SHORT).await;
                    task.cancel();
                    // It is polled once with the cancel under way, and then ends by itself.
                    yield_now().await;
                    event.signal();
                    yield_now().await;
                    drop(task);
                    let _ = slot.take().unwrap().await;
                }
            });
            drop(context);
            assert_eq!(open_fds(), before, "the event counter lives as long as any task");
        });
    }

    fn foreign_wakers_are_woken(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let counter = foreign(None);
            let waker = Waker::from(counter.clone());
            let mut cx = Context::from_waker(&waker);
            let (mut future, other) = receive();
            assert!(future.as_mut().poll(&mut cx).is_pending());
            let mut nap = Box::pin(sleep(Duration::ZERO));
            assert!(nap.as_mut().poll(&mut cx).is_pending());
            let mut task = spawn(AsyncNop::new());
            assert!(Pin::new(&mut task).poll(&mut cx).is_pending());
            other.send_all("x").await.0.unwrap();
            while counter.wakes.load(Ordering::Relaxed) < 3 {
                yield_now().await;
            }
            assert!(future.as_mut().poll(&mut cx).is_ready());
            assert!(nap.as_mut().poll(&mut cx).is_ready());
            assert!(Pin::new(&mut task).poll(&mut cx).is_ready());
        });
    }

    fn a_poll_with_no_waker_loses_nothing(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let (mut future, other) = receive();
            let mut cx = Context::from_waker(Waker::noop());
            assert!(future.as_mut().poll(&mut cx).is_pending());
            other.send_all("x").await.0.unwrap();
            assert_eq!(future.await.unwrap(), 1);
            let (mut future, other) = receive();
            assert!(poll_now(&mut future).await.is_pending());
            assert!(future.as_mut().poll(&mut cx).is_pending());
            let task = spawn(future);
            other.send_all("x").await.0.unwrap();
            assert_eq!(task.await.unwrap().unwrap(), 1);
        });
    }

    fn sets_of_futures_with_wakers_of_their_own_work(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let mut set = FuturesUnordered::new();
            let mut others = Vec::new();
            for n in 0..100 {
                let (future, other) = if n % 2 == 0 { receive() } else { receive_in_scopes() };
                set.push(future);
                others.push(other);
            }
            let sender = spawn(async move {
                for other in others {
                    other.send_all("x").await.0.unwrap();
                    yield_now().await;
                }
            });
            while let Some(result) = set.next().await {
                assert_eq!(result.unwrap(), 1);
            }
            sender.await.unwrap();
        });
    }

    /// Waking and dropping wakers runs foreign code, in the middle of a context's destructor.
    /// The panic interrupts the context's end, which leaks the rest; the thread remains usable.
    fn a_waker_that_panics_when_dropped_leaves_the_thread_free_for_another_context(builder) {
        thread_local! {
            static KEPT: RefCell<Vec<Received>> = const { RefCell::new(Vec::new()) };
        }
        fn gone() {
            panic!("the waker's destructor");
        }
        let mut context = builder.clone().build().unwrap();
        let task = context.spawn(async {
            let waker = Waker::from(foreign(Some(gone)));
            let mut cx = Context::from_waker(&waker);
            let mut nap: Received = Box::pin(async {
                sleep(LONG).await;
                Ok(0)
            });
            assert!(nap.as_mut().poll(&mut cx).is_pending());
            drop(waker);
            KEPT.with_borrow_mut(|kept| kept.push(nap));
        });
        while !task.is_finished() {
            context.poll_once(Some(std::time::Duration::ZERO)).unwrap();
        }
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(context)));
        assert!(ended.is_err(), "the timer's waker is dropped with the context");
        let mut context = builder.build().unwrap();
        context.block_on(async { corio::op::AsyncNop::new().await.unwrap() });
    }

    fn a_waker_that_spawns_when_dropped_finds_a_closed_context(builder) {
        thread_local! {
            static KEPT: RefCell<Vec<JoinHandle<()>>> = const { RefCell::new(Vec::new()) };
            static NAPS: RefCell<Vec<Received>> = const { RefCell::new(Vec::new()) };
        }
        fn gone() {
            // There may be no context any more, which is a panic that this test ignores.
            let _ = std::panic::catch_unwind(|| {
                let task = spawn(async { sleep(LONG).await });
                KEPT.with_borrow_mut(|kept| kept.push(task));
            });
            let _ = std::panic::catch_unwind(|| {
                let mut nap: Received = Box::pin(async {
                    let _ = timeout(LONG, std::future::pending::<()>()).await;
                    Ok(0)
                });
                let mut cx = Context::from_waker(Waker::noop());
                let _ = nap.as_mut().poll(&mut cx);
                NAPS.with_borrow_mut(|naps| naps.push(nap));
            });
        }
        for round in 0..3 {
            let mut context = builder.build().unwrap();
            let (future, _other) = receive();
            let task = context.spawn(async move {
                let waker = Waker::from(foreign(Some(gone)));
                let mut cx = Context::from_waker(&waker);
                let mut future = future;
                let mut nap: Received = Box::pin(async {
                    sleep(LONG).await;
                    Ok(0)
                });
                if round != 1 {
                    assert!(future.as_mut().poll(&mut cx).is_pending());
                }
                if round != 0 {
                    assert!(nap.as_mut().poll(&mut cx).is_pending());
                }
                drop(waker);
                NAPS.with_borrow_mut(|naps| naps.extend([future, nap]));
                std::future::pending::<()>().await;
            });
            context.poll_once(Some(Duration::ZERO)).unwrap();
            drop(context);
            for task in KEPT.take() {
                assert!(task.is_finished(), "no task outlives its context");
                task.cancel();
            }
            drop(NAPS.take());
            drop(task);
        }
    }

    fn futures_in_a_thread_local_may_be_dropped_at_the_threads_end(builder) {
        thread_local! {
            static KEPT: RefCell<Vec<Received>> = const { RefCell::new(Vec::new()) };
            static HANDLES: RefCell<Vec<JoinHandle<()>>> = const { RefCell::new(Vec::new()) };
        }
        std::thread::spawn(move || {
            let mut context = builder.build().unwrap();
            for make in [receive, receive_in_scopes] {
                let (future, other) = make();
                drop(context.spawn(async move {
                    let mut future = future;
                    assert!(poll_now(&mut future).await.is_pending());
                    KEPT.with_borrow_mut(|kept| kept.push(future));
                    sleep(LONG).await;
                    drop(other);
                }));
            }
            HANDLES.with_borrow_mut(|handles| handles.push(context.spawn(sleep(LONG))));
            context.poll_once(Some(Duration::ZERO)).unwrap();
            drop(context);
        })
        .join()
        .unwrap();
    }

    /// Whichever of two thread-locals is dropped first.
    fn a_context_in_a_thread_local_ends_with_its_thread(builder) {
        thread_local! {
            static FIRST: RefCell<Vec<Box<dyn std::any::Any>>> = const { RefCell::new(Vec::new()) };
            static SECOND: RefCell<Vec<Box<dyn std::any::Any>>> =
                const { RefCell::new(Vec::new()) };
        }
        let builder = builder.drop_policy(DropPolicy::CancelAndWait);
        for swapped in [false, true] {
            let builder = builder.clone();
            std::thread::spawn(move || {
                let (one, two) = if swapped { (&SECOND, &FIRST) } else { (&FIRST, &SECOND) };
                one.with_borrow_mut(|_| {});
                two.with_borrow_mut(|_| {});
                let mut context = builder.build().unwrap();
                let (future, other) = receive();
                let slot = Rc::new(RefCell::new(Some(future)));
                let inner = slot.clone();
                drop(context.spawn(async move {
                    let mut future = inner.take().unwrap();
                    assert!(poll_now(&mut future).await.is_pending());
                    *inner.borrow_mut() = Some(future);
                }));
                context.poll_once(Some(Duration::ZERO)).unwrap();
                one.with_borrow_mut(|kept| kept.push(Box::new((slot, other))));
                two.with_borrow_mut(|kept| kept.push(Box::new(context)));
            })
            .join()
            .unwrap();
        }
    }

    fn futures_of_a_former_context_continue_in_the_next(builder) {
        let mut first = builder.build().unwrap();
        let (plain, other) = receive();
        let (scoped, another) = receive_in_scopes();
        let nap: Received = Box::pin(async {
            sleep(SHORT).await;
            Ok(7)
        });
        let mut kept = [plain, scoped, nap];
        for future in &mut kept {
            poll_outside_of_tasks(&mut first, future.as_mut());
        }
        drop(first);
        let mut second = builder.build().unwrap();
        second.block_on(async {
            let mut kept = kept.into_iter();
            let cancelled = kept.next().unwrap().await.unwrap_err();
            assert_eq!(cancelled.raw_os_error(), Some(errno::ECANCELED));
            // Its scopes were cancelled with the first context, so it may stay pending for good.
            let mut scoped = kept.next().unwrap();
            let _ = timeout(SHORT, &mut scoped).await;
            assert_eq!(kept.next().unwrap().await.unwrap(), 7);
        });
        drop((other, another));
    }

    fn a_join_handle_may_outlive_its_context(builder) {
        let mut first = builder.build().unwrap();
        let (done, ended) = (first.spawn(async { 5 }), first.spawn(async { sleep(LONG).await; 6 }));
        first.poll_once(Some(Duration::ZERO)).unwrap();
        drop(first);
        ended.cancel();
        assert!(format!("{ended:?}").contains("finished: true"));
        let mut second = builder.build().unwrap();
        second.block_on(async {
            assert_eq!(done.await.unwrap(), 5);
            assert!(ended.await.unwrap_err().is_cancelled());
        });
    }

    /// Polls from the tick of a run belong to no task.
    fn an_operation_polled_outside_of_tasks_ends_with_the_context(builder) {
        let mut context = builder.build().unwrap();
        let (mut future, _other) = receive();
        poll_outside_of_tasks(&mut context, future.as_mut());
        assert_eq!(context.stats().in_flight, 1);
        drop(context);
        drop(future);
    }

    /// A `clone` of a waker may panic: the operation must not be forgotten by then.
    fn a_waker_whose_clone_panics_leaves_a_sound_operation(builder) {
        use std::task::{RawWaker, RawWakerVTable};
        static PANICS: RawWakerVTable =
            RawWakerVTable::new(|_| panic!("clone"), |_| {}, |_| {}, |_| {});
        let mut context = builder.drop_policy(DropPolicy::CancelAndWait).build().unwrap();
        context.block_on(async {
            // SAFETY: the functions touch no data.
            let waker = unsafe { Waker::from_raw(RawWaker::new(std::ptr::null(), &PANICS)) };
            let (mut future, other) = receive();
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let _ = future.as_mut().poll(&mut Context::from_waker(&waker));
            }));
            assert!(caught.is_err());
            // Had it been forgotten, the kernel would write into freed memory now.
            assert_eq!(corio::stats().in_flight, corio::in_flight().len() as u64);
            let (submitted, completed) = {
                let recv = corio::stats().of(corio::OpCode::Recv);
                (recv.submitted, recv.completed)
            };
            assert_eq!(submitted - completed, corio::stats().in_flight);
            drop(future);
            drop(other);
        });
    }

    fn a_poll_after_the_result_panics(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let mut nop = Box::pin(AsyncNop::new());
            nop.as_mut().await.unwrap();
            crate::harness::panics_with("polled after it gave its result", || {
                let mut cx = Context::from_waker(Waker::noop());
                let _ = nop.as_mut().poll(&mut cx);
            });
            let polled = Cell::new(false);
            let mut task = spawn(async {});
            (&mut task).await.unwrap();
            polled.set(true);
            crate::harness::panics_with("polled after it gave its output", || {
                let mut cx = Context::from_waker(Waker::noop());
                let _ = Pin::new(&mut task).poll(&mut cx);
            });
            assert!(polled.get());
        });
    }
}
