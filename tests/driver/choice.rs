//! The choice of the driver, and what a context reports about it.

// # Why this file has `unsafe`
// It sets a limit of its process.

use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;

use corio::fs::File;
use corio::net::{TcpListener, TcpStream};
use corio::{DriverChoice, IoContext, SetupError};

#[cfg(target_os = "linux")]
use crate::harness::limit_fds;
#[cfg(target_os = "linux")]
use crate::harness::seccomp::{self, REGISTER, SETUP, forbid};
use crate::harness::{Case, Driver, Outcome, errno};

every_driver! {
    cases:
    the_builder_chooses_the_driver,
    the_environment_chooses_the_driver,
    the_builder_overrules_the_environment,
    an_unknown_driver_name_is_refused,
}

#[cfg(target_os = "linux")]
every_driver! {
    cases:
    the_automatic_choice_falls_back_if_seccomp_forbids_io_uring,
    a_context_works_without_lockable_memory,
    running_out_of_fds_is_an_error_of_the_operation,
}

fn name(driver: Driver) -> &'static str {
    match driver {
        Driver::IoUring => "io_uring",
        Driver::Readiness => "readiness",
    }
}

fn the_builder_chooses_the_driver(case: Case) -> Outcome {
    let context = case.context();
    assert_eq!(context.driver_name(), name(case.driver));
    assert!(context.fallback_reason().is_none());
    let flags = context.setup_flags();
    assert_eq!(context.ring_fd().is_some(), case.driver == Driver::IoUring);
    let selector = flags.iter().any(|flag| ["epoll", "kqueue", "AFD"].contains(flag));
    assert_eq!(selector, case.driver == Driver::Readiness, "{flags:?}");
    Ok(())
}

/// Sets `CORIO_DRIVER`; only in a child process.
fn set_environment(value: &str) {
    // SAFETY: the only other thread waits for this one.
    unsafe { std::env::set_var("CORIO_DRIVER", value) };
}

fn the_environment_chooses_the_driver(case: Case) -> Outcome {
    case.alone(|| {
        set_environment(if case.driver == Driver::IoUring { "uring" } else { "readiness" });
        assert_eq!(IoContext::new(8)?.driver_name(), name(case.driver));
        set_environment("auto");
        let context = IoContext::new(8)?;
        let io_uring = Driver::IoUring.is_here();
        assert_eq!(context.driver_name(), if io_uring { "io_uring" } else { "readiness" });
        assert_eq!(context.fallback_reason().is_none(), io_uring);
        Ok(())
    })
}

fn the_builder_overrules_the_environment(case: Case) -> Outcome {
    case.alone(|| {
        for other in ["uring", "readiness", "nonsense"] {
            set_environment(other);
            assert_eq!(case.context().driver_name(), name(case.driver));
        }
        Ok(())
    })
}

fn an_unknown_driver_name_is_refused(case: Case) -> Outcome {
    case.alone(|| {
        for wrong in ["", "io_uring", "epoll", "AUTO"] {
            set_environment(wrong);
            let error = IoContext::new(8).expect_err("an error");
            assert!(matches!(error, SetupError::UnknownDriver(_)), "{error}");
            let message = error.to_string();
            assert!(message.contains(&format!("{wrong:?}")), "{message}");
            assert!(message.contains("auto, uring or readiness"), "{message}");
        }
        Ok(())
    })
}

/// Uses files, sockets and timers.
fn works(context: &mut IoContext) -> io::Result<()> {
    context.block_on(async {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("file");
        File::create(&path).await?.write_all_at("contents", 0).await.0?;
        let (result, text) = File::open(&path).await?.read_at(Vec::with_capacity(64), 0).await;
        assert_eq!((result?, &text[..]), (8, &b"contents"[..]));

        let listener = TcpListener::bind("127.0.0.1:0")?;
        let client = TcpStream::connect(listener.local_addr()?).await?;
        let (server, _) = listener.accept().await?;
        let echo = corio::spawn(async move {
            let (result, text) = server.recv(Vec::with_capacity(64)).await;
            result?;
            server.send_all(text).await.0
        });
        corio::sleep(std::time::Duration::from_millis(1)).await;
        client.send_all("hello").await.0?;
        let (result, answer) = client.recv_exact(vec![0; 5]).await;
        result?;
        assert_eq!(answer, b"hello");
        echo.await.expect("no panic")?;
        Ok(())
    })
}

/// A context on the driver of the automatic choice, or on the readiness driver.
fn automatic(case: Case) -> Result<IoContext, SetupError> {
    match case.driver {
        Driver::IoUring => IoContext::builder().driver(DriverChoice::Auto).build(),
        Driver::Readiness => case.driver.builder().build(),
    }
}

#[cfg(target_os = "linux")]
fn the_automatic_choice_falls_back_if_seccomp_forbids_io_uring(case: Case) -> Outcome {
    if !seccomp::is_here() {
        return Ok(());
    }
    case.alone(|| {
        for errno in [errno::ENOSYS, errno::EPERM] {
            // A filter lasts as long as its thread.
            let thread = std::thread::spawn(move || {
                forbid(SETUP..=REGISTER, errno)?;
                let mut context = automatic(case).map_err(io::Error::other)?;
                assert_eq!(context.driver_name(), "readiness");
                if case.driver == Driver::IoUring {
                    let reason = context.fallback_reason().expect("a reason").to_string();
                    assert!(reason.contains("seccomp"), "{reason}");
                }
                works(&mut context)
            });
            thread.join().expect("no panic")?;
        }
        Ok(())
    })
}

/// Rings were counted against this limit before Linux 5.12.
#[cfg(target_os = "linux")]
fn a_context_works_without_lockable_memory(case: Case) -> Outcome {
    case.alone(|| {
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: a valid limit.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &none) }, 0);
        let mut context = automatic(case)?;
        let memory = matches!(context.fallback_reason(), Some(SetupError::Memory { .. }));
        assert!(context.fallback_reason().is_none() || memory);
        Ok(works(&mut context)?)
    })
}

#[cfg(target_os = "linux")]
fn running_out_of_fds_is_an_error_of_the_operation(case: Case) -> Outcome {
    case.alone(|| {
        let mut context = automatic(case)?;
        works(&mut context)?;
        let next = std::fs::File::open("Cargo.toml")?.as_raw_fd() as u64;
        // Too few fds for both ends of a connection: an error, and nothing else.
        let old = limit_fds(next + 2)?;
        let refused = works(&mut context);
        limit_fds(old)?;
        let error = refused.expect_err("no fd was left");
        assert_eq!(error.raw_os_error(), Some(errno::EMFILE), "{error}");
        Ok(works(&mut context)?)
    })
}
