//! The description of an operation in flight, and the reports written before an abort.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::panic::Location;
use std::time::Duration;

use super::scope::Kind;
use crate::driver::OpCode;
use crate::os::RawFd;

/// An operation in flight, as [`IoContext::in_flight`](crate::IoContext::in_flight) and the abort
/// report show it.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use corio::{IoContext, net::TcpListener};
/// let mut context = IoContext::new(8)?;
/// context.block_on(async {
///     let listener = TcpListener::bind("127.0.0.1:0")?;
///     corio::race(listener.accept(), async {
///         for operation in corio::in_flight() {
///             // accept on fd 5, pending for 0 ms, started at src/main.rs:7
///             println!("{operation}");
///         }
///     })
///     .await;
///     Ok::<_, std::io::Error>(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InFlight {
    /// The kind of operation.
    pub code: OpCode,
    /// The file descriptor that it acts on; -1 if there is none.
    pub fd: RawFd,
    /// The buffer's length in bytes, or the number of buffers of a vectored operation; 0 if there
    /// is no buffer.
    pub len: u32,
    /// How long it has been in flight, exact to a few milliseconds.
    pub age: Duration,
    /// The source line that created the operation.
    pub location: &'static Location<'static>,
    /// The source line that spawned its task; `None` if its future was moved out of the task.
    pub task: Option<&'static Location<'static>>,
    /// The races and timeouts around it, innermost first, with their source lines.
    pub within: Vec<(&'static str, &'static Location<'static>)>,
}

/// Returns the name under which a scope is listed in [`InFlight::within`].
pub(super) fn enclosing(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Race => Some("race"),
        Kind::TryJoin => Some("try_join"),
        Kind::Timeout => Some("timeout"),
        Kind::Task | Kind::Tasks | Kind::Context => None,
    }
}

impl fmt::Display for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Subject(self))?;
        write!(f, ", pending for {}, started at {}", Age(self.age), self.location)?;
        for (name, location) in &self.within {
            write!(f, ", in the {name} at {location}")?;
        }
        match self.task {
            Some(location) => write!(f, ", in the task spawned at {location}"),
            None => Ok(()),
        }
    }
}

/// Formats the operation with its fd and length.
struct Subject<'a>(&'a InFlight);

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let InFlight { code, fd, len, .. } = *self.0;
        write!(f, "{code}")?;
        if fd >= 0 {
            write!(f, " on fd {fd}")?;
        }
        match code {
            OpCode::Readv | OpCode::Writev => write!(f, ", {len} buffers"),
            _ if len > 0 => write!(f, ", {len} bytes"),
            _ => Ok(()),
        }
    }
}

/// Formats a duration in milliseconds, or from 1 s on in seconds.
struct Age(Duration);

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < Duration::from_secs(1) {
            write!(f, "{} ms", self.0.as_millis())
        } else {
            write!(f, "{:.1} s", self.0.as_secs_f64())
        }
    }
}

/// How many other operations a report lists at most.
const LISTED: usize = 10;

/// Reports that `this` was dropped in flight, with the `others` of its context, and aborts.
pub(super) fn abort_dropped(this: &InFlight, others: &[InFlight]) -> ! {
    let mut text = String::from(
        "\ncorio: aborting: a future was dropped while its operation was still in flight\n",
    );
    let mut line = |name: &str, value: &dyn fmt::Display| {
        let _ = writeln!(text, "  {name:<11}{value}");
    };
    line("operation", &format_args!("{}, pending for {}", Subject(this), Age(this.age)));
    line("started at", &this.location);
    for (name, location) in &this.within {
        line("inside", &format_args!("the {name} at {location}"));
    }
    match this.task {
        Some(location) => line("task", &format_args!("spawned at {location}")),
        None => line("task", &"none: it was moved out of the task that started it"),
    }
    line(
        "often",
        &"by `select!`, `try_join`, `try_join_all` or `buffer_unordered`, which drop futures",
    );
    line(
        "why",
        &"the kernel may still read or write the future's memory, which is about to be reused",
    );
    line(
        "instead",
        &"end it first: `.with_timeout(d)`, `corio::timeout(d, ..)`, `corio::race(..)` or",
    );
    line(
        "",
        &"`JoinHandle::cancel()`; each cancels and waits for the kernel; or build the context",
    );
    line("", &"with `.drop_policy(DropPolicy::CancelAndWait)`");
    if !others.is_empty() {
        let _ = writeln!(text, "  {} more in flight in this context:", others.len());
        for other in others.iter().take(LISTED) {
            let _ = writeln!(text, "    {other}");
        }
        if others.len() > LISTED {
            let _ = writeln!(text, "    ...");
        }
    }
    print_and_abort(&text)
}

/// Reports that waiting for the dropped operation `op` failed, and aborts.
pub(super) fn abort_undrained(op: &InFlight, error: &io::Error) -> ! {
    print_and_abort(&format!(
        "\ncorio: aborting: a future was dropped while its operation was in flight, and waiting \
         for the kernel to end it failed: {error}; the operation: {op}\n"
    ))
}

fn print_and_abort(text: &str) -> ! {
    // One write, so that the report stays in one piece; a failure could not be reported anywhere.
    let _ = io::stderr().lock().write_all(text.as_bytes());
    std::process::abort()
}
