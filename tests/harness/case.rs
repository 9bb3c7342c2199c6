//! A test as a plain function: its argument, its result and its context.

use std::io;

use corio::IoContext;

use super::{Driver, alone};

/// The result of a test: any error fails it.
pub(crate) type Outcome = Result<(), Box<dyn std::error::Error>>;

/// One test on one driver.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) driver: Driver,
}

impl Case {
    /// A fresh context.
    pub(crate) fn context(&self) -> IoContext {
        self.driver.builder().build().expect("a context")
    }

    /// Runs `body` in a child process, in which no other test runs.
    ///
    /// For tests that count the process's fds, or change what belongs to the process.
    pub(crate) fn alone(&self, body: impl FnOnce() -> Outcome) -> Outcome {
        alone(|| check(body()));
        Ok(())
    }
}

/// Runs an async test in a context of its own, which must have nothing in flight afterwards.
pub(crate) fn run<F: Future<Output = Outcome>>(driver: Driver, body: impl FnOnce() -> F) {
    let mut context = Case { driver }.context();
    check(context.block_on(body()));
    assert_at_rest(&context);
}

/// Runs a test that makes its contexts itself.
pub(crate) fn run_case(driver: Driver, body: impl FnOnce(Case) -> Outcome) {
    check(body(Case { driver }));
}

#[track_caller]
fn check(outcome: Outcome) {
    if let Err(error) = outcome {
        panic!("{error} ({error:?})");
    }
}

/// Everything that was submitted has ended.
pub(crate) fn assert_at_rest(context: &IoContext) {
    let stats = context.stats();
    assert_eq!(stats.in_flight, 0, "{:?}", context.in_flight());
    for &code in corio::OpCode::ALL {
        let one = stats.of(code);
        assert_eq!(one.submitted, one.completed, "{code}");
        assert!(one.failed <= one.completed, "{code}");
    }
}

/// Checks an error's number.
#[track_caller]
pub(crate) fn assert_errno<T: std::fmt::Debug>(result: io::Result<T>, errno: i32) {
    let error = result.expect_err("an error");
    assert_eq!(error.raw_os_error(), Some(errno), "{error}");
}

/// Checks an error's kind.
#[track_caller]
pub(crate) fn assert_kind<T: std::fmt::Debug>(result: io::Result<T>, kind: io::ErrorKind) {
    let error = result.expect_err("an error");
    assert_eq!(error.kind(), kind, "{error}");
}
