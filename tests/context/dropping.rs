//! The drop rule: what happens when an operation is dropped while it is in flight.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use corio::net::TcpListener;
#[cfg(unix)]
use corio::op::AsyncReadv;
use corio::{DropPolicy, race, sleep, spawn, timeout, yield_now};
use futures_util::FutureExt as _;

use crate::harness::{
    LONG, LocalStream, SHORT, aborts, alone, eventually, local_pair, open_fds, poll_now,
    poll_outside_of_tasks,
};

/// Prefix of the child's lines that state what the report must contain.
const EXPECT: &str = "expect: ";

fn check_report(stderr: &str) {
    assert!(
        stderr.contains(
            "corio: aborting: a future was dropped while its operation was still in flight"
        ),
        "{stderr}"
    );
    let (expected, report): (Vec<_>, Vec<_>) =
        stderr.lines().partition(|line| line.starts_with(EXPECT));
    assert!(!expected.is_empty(), "{stderr}");
    for line in expected {
        let text = &line[EXPECT.len()..];
        assert!(report.iter().any(|line| line.contains(text)), "no {text:?} in:\n{stderr}");
    }
    for hint in ["with_timeout", "timeout(", "race(", "cancel()", "CancelAndWait", "try_join`"] {
        assert!(stderr.contains(hint), "{stderr}");
    }
}

type Boxed = Pin<Box<dyn Future<Output = ()>>>;

/// Returns a receive that owns its stream, and the stream's other end.
fn receive() -> (Boxed, LocalStream) {
    let (a, b) = local_pair().unwrap();
    (Box::pin(async move { drop(a.recv(vec![0; 64]).await) }), b)
}

every_driver! {
    fn the_report_of_an_abort_names_everything(builder) {
        aborts(
            || {
                let mut context = builder.build().unwrap();
                context.block_on(async {
                    let (a, b) = local_pair().unwrap();
                    let other = spawn(async move { b.recv(vec![0; 17]).await.0.map(drop) });
                    eprintln!("{EXPECT}recv on fd {}, 321 bytes", {
                        use corio::os::AsRawFd;
                        a.as_raw_fd()
                    });
                    eprintln!("{EXPECT}spawned at {}:{}", file!(), line!() + 1);
                    let guilty = spawn(async move {
                        eprintln!("{EXPECT}the timeout at {}:{}", file!(), line!() + 1);
                        let inner = timeout(LONG, async {
                            eprintln!("{EXPECT}the race at {}:{}", file!(), line!() + 1);
                            let recv = race(sleep(LONG), async {
                                eprintln!("{EXPECT}started at {}:{}", file!(), line!() + 1);
                                let mut recv = Box::pin(a.recv(vec![0; 321]));
                                let _ = poll_now(&mut recv).await;
                                yield_now().await;
                                yield_now().await;
                                drop(recv);
                            });
                            recv.await
                        });
                        let _ = inner.await;
                    });
                    eprintln!("{EXPECT}1 more in flight in this context");
                    eprintln!("{EXPECT}recv on fd");
                    eprintln!("{EXPECT}17 bytes, pending for");
                    let _ = guilty.await;
                    drop(other);
                });
            },
            check_report,
        );
    }

    fn a_dropped_accept_aborts(builder) {
        aborts(
            || {
                let mut context = builder.build().unwrap();
                context.block_on(async {
                    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                    let mut accept = Box::pin(listener.accept());
                    let _ = poll_now(&mut accept).await;
                    eprintln!("{EXPECT}accept on fd");
                    eprintln!("{EXPECT}started at {}", file!());
                });
            },
            check_report,
        );
    }

    #[cfg(unix)]
    fn a_dropped_readv_aborts(builder) {
        aborts(
            || {
                let mut context = builder.build().unwrap();
                context.block_on(async {
                    let (reader, _writer) = std::io::pipe().unwrap();
                    let bufs = vec![vec![0_u8; 8], vec![0; 8], vec![0; 8]];
                    let mut readv = Box::pin(AsyncReadv::new(&reader, bufs, 0));
                    let _ = poll_now(&mut readv).await;
                    eprintln!("{EXPECT}readv on fd");
                    eprintln!("{EXPECT}3 buffers");
                });
            },
            check_report,
        );
    }

    fn an_operation_dropped_outside_of_any_task_aborts(builder) {
        aborts(
            || {
                let mut context = builder.build().unwrap();
                let (mut recv, _other) = receive();
                context.block_on(async {
                    let _ = poll_now(&mut recv).await;
                    // A turn of the loop, so that the kernel has the operation.
                    sleep(SHORT).await;
                    eprintln!("{EXPECT}recv on fd");
                    drop(recv);
                });
            },
            check_report,
        );
    }

    fn an_unwinding_thread_does_not_abort(builder) {
        let mut context = builder.build().unwrap();
        let (mut recv, _other) = receive();
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            drop(context.spawn(async move {
                let _ = poll_now(&mut recv).await;
                std::future::pending::<()>().await;
            }));
            context.poll_once(Some(SHORT)).unwrap();
            let _context = context;
            panic!("unwinding drops the context");
        }));
        assert!(caught.is_err());
    }

    fn a_dropped_operation_ends_under_cancel_and_wait(builder) {
        let mut context = builder.drop_policy(DropPolicy::CancelAndWait).build().unwrap();
        context.block_on(async {
            let (a, b) = local_pair().unwrap();
            for _ in 0..100 {
                let mut recv = Box::pin(a.recv(vec![0; 64]));
                assert!(poll_now(&mut recv).await.is_pending());
                drop(recv);
                assert_eq!(corio::stats().in_flight, 0);
            }
            b.send_all("intact").await.0.unwrap();
            let (result, buf) = a.recv(Vec::with_capacity(64)).await;
            assert_eq!((result.unwrap(), &buf[..]), (6, &b"intact"[..]));
        });
    }

    fn select_works_under_cancel_and_wait(builder) {
        let mut context = builder.drop_policy(DropPolicy::CancelAndWait).build().unwrap();
        context.block_on(async {
            let (a, b) = local_pair().unwrap();
            let (mut naps, mut bytes) = (0, Vec::new());
            let sender = spawn(async move {
                for n in 0..20_u8 {
                    sleep(Duration::from_micros(300)).await;
                    b.send_all(vec![n]).await.0.unwrap();
                }
            });
            while bytes.len() < 20 {
                let mut recv = Box::pin(a.recv(Vec::with_capacity(8)).fuse());
                let mut nap = Box::pin(sleep(Duration::from_micros(200)).fuse());
                futures_util::select! {
                    (result, buf) = recv => {
                        assert_ne!(result.unwrap(), 0);
                        bytes.extend(buf);
                    }
                    () = nap => {
                        naps += 1;
                        // Keep bytes that may have been received: a drop would lose them.
                        let rest = corio::race(recv, std::future::ready(())).await;
                        if let corio::RaceOutput::First((Ok(n), buf), _) = rest {
                            assert_eq!(n, buf.len());
                            bytes.extend(buf);
                        }
                    }
                }
            }
            assert!(naps < 100_000);
            sender.await.unwrap();
        });
    }

    fn a_dropped_accept_closes_the_connection_it_got(builder) {
        alone(|| {
            let mut context = builder.drop_policy(DropPolicy::CancelAndWait).build().unwrap();
            let before = open_fds();
            context.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let address = listener.local_addr().unwrap();
                for round in 0..100 {
                    let mut accept = Box::pin(listener.accept());
                    assert!(poll_now(&mut accept).await.is_pending());
                    let client = std::net::TcpStream::connect(address).unwrap();
                    if round % 2 == 0 {
                        // The completion is reaped, but its result is not taken.
                        yield_now().await;
                    }
                    drop(accept);
                    drop(client);
                }
            });
            assert_eq!(open_fds(), before);
        });
    }

    fn a_dropped_open_closes_the_file_it_got(builder) {
        alone(|| {
            let mut context = builder.drop_policy(DropPolicy::CancelAndWait).build().unwrap();
            // A device is never opened inline.
            let path = if cfg!(unix) { "/dev/null" } else { "Cargo.toml" };
            // At the first open, a driver may open an fd of its own.
            context.block_on(async { drop(corio::fs::File::open(path).await.unwrap()) });
            let before = open_fds();
            context.block_on(async {
                for round in 0..100 {
                    let mut open = Box::pin(corio::fs::File::open(path));
                    assert!(poll_now(&mut open).await.is_pending());
                    for _ in 0..round % 3 {
                        yield_now().await;
                    }
                    drop(open);
                }
            });
            // A thread that is about an open which may wait is left alone, and closes what it gets.
            eventually("all are closed", || open_fds() == before);
        });
    }

    fn a_drop_while_the_context_does_not_run_waits(builder) {
        let mut context = builder.drop_policy(DropPolicy::CancelAndWait).build().unwrap();
        let (recv, other) = receive();
        let slot = Rc::new(RefCell::new(Some(recv)));
        let inner = slot.clone();
        drop(context.spawn(async move {
            let mut recv = inner.borrow_mut().take().unwrap();
            assert!(poll_now(&mut recv).await.is_pending());
            *inner.borrow_mut() = Some(recv);
        }));
        context.poll_once(Some(Duration::ZERO)).unwrap();
        assert_eq!(context.stats().in_flight, 1);
        drop(slot.take());
        assert_eq!(context.stats().in_flight, 0);
        drop(other);
        context.block_on(async { corio::op::AsyncNop::new().await }).unwrap();
    }

    fn a_drop_after_the_context_is_gone_is_harmless(builder) {
        alone(|| {
            let before = open_fds();
            let mut context = builder.build().unwrap();
            let (mut recv, other) = receive();
            let (mut unseen, another) = receive();
            poll_outside_of_tasks(&mut context, recv.as_mut());
            context.poll_once(Some(Duration::ZERO)).unwrap();
            // The kernel has not seen this operation yet.
            poll_outside_of_tasks(&mut context, unseen.as_mut());
            assert_eq!(context.stats().in_flight, 2);
            drop(context);
            drop((recv, unseen));
            drop((other, another));
            assert_eq!(open_fds(), before);
        });
    }

    /// The bytes that the kernel took before the cancel arrive, and no others.
    fn what_a_dropped_send_had_sent_is_whole(builder) {
        let mut context = builder.drop_policy(DropPolicy::CancelAndWait).build().unwrap();
        context.block_on(async {
            let (a, b) = local_pair().unwrap();
            let mut send = Box::pin(a.send_all(vec![0x5a; 4 << 20]));
            assert!(poll_now(&mut send).await.is_pending());
            sleep(SHORT).await;
            drop(send);
            a.shutdown(std::net::Shutdown::Write).await.unwrap();
            let mut total = 0;
            loop {
                let (result, buf) = b.recv(Vec::with_capacity(1 << 16)).await;
                if result.unwrap() == 0 {
                    break;
                }
                assert!(buf.iter().all(|&byte| byte == 0x5a));
                total += buf.len();
            }
            assert!(total < 4 << 20);
        });
    }
}
