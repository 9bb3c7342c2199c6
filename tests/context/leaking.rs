//! Operations leaked in flight: their memory and their fd number must never be used for anything
//! else.

use std::io::{Read, Seek};

use corio::fs::File;
use corio::op::{AsyncClose, AsyncNop, AsyncWrite, FixedFiles};
use corio::os::{AsRawFd, OwnedFd};

use crate::harness::{LocalStream, alone, local_pair, open_fds, poll_now, std_pair};

fn contents(file: &mut std::fs::File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Runs several turns, so that queued operations are submitted.
async fn turns() {
    for _ in 0..3 {
        AsyncNop::new().await.unwrap();
    }
}

/// Waits until every write has ended.
async fn writes() {
    let under_way = || {
        let writes = corio::stats().of(corio::OpCode::Write);
        writes.submitted > writes.completed
    };
    while under_way() {
        AsyncNop::new().await.unwrap();
    }
}

/// Leaks a write before the kernel has seen it, drops its handle, opens other files meanwhile, and
/// checks that they stay empty.
async fn leak_a_write() {
    let file = tempfile::tempfile().unwrap();
    let mut same = file.try_clone().unwrap();
    let file = File::from(file);
    let number = file.as_raw_fd();
    let mut write = Box::pin(file.write_at("to the right file", 0));
    assert!(poll_now(&mut write).await.is_pending());
    std::mem::forget(write);
    drop(file);
    let mut others: Vec<_> = (0..4).map(|_| tempfile::tempfile().unwrap()).collect();
    assert!(others.iter().all(|other| other.as_raw_fd() != number));
    writes().await;
    assert_eq!(contents(&mut same), b"to the right file");
    for other in &mut others {
        assert_eq!(contents(other), b"");
    }
}

every_driver! {
    fn a_leaked_operations_fd_is_never_reused(builder) {
        alone(|| {
            let mut context = builder.build().unwrap();
            context.block_on(leak_a_write());
        });
    }

    /// The driver submits a waiting sendfile again when there is room. The memory that the leaked
    /// operation had borrowed has been reused by then.
    fn a_leaked_operation_that_is_retried_reads_no_borrowed_memory(builder) {
        alone(|| {
            let mut context = builder.build().unwrap();
            context.block_on(async {
                let (near, far) = std_pair().unwrap();
                let file = tempfile::tempfile().unwrap();
                file.set_len(64 << 20).unwrap();
                let file = File::from(file);
                let mut stream = LocalStream::from(near);
                let mut sending = Box::pin(stream.send_file(&file, 0, 64 << 20));
                while corio::stats().in_flight == 0 {
                    assert!(poll_now(&mut sending).await.is_pending());
                }
                std::mem::forget(sending);
                // Puts another socket where the borrowed handle was.
                let (other, other_far) = std_pair().unwrap();
                stream = LocalStream::from(other);
                // Makes room: the operation is tried again, and ends.
                far.set_nonblocking(true).unwrap();
                let mut buf = vec![0; 1 << 20];
                while corio::stats().in_flight > 0 {
                    let _ = (&far).read(&mut buf);
                    AsyncNop::new().await.unwrap();
                }
                other_far.set_nonblocking(true).unwrap();
                let error = (&other_far).read(&mut buf).unwrap_err();
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "nothing came there");
                drop(stream);
            });
        });
    }

    fn a_leaked_operations_fd_is_never_reused_even_if_the_queue_is_full(builder) {
        alone(|| {
            let mut context = builder.entries(1).build().unwrap();
            context.block_on(async {
                let mut nops: Vec<_> = (0..50).map(|_| Box::pin(AsyncNop::new())).collect();
                for nop in &mut nops {
                    assert!(poll_now(nop).await.is_pending());
                }
                leak_a_write().await;
                for nop in nops {
                    nop.await.unwrap();
                }
            });
        });
    }

    fn a_leaked_operation_keeps_a_duplicate_of_a_borrowed_fd(builder) {
        alone(|| {
            let mut context = builder.build().unwrap();
            context.block_on(async {
                let file = tempfile::tempfile().unwrap();
                let mut same = file.try_clone().unwrap();
                let mut write = Box::pin(AsyncWrite::new(&file, "kept", 0));
                assert!(poll_now(&mut write).await.is_pending());
                std::mem::forget(write);
                drop(file);
                let mut others: Vec<_> = (0..4).map(|_| tempfile::tempfile().unwrap()).collect();
                writes().await;
                assert_eq!(contents(&mut same), b"kept");
                for other in &mut others {
                    assert_eq!(contents(other), b"");
                }
            });
        });
    }

    fn a_leaked_operation_on_a_registered_file_stays_with_it(builder) {
        alone(|| {
            let mut context = builder.build().unwrap();
            context.block_on(async {
                let table = FixedFiles::register(1).unwrap();
                let file = tempfile::tempfile().unwrap();
                let mut same = file.try_clone().unwrap();
                let fixed = table.insert(file).unwrap();
                let mut write = Box::pin(AsyncWrite::new(&fixed, "slot", 0));
                assert!(poll_now(&mut write).await.is_pending());
                std::mem::forget(write);
                let mut other = tempfile::tempfile().unwrap();
                table.update(&fixed, other.try_clone().unwrap()).unwrap();
                let mut more: Vec<_> = (0..4).map(|_| tempfile::tempfile().unwrap()).collect();
                writes().await;
                assert_eq!(contents(&mut same), b"slot");
                assert_eq!(contents(&mut other), b"");
                for other in &mut more {
                    assert_eq!(contents(other), b"");
                }
            });
        });
    }

    fn a_handle_with_a_leaked_operation_cannot_be_closed_or_given_away(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            for closes in [true, false] {
                let (a, b) = local_pair().unwrap();
                let mut recv = Box::pin(a.recv(vec![0; 8]));
                assert!(poll_now(&mut recv).await.is_pending());
                std::mem::forget(recv);
                let error = if closes {
                    a.close().await.unwrap_err()
                } else {
                    OwnedFd::try_from(a).unwrap_err()
                };
                assert_eq!(error.kind(), std::io::ErrorKind::ResourceBusy);
                assert!(error.to_string().contains("leaked while in flight"), "{error}");
                drop(b);
            }
        });
    }

    /// The leaked receive keeps its memory; only the bytes that it receives are lost.
    fn a_leaked_operation_only_leaks(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let (a, b) = local_pair().unwrap();
            let mut recv = Box::pin(a.recv(vec![0; 1 << 16]));
            assert!(poll_now(&mut recv).await.is_pending());
            std::mem::forget(recv);
            turns().await;
            b.send_all("lost").await.0.unwrap();
            turns().await;
            b.send_all("found").await.0.unwrap();
            let (result, buf) = a.recv(Vec::with_capacity(64)).await;
            assert_eq!((result.unwrap(), &buf[..]), (5, &b"found"[..]));
        });
    }

    fn a_leaked_race_only_leaks(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let (a, b) = local_pair().unwrap();
            let mut both = Box::pin(corio::timeout(
                crate::harness::LONG,
                corio::race(a.recv(vec![0; 64]), b.recv(vec![0; 64])),
            ));
            assert!(poll_now(&mut both).await.is_pending());
            std::mem::forget(both);
            turns().await;
            assert_eq!(corio::stats().in_flight, 2);
        });
        assert_eq!(context.stats().in_flight, 0);
        context.block_on(turns());
    }

    fn a_leaked_close_closes_once(builder) {
        alone(|| {
            let mut context = builder.build().unwrap();
            let before = open_fds();
            context.block_on(async {
                let mut close = Box::pin(AsyncClose::new(tempfile::tempfile().unwrap()));
                assert!(poll_now(&mut close).await.is_pending());
                std::mem::forget(close);
                turns().await;
                let mut file = tempfile::tempfile().unwrap();
                turns().await;
                assert_eq!(contents(&mut file), b"");
            });
            assert_eq!(open_fds(), before);
        });
    }

    fn a_leaked_task_handle_only_leaks(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            std::mem::forget(corio::spawn(async { vec![1; 100] }));
            std::mem::forget(corio::spawn(corio::sleep(crate::harness::LONG)));
            turns().await;
        });
    }

    /// The tasks, operations and queues of the leaked context are never freed.
    fn a_leaked_context_stays_the_threads_context(builder) {
        std::thread::spawn(move || {
            let mut context = builder.build().unwrap();
            let (a, b) = local_pair().unwrap();
            let task = context.spawn(async move { a.recv(vec![0; 64]).await.0.unwrap() });
            context.poll_once(Some(std::time::Duration::ZERO)).unwrap();
            std::mem::forget(context);
            let second = corio::IoContext::new(8);
            assert!(second.is_err(), "the thread's context is still there");
            task.cancel();
            drop(task);
            drop(b);
        })
        .join()
        .unwrap();
    }
}
