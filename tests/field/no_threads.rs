//! Blocking calls where no thread can be had, or all are busy.

use std::io;
use std::sync::mpsc;
use std::time::Duration;

use corio::fs::{File, OpenOptions};
use corio::op::AsyncOpen;

use crate::harness::{Case, Driver, LONG, Outcome, SHORT, make_fifo, seccomp, settle};

every_driver! {
    cases:
    opens_of_fifos_hold_no_other_file_up,
    a_fifo_is_opened_without_a_thread_and_the_loop_goes_on,
    files_are_used_without_a_thread,
    a_lookup_waits_for_no_blocking_work,
}

/// Makes the system refuse threads to this one: `EAGAIN`, as a limit on processes does.
fn refuse_threads() -> io::Result<()> {
    for call in [libc::SYS_clone, libc::SYS_clone3] {
        seccomp::forbid(call as u32..=call as u32, libc::EAGAIN)?;
    }
    Ok(())
}

/// On the readiness driver it fails; a ring has threads of the kernel.
fn a_fifo_is_opened_without_a_thread_and_the_loop_goes_on(case: Case) -> Outcome {
    case.alone(|| {
        if !seccomp::is_here() {
            return Ok(());
        }
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("fifo");
        make_fifo(&path)?;
        let mut context = case.context();
        refuse_threads()?;
        context.block_on(async {
            let error = AsyncOpen::new(&path, libc::O_RDONLY, 0)
                .with_timeout(Duration::from_millis(50))
                .await
                .expect_err("the FIFO has no writer");
            let kinds = [io::ErrorKind::TimedOut, io::ErrorKind::WouldBlock];
            assert!(kinds.contains(&error.kind()), "{error}");
            corio::sleep(SHORT).await;
            // It need not wait: then it works.
            drop(AsyncOpen::new(&path, libc::O_RDONLY | libc::O_NONBLOCK, 0).await?);
            Ok(())
        })
    })
}

fn files_are_used_without_a_thread(case: Case) -> Outcome {
    case.alone(|| {
        if !seccomp::is_here() {
            return Ok(());
        }
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("file");
        let mut context = case.context();
        refuse_threads()?;
        context.block_on(async {
            let file = File::create(&path).await?;
            file.write_all_at("contents", 0).await.0?;
            file.close().await?;
            let null = OpenOptions::new().write(true).open("/dev/null").await;
            assert!(null.is_ok() || case.driver == Driver::Readiness, "{null:?}");
            let file = File::open(&path).await?;
            assert_eq!(file.read_exact_at([0; 8], 0).await.1, *b"contents");
            Ok(())
        })
    })
}

/// On a ring, such an open holds one of the few worker threads that the kernel has for files.
fn opens_of_fifos_hold_no_other_file_up(case: Case) -> Outcome {
    match case.driver {
        Driver::Readiness => case.context().block_on(open_fifos()),
        Driver::IoUring => {
            eprintln!("left out: on a ring each such open holds a worker of the kernel");
            Ok(())
        }
    }
}

async fn open_fifos() -> Outcome {
    let dir = tempfile::tempdir()?;
    let fifos: Vec<_> = (0..20).map(|n| dir.path().join(n.to_string())).collect();
    let mut opens = Vec::new();
    for fifo in &fifos {
        make_fifo(fifo)?;
        opens.push(corio::spawn(AsyncOpen::new(fifo, libc::O_RDONLY, 0)));
    }
    settle().await;
    let path = dir.path().join("file");
    let file = File::create(&path).await?;
    file.write_all_at("contents", 0).await.0?;
    file.sync_all().await?;
    // Half of them get their other ends, the others are given up.
    for (number, (open, fifo)) in opens.into_iter().zip(&fifos).enumerate() {
        if number % 2 == 0 {
            let writer = File::from(AsyncOpen::new(fifo, libc::O_WRONLY, 0).await?);
            drop((open.await??, writer));
        } else {
            open.cancel();
            let cancelled = open.await.map(|opened| corio::op::is_cancelled(&opened.unwrap_err()));
            assert!(cancelled.unwrap_or(true), "the open has another error");
        }
    }
    Ok(())
}

fn a_lookup_waits_for_no_blocking_work(case: Case) -> Outcome {
    case.alone(|| {
        let processors = std::thread::available_parallelism()?.get();
        let mut context = case.context();
        let mut stops = Vec::new();
        context.block_on(async {
            let jobs: Vec<_> = (0..4 * processors + 4)
                .map(|_| {
                    let (stop, wait) = mpsc::channel::<()>();
                    stops.push(stop);
                    // Given up, but still running.
                    corio::spawn(corio::timeout(
                        SHORT,
                        corio::spawn_blocking(move || wait.recv_timeout(LONG).is_ok()),
                    ))
                })
                .collect();
            for job in jobs {
                let _ = job.await;
            }
            assert!(!corio::net::resolve("localhost:80").await?.is_empty());
            Ok::<_, io::Error>(())
        })?;
        drop(stops);
        Ok(())
    })
}
