//! The time limit of a test.

use std::cell::Cell;
use std::sync::Mutex;
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
