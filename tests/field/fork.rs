//! Child processes made by `fork(2)`, which have a copy of a context.

// # Why this file has `unsafe`
// It forks, and waits for the child.

use std::io::Write;
use std::rc::Rc;
use std::time::Duration;

use corio::net::UnixStream;
use corio::{IoContext, fs, sleep, timeout};

use crate::harness::{Case, LONG, Outcome, assert_errno};

every_driver! { cases:
    a_child_that_ends_in_order_leaves_the_parent_alone,
    a_child_can_drop_a_context_that_is_watched_for_stalls,
    a_child_forked_inside_a_task_drops_it_in_order,
    operations_in_a_child_fail_and_its_timers_work,
    a_child_can_make_a_context_of_its_own,
    a_wait_in_a_child_for_what_cannot_happen_is_an_error
}

/// How a child ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Status(i32),
    Signal(i32),
}

/// Runs `body` in a forked child, and returns how that ended: with status 0 if `body` returned.
fn forked(body: impl FnOnce()) -> End {
    // SAFETY: the child runs this thread only; what its other threads held is not used there.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "{}", std::io::Error::last_os_error());
    if child == 0 {
        // SAFETY: passes no memory; the signal ends a child that hangs.
        unsafe { libc::alarm(60) };
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        // SAFETY: ends the process.
        unsafe { libc::_exit(ended.is_err().into()) }
    }
    let mut status = 0;
    // SAFETY: `status` is valid for writes.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    match libc::WIFSIGNALED(status) {
        true => End::Signal(libc::WTERMSIG(status)),
        false => End::Status(libc::WEXITSTATUS(status)),
    }
}

/// Runs the context until everything that was spawned waits.
fn settle(context: &mut IoContext) -> Outcome {
    for _ in 0..4 {
        context.poll_once(Some(Duration::ZERO))?;
    }
    Ok(())
}

fn a_child_that_ends_in_order_leaves_the_parent_alone(case: Case) -> Outcome {
    case.alone(|| {
        let mut context = case.context();
        let (ours, mut peer) = std::os::unix::net::UnixStream::pair()?;
        let ours = Rc::new(UnixStream::from(ours));
        let stream = ours.clone();
        let receiving = context.spawn(async move { stream.recv(vec![0; 1]).await });
        let other = ours.clone();
        let polling = context.spawn(async move {
            // In flight on a thread, or on the ring: a path that is never tried inline.
            fs::File::create(format!("/dev/null/{}", other.local_addr().is_ok())).await.err()
        });
        let sleeping = context.spawn(async { sleep(Duration::from_millis(5)).await });
        settle(&mut context)?;
        let mut mine = Some((context, ours, receiving));
        let end = forked(|| {
            let (mut context, ours, receiving) = mine.take().expect("not taken");
            receiving.cancel();
            drop(ours);
            context.block_on(async {
                let (result, _) = receiving.await.expect("a task that ends");
                assert_errno(result, libc::ECANCELED);
            });
            drop(context);
        });
        let (mut context, _ours, receiving) = mine.take().expect("the child has a copy");
        assert_eq!(end, End::Status(0));
        peer.write_all(b"x")?;
        context.block_on(async {
            let (result, buf) = timeout(LONG, receiving).await??;
            assert_eq!((result?, &buf[..]), (1, &b"x"[..]));
            sleeping.await?;
            assert!(polling.await?.is_some());
            Ok(())
        })
    })
}

/// The thread that watches does not exist in the child.
fn a_child_can_drop_a_context_that_is_watched_for_stalls(case: Case) -> Outcome {
    case.alone(|| {
        let watched = case.driver.builder().watch_stalls(LONG, |_| {});
        let mut context = Some(watched.build()?);
        assert_eq!(forked(|| drop(context.take())), End::Status(0));
        context.take().expect("the child has a copy").block_on(async {});
        Ok(())
    })
}

fn a_child_forked_inside_a_task_drops_it_in_order(case: Case) -> Outcome {
    case.alone(|| {
        let mut context = case.context();
        let (a, b) = UnixStream::pair()?;
        context.block_on(async {
            let stream = Rc::new(b);
            let other = stream.clone();
            let receiving = corio::spawn(async move { other.recv(vec![0; 8]).await });
            corio::yield_now().await;
            corio::yield_now().await;
            let (mut parts, mut chunks) = (Some((stream, receiving)), a.recv_stream());
            let nothing = timeout(Duration::from_millis(1), chunks.recv()).await;
            assert!(matches!(nothing, Err(_) | Ok(Err(_))), "nothing was sent");
            let end = forked(|| drop(parts.take()));
            assert_eq!(end, End::Status(0));
            let (stream, receiving) = parts.take().expect("the child has a copy");
            a.send_all("parent").await.0?;
            let (result, _) = receiving.await?;
            assert_eq!(result?, 6);
            stream.send_all("reply").await.0?;
            let reply = chunks.recv().await?.expect("a reply");
            assert_eq!(&reply[..], b"reply");
            Ok(())
        })
    })
}

fn operations_in_a_child_fail_and_its_timers_work(case: Case) -> Outcome {
    case.alone(|| {
        let mut context = case.context();
        let (a, _b) = UnixStream::pair()?;
        let mut parts = Some((context, a));
        let end = forked(|| {
            let (mut context, a) = parts.take().expect("not taken");
            assert_eq!(context.driver_name(), "forked");
            context.block_on(async {
                assert_errno(a.send("x").await.0, libc::ECANCELED);
                assert_errno(fs::File::open("Cargo.toml").await.map(drop), libc::ECANCELED);
                sleep(Duration::from_millis(2)).await;
                let task = corio::spawn(async { 7 });
                assert_eq!(task.await.expect("a task that ends"), 7);
            });
        });
        assert_eq!(end, End::Status(0));
        let a;
        (context, a) = parts.take().expect("the child has a copy");
        context.block_on(async {
            a.send("x").await.0?;
            Ok(())
        })
    })
}

fn a_child_can_make_a_context_of_its_own(case: Case) -> Outcome {
    case.alone(|| {
        let mut context = case.context();
        let task = context.spawn(async {
            let (a, _b) = UnixStream::pair()?;
            a.recv(vec![0; 1]).await.0
        });
        settle(&mut context)?;
        let mut parts = Some((context, task));
        let end = forked(|| {
            drop(parts.take());
            case.context().block_on(async {
                let (a, b) = UnixStream::pair().expect("a pair");
                let receiving = corio::spawn(async move { b.recv(vec![0; 8]).await });
                a.send_all("own").await.0.expect("a send");
                assert_eq!(receiving.await.expect("an end").0.expect("bytes"), 3);
                fs::File::open("Cargo.toml").await.expect("a file");
            });
        });
        assert_eq!(end, End::Status(0));
        Ok(())
    })
}

fn a_wait_in_a_child_for_what_cannot_happen_is_an_error(case: Case) -> Outcome {
    case.alone(|| {
        let mut context = case.context();
        let end = forked(|| {
            let error = context.poll_once(None).expect_err("nothing can happen");
            assert!(error.to_string().contains("parent process"), "{error}");
        });
        assert_eq!(end, End::Status(0));
        let end = forked(|| context.block_on(std::future::pending()));
        assert_eq!(end, End::Signal(libc::SIGABRT));
        context.block_on(async {});
        Ok(())
    })
}
