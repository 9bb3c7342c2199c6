//! The end of a context that has tasks and operations in flight.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

use corio::fs::File;
use corio::net::{Socket, SocketAddress, TcpListener};
use corio::op::{
    AsyncClose, AsyncFallocate, AsyncFdatasync, AsyncFsync, AsyncFtruncate, AsyncNop, AsyncOpen,
    AsyncPoll, AsyncRead, AsyncReadExactAt, AsyncReadv, AsyncSendfile, AsyncStatx, AsyncWrite,
    AsyncWriteAllAt, AsyncWritev, FixedFiles, Interest,
};
use corio::{DropPolicy, IoContext, JoinHandle, race, sleep, spawn, timeout};

#[cfg(unix)]
use crate::harness::threads;
use crate::harness::{
    Drops, LONG, OnDrop, SHORT, alone, errno, local_pair, open_fds, poll_now,
    poll_outside_of_tasks, reports, std_pair, waker,
};

/// Spawns one task for each kind of operation, with the operation in flight.
fn start_everything(context: &IoContext, drops: &Drops) -> u32 {
    let mut count = 0;
    macro_rules! task {
        ($body:block) => {{
            let counted = drops.one();
            drop(context.spawn(async move {
                let _counted = counted;
                $body
                std::future::pending::<()>().await;
            }));
            count += 1;
        }};
    }
    #[cfg(unix)]
    fn pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
        std::io::pipe().unwrap()
    }
    fn file() -> std::fs::File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 16).unwrap();
        file
    }
    /// `O_RDONLY`, which has the same value on every host.
    const READ_ONLY: i32 = 0;
    #[cfg(unix)]
    const CURRENT: u64 = u64::MAX;
    task!({ AsyncNop::new().await.unwrap() });
    #[cfg(unix)]
    task!({
        let (r, _w) = pipe();
        let _ = AsyncRead::new(&r, vec![0; 64], CURRENT).await;
    });
    #[cfg(unix)]
    task!({
        let (_r, w) = pipe();
        let _ = AsyncWrite::new(&w, vec![0; 1 << 20], CURRENT).await;
        let _ = AsyncWrite::new(&w, vec![0; 1 << 20], CURRENT).await;
    });
    #[cfg(unix)]
    task!({
        let (r, _w) = pipe();
        let _ = AsyncReadv::new(&r, vec![vec![0_u8; 8]; 3], CURRENT).await;
    });
    #[cfg(unix)]
    task!({
        let (_r, w) = pipe();
        let _ = AsyncWritev::new(&w, vec![vec![0_u8; 1 << 19]; 3], CURRENT).await;
        let _ = AsyncWritev::new(&w, vec![vec![0_u8; 1 << 19]; 3], CURRENT).await;
    });
    task!({
        let _ = AsyncRead::new(&file(), vec![0; 1 << 16], 0).await;
    });
    task!({
        let _ = AsyncReadExactAt::new(&file(), vec![0; 1 << 16], 0).await;
    });
    task!({
        let _ = AsyncWrite::new(&file(), vec![0; 1 << 16], 0).await;
    });
    task!({
        let _ = AsyncWriteAllAt::new(&file(), vec![0; 1 << 16], 0).await;
    });
    task!({
        let _ = AsyncFsync::new(&file()).await;
    });
    task!({
        let _ = AsyncFdatasync::new(&file()).await;
    });
    task!({
        let _ = AsyncFallocate::new(&file(), 0, 0, 1 << 20).await;
    });
    task!({
        let _ = AsyncFtruncate::new(&file(), 7).await;
    });
    task!({
        let _ = AsyncOpen::new("Cargo.toml", READ_ONLY, 0).await;
    });
    task!({
        let _ = AsyncStatx::path("Cargo.toml").await;
    });
    task!({
        let _ = AsyncClose::new(file()).await;
    });
    task!({
        let _ = TcpListener::bind("127.0.0.1:0").unwrap().accept().await;
    });
    task!({
        // The backlog is full, so that this connect does not complete.
        let socket = Socket::tcp_v4().unwrap();
        socket.bind(SocketAddress::v4([127, 0, 0, 1], 0)).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let tries: Vec<_> = (0..4).map(|_| Socket::tcp_v4().unwrap()).collect();
        corio::join_all(tries.iter().map(|one| async { one.connect(address).await.is_ok() })).await;
    });
    task!({
        let (a, _b) = local_pair().unwrap();
        let _ = a.recv(vec![0; 64]).await;
    });
    task!({
        let (a, _b) = local_pair().unwrap();
        let _ = a.recv_exact([0; 64]).await;
    });
    task!({
        let (a, _b) = local_pair().unwrap();
        let _ = a.send_all(vec![0; 8 << 20]).await;
    });
    task!({
        let (a, _b) = local_pair().unwrap();
        let _ = a.recv_msg(vec![vec![0_u8; 8]; 2]).await;
    });
    task!({
        let (a, _b) = local_pair().unwrap();
        loop {
            if a.send_msg(vec![vec![0_u8; 1 << 16]; 2]).await.0.is_err() {
                break;
            }
        }
    });
    task!({
        let (a, _b) = local_pair().unwrap();
        let _ = a.shutdown(std::net::Shutdown::Both).await;
    });
    #[cfg(target_os = "linux")]
    task!({
        let ((a, _b), (_r, w)) = (local_pair().unwrap(), pipe());
        let _ = corio::op::AsyncSplice::into_pipe(&a, &w, 100).await;
    });
    task!({
        let (a, _b) = local_pair().unwrap();
        let big = file();
        big.set_len(64 << 20).unwrap();
        let _ = AsyncSendfile::new(&a, &big, 0, 64 << 20).await;
    });
    #[cfg(unix)]
    task!({
        let (r, _w) = pipe();
        let _ = AsyncPoll::new(&r, Interest::READABLE).await;
    });
    task!({
        let (a, _b) = std_pair().unwrap();
        a.set_nonblocking(true).unwrap();
        let _ = corio::op::AsyncRecv::new(&a, vec![0; 64]).await;
    });
    task!({ sleep(LONG).await });
    task!({
        let (a, b) = local_pair().unwrap();
        let inner = race(a.recv(vec![0; 8]), race(b.recv(vec![0; 8]), sleep(LONG)));
        let _ = timeout(LONG, inner).await;
    });
    task!({
        let (a, _b) = local_pair().unwrap();
        let _ = a.recv(vec![0; 8]).with_timeout(LONG).await;
    });
    count
}

every_driver! {
    fn a_context_can_be_dropped_with_every_operation_in_flight(builder) {
        alone(|| {
            let before = open_fds();
            for polls in 0..6 {
                let drops = Drops::default();
                let mut context = builder.build().unwrap();
                let count = start_everything(&context, &drops);
                for _ in 0..polls {
                    context.poll_once(Some(Duration::ZERO)).unwrap();
                }
                let start = Instant::now();
                drop(context);
                assert!(start.elapsed() < Duration::from_secs(4), "the grace period was needed");
                assert_eq!(drops.count(), count);
                assert_eq!(open_fds(), before, "after {polls} polls");
            }
        });
    }

    #[cfg(unix)]
    fn a_registered_file_is_closed_with_its_context(builder) {
        alone(|| {
            let before = open_fds();
            for keeps in [false, true] {
                let mut context = builder.build().unwrap();
                let (reader, writer) = std::io::pipe().unwrap();
                let kept = Rc::new(RefCell::new(None));
                let slot = kept.clone();
                drop(context.spawn(async move {
                    let table = FixedFiles::register(4).unwrap();
                    let reader = table.insert(reader).unwrap();
                    if keeps {
                        *slot.borrow_mut() = Some(table);
                    }
                    let _ = AsyncRead::new(&reader, vec![0; 8], u64::MAX).await;
                    std::future::pending::<()>().await;
                }));
                context.poll_once(Some(Duration::ZERO)).unwrap();
                drop(context);
                drop((kept, writer));
                assert_eq!(open_fds(), before);
            }
        });
    }

    fn a_table_of_registered_files_may_be_dropped_while_its_context_rests(builder) {
        alone(|| {
            let mut context = builder.build().unwrap();
            let before = open_fds();
            for _ in 0..3 {
                let table = context.block_on(async {
                    let table = FixedFiles::register(4).expect("the former table is gone");
                    table.insert(tempfile::tempfile().unwrap()).unwrap();
                    table
                });
                drop(table);
                assert_eq!(open_fds(), before);
            }
        });
    }

    fn tasks_that_hold_each_other_are_dropped(builder) {
        let drops = Drops::default();
        let mut context = builder.build().unwrap();
        type Slot = Rc<RefCell<Vec<(JoinHandle<()>, Waker)>>>;
        let slots: Vec<Slot> = (0..10).map(|_| Slot::default()).collect();
        for (n, own) in slots.iter().enumerate() {
            let (counted, own) = (drops.one(), own.clone());
            let next = slots[(n + 1) % slots.len()].clone();
            let task = context.spawn(async move {
                let _counted = counted;
                let handles: Vec<_> = std::mem::take(&mut *own.borrow_mut());
                for (handle, waker) in handles {
                    waker.wake_by_ref();
                    let _ = race(handle, sleep(LONG)).await;
                }
                std::future::pending::<()>().await;
            });
            next.borrow_mut().push((task, Waker::noop().clone()));
        }
        context.poll_once(Some(Duration::ZERO)).unwrap();
        drop(slots);
        drop(context);
        assert_eq!(drops.count(), 10);
    }

    fn tasks_that_hold_their_own_wakers_are_freed(builder) {
        alone(|| {
            let before = open_fds();
            let drops = Drops::default();
            let mut context = builder.build().unwrap();
            for _ in 0..10 {
                let counted = drops.one();
                drop(context.spawn(async move {
                    let _kept = (waker().await, counted);
                    std::future::pending::<()>().await;
                }));
            }
            context.poll_once(Some(Duration::ZERO)).unwrap();
            drop(context);
            assert_eq!((drops.count(), open_fds()), (10, before));
        });
    }

    fn no_task_outlives_its_context_even_if_spawned_by_a_destructor(builder) {
        let drops = Drops::default();
        let mut context = builder.build().unwrap();
        for _ in 0..10 {
            let drops = drops.clone();
            drop(context.spawn(async move {
                let _on_drop = OnDrop(move || {
                    let (counted, inner) = (drops.one(), drops.clone());
                    drop(spawn(async move {
                        let _counted = counted;
                        sleep(LONG).await;
                        drop(inner);
                    }));
                });
                sleep(LONG).await;
            }));
        }
        context.poll_once(Some(Duration::ZERO)).unwrap();
        drop(context);
        assert_eq!(drops.count(), 10, "the new ones never ran, and are gone");
    }

    fn tasks_that_start_operations_when_dropped_are_refused(builder) {
        let results = Rc::new(RefCell::new(Vec::new()));
        let mut context = builder.build().unwrap();
        let out = results.clone();
        drop(context.spawn(async move {
            let _on_drop = OnDrop(move || {
                let mut nop = Box::pin(AsyncNop::new());
                let mut cx = std::task::Context::from_waker(Waker::noop());
                if let std::task::Poll::Ready(result) = nop.as_mut().poll(&mut cx) {
                    out.borrow_mut().push(result.unwrap_err().raw_os_error());
                }
            });
            sleep(LONG).await;
        }));
        context.poll_once(Some(Duration::ZERO)).unwrap();
        drop(context);
        assert_eq!(*results.borrow(), [Some(errno::ECANCELED)]);
    }

    fn tasks_that_panic_when_dropped_do_not_keep_others_from_being_dropped(builder) {
        let drops = Drops::default();
        let mut context = builder.build().unwrap();
        let mut handles = Vec::new();
        for n in 0..10 {
            let counted = drops.one();
            handles.push(context.spawn(async move {
                let _counted = counted;
                let _bad = OnDrop(|| if n % 2 == 0 { panic!("in drop") });
                sleep(LONG).await;
            }));
        }
        context.poll_once(Some(Duration::ZERO)).unwrap();
        drop(context);
        assert_eq!(drops.count(), 10);
        let mut second = builder.build().unwrap();
        second.block_on(async {
            for (n, handle) in handles.into_iter().enumerate() {
                assert_eq!(handle.await.unwrap_err().is_panic(), n % 2 == 0);
            }
        });
    }

    fn a_context_dropped_while_unwinding_ends_as_any_other(builder) {
        alone(|| {
            let before = open_fds();
            let drops = Drops::default();
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let mut context = builder.build().unwrap();
                start_everything(&context, &drops);
                let _bad = context.spawn(async {
                    let _bad = OnDrop(|| panic!("one more"));
                    sleep(LONG).await;
                });
                context.poll_once(Some(Duration::ZERO)).unwrap();
                panic!("unwinding");
            }));
            assert!(caught.is_err());
            assert_eq!(open_fds(), before);
        });
    }

    fn leaked_operations_do_not_delay_the_end(builder) {
        alone(|| {
            let mut context = builder.build().unwrap();
            let (a, b) = local_pair().unwrap();
            let task = context.spawn(async move {
                let mut recv = Box::pin(a.recv(vec![0; 64]));
                assert!(poll_now(&mut recv).await.is_pending());
                std::mem::forget(recv);
                let mut inner = Box::pin(race(b.recv(vec![0; 64]), sleep(LONG)));
                assert!(poll_now(&mut inner).await.is_pending());
                std::mem::forget(inner);
            });
            context.poll_once(Some(Duration::ZERO)).unwrap();
            context.poll_once(Some(Duration::ZERO)).unwrap();
            assert!(task.is_finished());
            let start = Instant::now();
            drop(context);
            assert!(start.elapsed() < Duration::from_secs(4), "the grace period was needed");
        });
    }

    /// Without a grace period, the context waits for no operation.
    fn operations_that_do_not_end_in_time_are_leaked_and_reported(builder) {
        reports(
            || {
                let builder = builder.drop_policy(DropPolicy::CancelAndWait);
                let mut first = builder.clone().grace_period(Duration::ZERO).build().unwrap();
                let drops = Drops::default();
                let counted = drops.one();
                let (a, b) = local_pair().unwrap();
                let out = Rc::new(RefCell::new(Vec::new()));
                let kept = out.clone();
                let task = first.spawn(async move {
                    let _counted = counted;
                    let mut nap = Box::pin(sleep(LONG));
                    assert!(poll_now(&mut nap).await.is_pending());
                    let waker = waker().await;
                    kept.borrow_mut().push((waker, nap));
                    drop(a.recv(vec![0; 123]).await);
                });
                let (c, d) = local_pair().unwrap();
                let mut moved = Box::pin(async move { drop(c.recv(vec![0; 64]).await) });
                poll_outside_of_tasks(&mut first, moved.as_mut());
                first.poll_once(Some(Duration::ZERO)).unwrap();
                drop(first);
                assert_eq!(drops.count(), 0, "the task is leaked");

                // The thread may have another context, which the leaked one does not disturb.
                let mut second = builder.build().unwrap();
                second.block_on(async {
                    for (waker, nap) in out.take() {
                        waker.wake_by_ref();
                        drop(nap);
                        thread::spawn(move || waker.wake()).join().unwrap();
                    }
                    task.cancel();
                    drop(task);
                    assert!(poll_now(&mut moved).await.is_pending());
                    AsyncNop::new().await.unwrap();
                    // The operation is ended by its own ring.
                    drop(moved);
                    AsyncNop::new().await.unwrap();
                });
                drop(second);
                drop((b, d));
            },
            |stderr| {
                assert!(stderr.contains("the kernel did not let go of 2 operations"), "{stderr}");
                assert!(stderr.contains("123 bytes"), "{stderr}");
                assert!(stderr.contains("teardown.rs"), "{stderr}");
            },
        );
    }

    #[cfg(unix)]
    fn a_context_leaves_no_thread_and_no_fd(builder) {
        alone(|| {
            let (fds_before, threads_before) = (open_fds(), threads());
            for _ in 0..200 {
                let mut context = builder.build().unwrap();
                context.block_on(async {
                    let file = File::open("Cargo.toml").await.unwrap();
                    assert_ne!(file.read_at(vec![0; 64], 0).await.0.unwrap(), 0);
                    drop(spawn(sleep(LONG)));
                });
            }
            assert_eq!(open_fds(), fds_before);
            // The kernel's worker threads end a little later.
            let deadline = Instant::now() + Duration::from_secs(30);
            while threads() > threads_before && Instant::now() < deadline {
                thread::sleep(SHORT);
            }
            assert_eq!(threads(), threads_before);
        });
    }

    fn contexts_of_different_threads_are_independent(builder) {
        let threads: Vec<_> = (0..8)
            .map(|n| {
                let builder = builder.clone();
                thread::spawn(move || {
                    for _ in 0..5 {
                        let drops = Drops::default();
                        let mut context = builder.build().unwrap();
                        let count = start_everything(&context, &drops);
                        let sum = context.block_on(async {
                            let tasks: Vec<_> = (0..50).map(|i| spawn(async move {
                                AsyncNop::new().await.unwrap();
                                i * n
                            })).collect();
                            let mut sum = 0;
                            for task in tasks {
                                sum += task.await.unwrap();
                            }
                            sum
                        });
                        assert_eq!(sum, 49 * 50 / 2 * n);
                        drop(context);
                        assert_eq!(drops.count(), count);
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }

    fn a_thousand_contexts_end_with_tasks_in_them(builder) {
        let drops = Drops::default();
        let mut expected = 0;
        for n in 0..1000 {
            let mut context = builder.clone().entries(8).completion_entries(16).build().unwrap();
            for _ in 0..10 {
                let counted = drops.one();
                let task = context.spawn(async move {
                    let _counted = counted;
                    AsyncNop::new().await.unwrap();
                    sleep(LONG).await;
                });
                expected += 1;
                if n % 2 == 0 {
                    drop(task);
                }
            }
            context.poll_once(Some(Duration::ZERO)).unwrap();
        }
        assert_eq!(drops.count(), expected);
    }
}
