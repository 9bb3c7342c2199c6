//! What the tests share: drop counters, child processes, a guard against hanging.
//!
//! # Why this file has `unsafe`
//! Child processes set themselves an alarm clock.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::process::{Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use corio::IoContext;
use corio::op::AsyncNop;

pub(crate) use crate::pairs::{LocalStream, local_pair, std_pair};

/// Longer than any test takes, on however busy a machine.
const POLL_BUDGET: Duration = Duration::from_secs(120);

/// So long that a test which waits for it is caught by the guard.
pub(crate) const LONG: Duration = Duration::from_secs(3600);

/// A duration after which something may have happened; no test depends on which.
pub(crate) const SHORT: Duration = Duration::from_millis(1);

type Running = Vec<(thread::ThreadId, String, Instant)>;

/// Runs a test; the process is aborted, with the test's name, if that takes for ever.
pub(crate) fn guarded(test: impl FnOnce()) {
    static RUNNING: Mutex<Option<Running>> = Mutex::new(None);

    fn watch() -> ! {
        loop {
            thread::sleep(Duration::from_secs(1));
            let running = RUNNING.lock().unwrap();
            for (_, name, since) in running.iter().flatten() {
                if since.elapsed() > POLL_BUDGET {
                    eprintln!("the test {name} hangs");
                    std::process::abort();
                }
            }
        }
    }

    struct Over(thread::ThreadId);
    impl Drop for Over {
        fn drop(&mut self) {
            let mut running = RUNNING.lock().unwrap();
            running.as_mut().unwrap().retain(|(id, ..)| *id != self.0);
        }
    }

    let this = thread::current();
    let mut running = RUNNING.lock().unwrap();
    if running.is_none() {
        thread::spawn(|| watch());
    }
    let name = this.name().unwrap_or("?").to_owned();
    running.get_or_insert_default().push((this.id(), name, Instant::now()));
    drop(running);
    let _over = Over(this.id());
    test();
}

/// Counts how often it was dropped.
#[derive(Clone, Default)]
pub(crate) struct Drops(Rc<Cell<u32>>);

/// What [`Drops`] counts.
pub(crate) struct Counted(Rc<Cell<u32>>);

impl Drops {
    pub(crate) fn one(&self) -> Counted {
        Counted(self.0.clone())
    }

    pub(crate) fn count(&self) -> u32 {
        self.0.get()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

/// Calls a closure when dropped.
pub(crate) struct OnDrop<F: FnMut()>(pub(crate) F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Polls `future` once, with the task's own waker.
pub(crate) async fn poll_now<F: Future + ?Sized>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

/// Polls `future`, which must not be done yet, within a running context but outside of any task.
pub(crate) fn poll_outside_of_tasks<F: Future + ?Sized>(
    context: &mut IoContext,
    future: Pin<&mut F>,
) {
    let handle = context.handle();
    let mut future = Some(future);
    drop(context.spawn(AsyncNop::new()));
    let tick = |_: &IoContext| {
        if let Some(future) = future.take() {
            let mut cx = Context::from_waker(Waker::noop());
            assert!(future.poll(&mut cx).is_pending());
            handle.stop();
        }
    };
    context.run(tick).unwrap();
}

/// Takes the current task's waker.
pub(crate) async fn waker() -> Waker {
    poll_fn(|cx| Poll::Ready(cx.waker().clone())).await
}

/// An event that any thread can signal and one task can wait for.
#[derive(Clone, Default)]
pub(crate) struct Event(Arc<Mutex<(bool, Option<Waker>)>>);

impl Event {
    pub(crate) fn signal(&self) {
        let mut state = self.0.lock().unwrap();
        state.0 = true;
        let waker = state.1.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) async fn wait(&self) {
        poll_fn(|cx| {
            let mut state = self.0.lock().unwrap();
            if state.0 {
                return Poll::Ready(());
            }
            state.1 = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// How many file descriptors (handles, on Windows) this process has. Only good in a
/// [process of its own](alone).
#[cfg(unix)]
pub(crate) fn fds() -> usize {
    // One of them is the directory's own.
    std::fs::read_dir("/proc/self/fd").unwrap().count() - 1
}

/// Windows tells the truth, Wine always zero.
#[cfg(windows)]
pub(crate) fn fds() -> usize {
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

/// How a process ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Well,
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
        let aborted = status.code() == Some(0xC000_0409_u32 as i32); // What `abort` gives there.
        match status {
            _ if aborted => End::Aborted,
            status if status.success() => End::Well,
            status => End::Otherwise(status),
        }
    }
}

const INSIDE: &str = "CORIO_LIFECYCLE_CHILD";

/// Runs `body` in a process of its own, by running this very test again there; gives its stderr
/// and how it ended. `None`: this is that process, and the body is over.
fn in_child(body: impl FnOnce()) -> Option<(End, String)> {
    let name = thread::current().name().expect("tests have names").to_owned();
    if std::env::var(INSIDE).is_ok_and(|inside| inside == name) {
        #[cfg(unix)]
        // SAFETY: passes no memory; the signal ends the process.
        unsafe {
            libc::alarm(POLL_BUDGET.as_secs() as u32)
        };
        body();
        return None;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture", "--test-threads=2"])
        .env(INSIDE, &name)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let end = End::of(output.status);
    if end == End::Well {
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(printed.contains("1 passed"), "the child did not run {name}:\n{printed}");
    }
    Some((end, text))
}

/// Runs `body` in a process of its own, which must end well: for what a process has only once.
pub(crate) fn alone(body: impl FnOnce()) {
    if let Some((end, stderr)) = in_child(body) {
        assert_eq!(end, End::Well, "the child failed:\n{stderr}");
    }
}

/// Runs `body` in a process of its own, which must end well; gives its stderr to `check`.
pub(crate) fn reports(body: impl FnOnce(), check: impl FnOnce(&str)) {
    if let Some((end, stderr)) = in_child(body) {
        assert_eq!(end, End::Well, "the child failed:\n{stderr}");
        check(&stderr);
    }
}

/// Runs `body` in a process of its own, which must abort; gives its stderr to `check`.
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
