//! How a test is run: on each driver, in a context of its own, and never for ever.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use corio::IoContext;

use crate::drivers::Driver;

/// What a test gives: any error fails it.
pub(crate) type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Lists a file's tests; see the suite's page. A test that is not listed is dead code, about
/// which the compiler warns.
macro_rules! conformance {
    ($($name:ident),* $(,)? $(; cases: $($case:ident),+ $(,)?)?) => {
        $(mod $name {
            on_every_driver!(|driver, test| {
                $crate::harness::run($crate::harness::Case::new(driver, test), super::$name)
            });
        })*
        $($(mod $case {
            on_every_driver!(|driver, test| {
                $crate::harness::run_case($crate::harness::Case::new(driver, test), super::$case)
            });
        })+)?
    };
}

/// One test on one driver.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) driver: Driver,
    /// The name that the test harness knows it by.
    test: &'static str,
}

/// Set in a test's process of its own.
const ALONE: &str = "CORIO_CONFORMANCE_ALONE";

/// No test takes nearly so long, on any machine.
const LIMIT: Duration = Duration::from_secs(60);

impl Case {
    pub(crate) fn new(driver: Driver, path: &'static str) -> Self {
        // The harness leaves the name of the crate out.
        let test = path.split_once("::").map_or(path, |(_, rest)| rest);
        Case { driver, test }
    }

    /// A fresh context.
    pub(crate) fn context(&self) -> IoContext {
        self.driver.builder().build().expect("a context")
    }

    /// Runs `body` in a process in which nothing else happens: the test starts itself anew.
    ///
    /// For tests that count the process's fds, or change what belongs to the process.
    pub(crate) fn alone(&self, body: impl FnOnce() -> Outcome) -> Outcome {
        if std::env::var_os(ALONE).is_some() {
            return body();
        }
        let output = this_program()?
            .args(["--exact", self.test, "--test-threads=1", "--nocapture"])
            .env(ALONE, "1")
            .output()?;
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(
            output.status.success() && stdout.contains("1 passed"),
            "{} alone: {}\n{stdout}\n{stderr}",
            self.test,
            output.status
        );
        Ok(())
    }
}

/// This program, to be started anew: by what `CORIO_TEST_RUNNER` says, if it needs help to run here.
fn this_program() -> io::Result<Command> {
    let program = std::env::current_exe()?;
    let runner = std::env::var("CORIO_TEST_RUNNER").unwrap_or_default();
    let mut words = runner.split_whitespace();
    Ok(match words.next() {
        None => Command::new(program),
        Some(first) => {
            let mut command = Command::new(first);
            command.args(words).arg(program);
            command
        }
    })
}

/// Runs an async test in a context of its own, which must be at rest afterwards.
pub(crate) fn run<F: Future<Output = Outcome>>(case: Case, body: impl FnOnce() -> F) {
    run_case(case, |case: Case| {
        let mut context = case.context();
        context.block_on(body())?;
        assert_at_rest(&context);
        Ok(())
    });
}

/// Runs a test that makes its contexts itself.
pub(crate) fn run_case(case: Case, body: impl FnOnce(Case) -> Outcome) {
    match guarded(case, || body(case)) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => panic!("{error} ({error:?})"),
        Err(panic) => resume_unwind(panic),
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

/// Ends the process if `body` hangs: a test run that stops is of no use to anybody.
fn guarded<T>(case: Case, body: impl FnOnce() -> T) -> std::thread::Result<T> {
    let (done, wait) = mpsc::channel::<()>();
    let guard = std::thread::spawn(move || {
        if wait.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("{} hangs", case.test);
            std::process::abort();
        }
    });
    let result = catch_unwind(AssertUnwindSafe(body));
    drop(done);
    guard.join().expect("the guard does not panic");
    result
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
