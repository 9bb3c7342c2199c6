//! The time limit of a test, and its peace while others start child processes.

use std::cell::Cell;
use std::process::{Child, Command};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than any test takes, on however busy a machine.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(120);

type Running = Vec<(thread::ThreadId, String, Instant)>;

thread_local! {
    /// The test that this thread runs, if it is one of `every_driver!`.
    static TEST: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// The name of the test that this thread runs, as `cargo test` knows it.
pub(crate) fn test_name() -> String {
    let named = || thread::current().name().map(str::to_owned);
    TEST.get().map(str::to_owned).or_else(named).expect("the threads of tests have names")
}

/// Runs a test that is called `name`, as [`guarded`] does.
pub(crate) fn guarded_as(name: &'static str, test: impl FnOnce()) {
    TEST.set(Some(name));
    guarded(test);
}

/// Runs a test; aborts the process, with the test's name, if that exceeds [`TIME_LIMIT`].
pub(crate) fn guarded(test: impl FnOnce()) {
    static RUNNING: Mutex<Option<Running>> = Mutex::new(None);

    fn watch() -> ! {
        loop {
            thread::sleep(Duration::from_secs(1));
            let running = RUNNING.lock().unwrap();
            for (_, name, since) in running.iter().flatten() {
                if since.elapsed() > TIME_LIMIT {
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
            TEST.set(None);
        }
    }

    let _here = PEACE.enter();
    let this = thread::current().id();
    let mut running = RUNNING.lock().unwrap();
    // Miri reports a thread that the process does not wait for, as a leak.
    if running.is_none() && !cfg!(miri) {
        thread::spawn(|| watch());
    }
    running.get_or_insert_default().push((this, test_name(), Instant::now()));
    drop(running);
    let _over = Over(this);
    test();
}

/// Lets no test run while another starts a child process, which has copies of all fds until it
/// executes its program: what a test closes would stay open for that moment, or for as long as a
/// busy machine makes of it.
struct Peace {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    running: usize,
    /// Tests that wait to start a child, or are about it.
    starting: usize,
}

static PEACE: Peace =
    Peace { state: Mutex::new(State { running: 0, starting: 0 }), changed: Condvar::new() };

thread_local! {
    /// This thread's test counts in `running`.
    static COUNTS: Cell<bool> = const { Cell::new(false) };
}

/// A test that is running.
struct Here;

impl Drop for Here {
    fn drop(&mut self) {
        COUNTS.set(false);
        PEACE.state.lock().unwrap().running -= 1;
        PEACE.changed.notify_all();
    }
}

impl Peace {
    fn enter(&self) -> Here {
        let state = self.state.lock().unwrap();
        let mut state = self.changed.wait_while(state, |state| state.starting > 0).unwrap();
        state.running += 1;
        COUNTS.set(true);
        Here
    }
}

/// Starts a child process while no other test runs.
pub(crate) fn start(command: &mut Command) -> Child {
    let counts = usize::from(COUNTS.get());
    let mut state = PEACE.state.lock().unwrap();
    state.running -= counts;
    state.starting += 1;
    PEACE.changed.notify_all();
    let mut state = PEACE.changed.wait_while(state, |state| state.running > 0).unwrap();
    // Returns when the program is executed; the lock keeps others from starting theirs.
    let child = command.spawn();
    state.starting -= 1;
    state.running += counts;
    drop(state);
    PEACE.changed.notify_all();
    child.expect("the program is there")
}
