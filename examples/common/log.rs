//! Log lines that repeat: one a second at most, with the number of those that were left out.

use std::fmt;
use std::io::{self, Write};
use std::panic;
use std::sync::{Mutex, Once, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The shortest time between two lines.
const PAUSE: Duration = Duration::from_secs(1);

/// Writes lines of one kind to stderr, at most one a second, so that a fault that repeats does not
/// fill a log.
pub(crate) struct OncePerSecond {
    state: Mutex<State>,
}

struct State {
    last: Option<Instant>,
    /// How many lines were left out since the last one.
    left_out: u64,
}

impl OncePerSecond {
    pub(crate) const fn new() -> Self {
        OncePerSecond { state: Mutex::new(State { last: None, left_out: 0 }) }
    }

    /// Writes the line, and how many were left out before it; or leaves it out, if the last one is
    /// less than a second old.
    pub(crate) fn line(&self, line: fmt::Arguments<'_>) {
        match self.admit(Instant::now()) {
            None => {}
            Some(0) => write(line),
            Some(left_out) => write(format_args!("{line} ({left_out} more were left out)")),
        }
    }

    /// Writes how many lines were left out since the last one, if any were: no line will follow.
    pub(crate) fn finish(&self, kind: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::take(&mut state.left_out) {
            0 => {}
            left_out => write(format_args!("{kind}: {left_out} more were left out")),
        }
    }

    /// Decides on a line at the time `now`. If it may be written, returns how many were left out
    /// before it.
    pub(crate) fn admit(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.is_some_and(|last| now.saturating_duration_since(last) < PAUSE) {
            state.left_out += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.left_out))
    }
}

fn write(line: fmt::Arguments<'_>) {
    // One write, so that lines of several threads do not mix. An error in writing the log does not
    // end the server.
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Panics of all threads but the main one, which ends the process by them.
pub(crate) static PANICS: OncePerSecond = OncePerSecond::new();

/// Has panics reported once a second at most, from now on: a connection that makes its handler
/// panic can be repeated at will.
pub(crate) fn limit_panics() {
    static LIMITED: Once = Once::new();
    LIMITED.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if thread::current().name() == Some("main") {
                return report(panic);
            }
            let Some(left_out) = PANICS.admit(Instant::now()) else { return };
            report(panic);
            if left_out > 0 {
                write(format_args!("panics: {left_out} more were left out before this one"));
            }
        }));
    });
}
