//! Test bodies in child processes: the test program, started again with one test.

// # Why this file has `unsafe`
// Child processes set an alarm with `alarm(2)`, and on Windows the number of handles is queried.

use std::process::{Command, ExitStatus, Stdio};

use super::guard::{TIME_LIMIT, start, test_name};

/// How a process ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Success,
    Aborted,
    Otherwise(ExitStatus),
}

impl End {
    fn of(status: ExitStatus) -> Self {
        #[cfg(unix)]
        let aborted = {
            use std::os::unix::process::ExitStatusExt;
            status.signal() == Some(libc::SIGABRT)
        };
        #[cfg(windows)]
        // The exit code of `abort` on Windows: STATUS_STACK_BUFFER_OVERRUN.
        let aborted = status.code() == Some(0xC000_0409_u32 as i32);
        match status {
            _ if aborted => End::Aborted,
            status if status.success() => End::Success,
            status => End::Otherwise(status),
        }
    }
}

/// The environment variable that names the child's test.
const INSIDE: &str = "CORIO_TEST_CHILD";

/// A command that starts this program again, by `CORIO_TEST_RUNNER` if that is set: the command
/// line of an emulator which this machine needs to run it.
fn this_program() -> Command {
    let program = std::env::current_exe().unwrap();
    let runner = std::env::var("CORIO_TEST_RUNNER").unwrap_or_default();
    let mut words = runner.split_whitespace();
    match words.next() {
        None => Command::new(program),
        Some(first) => {
            let mut command = Command::new(first);
            command.args(words).arg(program);
            command
        }
    }
}

/// Runs `body` in a child process, by running this very test again there; returns how the child
/// ended and its stderr. Returns `None` in the child, after the body.
fn in_child(body: impl FnOnce()) -> Option<(End, String)> {
    let name = test_name();
    if std::env::var(INSIDE).is_ok_and(|inside| inside == name) {
        #[cfg(unix)]
        // SAFETY: passes no memory; the signal ends the process.
        unsafe {
            libc::alarm(TIME_LIMIT.as_secs() as u32)
        };
        body();
        return None;
    }
    // With one thread, the test would run on the main thread, which does not have the test's name.
    let mut command = this_program();
    command
        .args(["--exact", &name, "--nocapture", "--test-threads=2"])
        .env(INSIDE, &name)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = start(&mut command).wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let end = End::of(output.status);
    let stdout = String::from_utf8_lossy(&output.stdout);
    if end == End::Success {
        assert!(stdout.contains("1 passed"), "the child did not run {name}:\n{stdout}");
    } else {
        print!("{stdout}");
    }
    Some((end, stderr))
}

/// Runs `body` in a child process, which must succeed: for tests that change process-wide state.
pub(crate) fn alone(body: impl FnOnce()) {
    reports(body, |_| {});
}

/// Runs `body` in a child process, which must succeed; passes its stderr to `check`.
pub(crate) fn reports(body: impl FnOnce(), check: impl FnOnce(&str)) {
    if let Some((end, stderr)) = in_child(body) {
        assert_eq!(end, End::Success, "the child failed:\n{stderr}");
        check(&stderr);
    }
}

/// Runs `body` in a child process, which must abort; passes its stderr to `check`.
pub(crate) fn aborts(body: impl FnOnce(), check: impl FnOnce(&str)) {
    match in_child(body) {
        Some((end, stderr)) => {
            assert_eq!(end, End::Aborted, "no abort:\n{stderr}");
            check(&stderr);
        }
        None => panic!("this should have aborted"),
    }
}

/// Runs `body`, which must panic with a message that contains `text`.
pub(crate) fn panics_with(text: &str, body: impl FnOnce()) {
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body))
        .expect_err("this should have panicked");
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("(no text)");
    assert!(message.contains(text), "the panic says {message:?}, not {text:?}");
}

/// How many file descriptors (handles, on Windows) this process has open; meaningful only where
/// no other test runs: in a [child process](alone).
#[cfg(unix)]
pub(crate) fn open_fds() -> usize {
    // One of them is the directory's own.
    std::fs::read_dir("/proc/self/fd").expect("/proc is there").count() - 1
}

/// On Windows this is the real number, under Wine always zero.
#[cfg(windows)]
pub(crate) fn open_fds() -> usize {
    unsafe extern "system" {
        fn GetProcessHandleCount(process: isize, count: *mut u32) -> i32;
    }
    let mut count = 0;
    // SAFETY: -1 is this process, and the count is written to a place of its type.
    assert_ne!(unsafe { GetProcessHandleCount(-1, &mut count) }, 0);
    count as usize
}

/// How many threads this process has.
#[cfg(unix)]
pub(crate) fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}
