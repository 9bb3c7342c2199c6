//! Contexts that cannot be built, and the errors that say why.

use std::io;

use corio::{DriverChoice, IoContext, SetupError};

#[cfg(target_os = "linux")]
use crate::harness::seccomp::{self, ENTER, REGISTER, SETUP, forbid};
use crate::harness::{Case, Driver, Outcome, errno};
#[cfg(target_os = "linux")]
use crate::harness::{limit_fds, open_fds};

every_driver! {
    cases:
    queue_sizes_out_of_range_are_refused,
    a_second_context_on_a_thread_is_refused,
    each_thread_can_have_a_context,
}

#[cfg(target_os = "linux")]
every_driver! {
    cases:
    set_up_without_a_free_fd_is_reported,
    a_failed_set_up_leaks_nothing,
    io_uring_forbidden_by_seccomp_is_reported_as_policy,
    a_kernel_without_io_uring_is_reported,
    a_filter_of_some_io_uring_calls_is_reported_as_policy,
}

fn queue_sizes_out_of_range_are_refused(case: Case) -> Outcome {
    for entries in [0, 32_769, u32::MAX] {
        let error = case.driver.builder().entries(entries).build().expect_err("an error");
        assert!(matches!(error, SetupError::InvalidEntries { .. }), "{error}");
        assert!(error.to_string().contains(&entries.to_string()), "{error}");
    }
    for entries in [0, 7, 65_537] {
        let builder = case.driver.builder().entries(8).completion_entries(entries);
        let error = builder.build().expect_err("an error");
        assert!(matches!(error, SetupError::InvalidEntries { .. }), "{error}");
    }
    // The smallest and the largest size, and one that is no power of two.
    for (entries, granted) in [(1, 1), (5, 8), (32_768, 32_768)] {
        let context = case.driver.builder().entries(entries).build()?;
        assert_eq!(context.queue_sizes().0, granted);
    }
    Ok(())
}

fn a_second_context_on_a_thread_is_refused(case: Case) -> Outcome {
    let line = line!() + 1;
    let first = case.driver.builder().build()?;
    let error = case.driver.builder().build().expect_err("an error");
    assert!(matches!(error, SetupError::SecondContext(_)), "{error}");
    let message = error.to_string();
    assert!(message.contains(&format!("{}:{line}", file!())), "{message}");
    assert!(message.contains("drop that one first"), "{message}");
    drop(first);
    case.driver.builder().build()?;
    Ok(())
}

fn each_thread_can_have_a_context(case: Case) -> Outcome {
    let threads: Vec<_> = (0..16)
        .map(|number| std::thread::spawn(move || case.context().block_on(async move { number })))
        .collect();
    for (number, thread) in threads.into_iter().enumerate() {
        assert_eq!(thread.join().expect("no panic"), number);
    }
    Ok(())
}

/// Whichever of the context's fds is the one that cannot be opened.
#[cfg(target_os = "linux")]
fn set_up_without_a_free_fd_is_reported(case: Case) -> Outcome {
    case.alone(|| {
        let next_free = std::os::fd::AsRawFd::as_raw_fd(&tempfile::tempfile()?) as u64;
        let mut refused = 0;
        loop {
            let old = limit_fds(next_free + refused)?;
            let built = case.driver.builder().build();
            limit_fds(old)?;
            let Err(error) = built else { break };
            assert!(matches!(error, SetupError::Descriptors(_)), "{refused} left: {error}");
            assert!(error.to_string().contains("ulimit -n"), "{error}");
            refused += 1;
        }
        assert!((1..10).contains(&refused), "{refused}");
        Ok(())
    })
}

#[cfg(target_os = "linux")]
fn a_failed_set_up_leaks_nothing(case: Case) -> Outcome {
    case.alone(|| {
        let before = open_fds();
        for left in 0..3 {
            let old = limit_fds(before as u64 + left)?;
            let built = case.driver.builder().build();
            limit_fds(old)?;
            drop(built);
            assert_eq!(open_fds(), before);
        }
        drop(case.context());
        assert_eq!(open_fds(), before);
        Ok(())
    })
}

/// The error of a context on a thread whose filter refuses `calls`. The thread is a new one, as a
/// filter lasts as long as its thread.
#[cfg(target_os = "linux")]
fn refused(
    case: Case,
    calls: std::ops::RangeInclusive<u32>,
    errno: i32,
) -> Result<Option<SetupError>, Box<dyn std::error::Error>> {
    if !seccomp::is_here() {
        return Ok(None);
    }
    let thread = std::thread::spawn(move || {
        forbid(calls, errno)?;
        Ok::<_, io::Error>(case.driver.builder().build().map(drop))
    });
    let built = thread.join().expect("no panic")?;
    match case.driver {
        Driver::IoUring => Ok(Some(built.expect_err("an error"))),
        // The readiness driver does not need those calls.
        Driver::Readiness => Ok(built.map(|()| None)?),
    }
}

#[cfg(target_os = "linux")]
fn io_uring_forbidden_by_seccomp_is_reported_as_policy(case: Case) -> Outcome {
    for errno in [errno::EPERM, errno::EACCES] {
        let Some(error) = refused(case, SETUP..=REGISTER, errno)? else { continue };
        assert!(matches!(error, SetupError::ForbiddenByPolicy(_)), "{error}");
        let message = error.to_string();
        assert!(
            message.contains("seccomp") && message.contains("allow io_uring_setup"),
            "{message}"
        );
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn a_kernel_without_io_uring_is_reported(case: Case) -> Outcome {
    let Some(error) = refused(case, SETUP..=REGISTER, errno::ENOSYS)? else { return Ok(()) };
    assert!(matches!(error, SetupError::Missing(_)), "{error}");
    let message = error.to_string();
    assert!(message.contains("5.13") && message.contains("seccomp"), "{message}");
    Ok(())
}

/// The error blames the filter of some calls, not the kernel's version.
#[cfg(target_os = "linux")]
fn a_filter_of_some_io_uring_calls_is_reported_as_policy(case: Case) -> Outcome {
    for calls in [ENTER..=ENTER, REGISTER..=REGISTER, ENTER..=REGISTER] {
        let Some(error) = refused(case, calls.clone(), errno::EPERM)? else { continue };
        assert!(matches!(error, SetupError::ForbiddenByPolicy(_)), "{calls:?}: {error}");
    }
    Ok(())
}

/// `.ci/kernels` boots hosts that refuse io_uring in ways that no test can arrange, and says by
/// which error.
#[test]
fn the_error_says_how_this_host_refuses_io_uring() {
    let Ok(expected) = std::env::var("CORIO_TEST_SETUP_ERROR") else {
        return println!("left out: only .ci/kernels knows which error this host should give");
    };
    let build = |choice| IoContext::builder().driver(choice).build();
    let error = build(DriverChoice::Uring).expect_err("an error");
    assert_eq!(format!("{error:?}"), expected);
    let mut context = build(DriverChoice::Auto).expect("the readiness driver");
    let reason = context.fallback_reason().map(ToString::to_string);
    assert_eq!((context.driver_name(), reason), ("readiness", Some(expected)));
    context.block_on(corio::sleep(std::time::Duration::from_millis(1)));
}
