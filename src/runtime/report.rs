//! What is pending, and the report that comes before an abort.

use crate::os::RawFd;
use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::panic::Location;
use std::time::Duration;

use super::Runtime;
use super::inflight::Inflight;
use super::scope::Kind;
use crate::driver::OpCode;

/// One operation in flight, as `IoContext::in_flight` and the abort report show it.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use corio::{IoContext, net::TcpListener};
/// let mut context = IoContext::new(8)?;
/// context.block_on(async {
///     let listener = TcpListener::bind("127.0.0.1:0")?;
///     corio::race(listener.accept(), async {
///         for pending in corio::in_flight() {
///             println!("{pending}"); // accept on fd 5, pending for 0 ms, started at src/main.rs:7
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
    /// What it is.
    pub code: OpCode,
    /// The file descriptor it acts on; -1 if it has none.
    pub fd: RawFd,
    /// Bytes of buffer, or the number of buffers of a vectored operation; 0 if it has none.
    pub len: u32,
    /// For how long; good to a few milliseconds.
    pub age: Duration,
    /// The source line that made the operation.
    pub location: &'static Location<'static>,
    /// The source line that spawned the task it belongs to.
    pub task: Option<&'static Location<'static>>,
    /// Race branches and timeouts around it, innermost first, with their source lines.
    pub within: Vec<(&'static str, &'static Location<'static>)>,
}

pub(super) fn enclosing(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Race => Some("race"),
        Kind::Timeout => Some("timeout"),
        Kind::Task | Kind::Context => None,
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

impl Runtime {
    pub(crate) fn list_in_flight(&self) -> Vec<InFlight> {
        let mut all = Vec::new();
        self.root.visit(&mut |op| all.push(op.describe(self)));
        // Oldest first.
        all.sort_by_key(|pending| std::cmp::Reverse(pending.age));
        all
    }
}

/// At most so many other operations are listed in a report.
const LISTED: usize = 10;

pub(super) fn abort(runtime: &Runtime, op: &Inflight) -> ! {
    let this = op.describe(runtime);
    let mut text = String::from(
        "\ncorio: aborting: a future was dropped while its operation was still in flight\n",
    );
    let mut line = |name: &str, value: &dyn fmt::Display| {
        let _ = writeln!(text, "  {name:<11}{value}");
    };
    line("operation", &format_args!("{}, pending for {}", Subject(&this), Age(this.age)));
    line("started at", &this.location);
    for (name, location) in &this.within {
        line("inside", &format_args!("the {name} at {location}"));
    }
    match this.task {
        Some(location) => line("task", &format_args!("spawned at {location}")),
        None => line("task", &"none: it was moved out of the task that started it"),
    }
    line(
        "why",
        &"the kernel may still read or write the future's memory, which is about to be reused",
    );
    line(
        "instead",
        &"end it first: `.with_timeout(d)`, `corio::timeout(d, ..)`, `corio::race(..)` or \
          `JoinHandle::cancel()`",
    );
    line(
        "",
        &"each cancels and waits for the kernel; or build the context with \
          `.drop_policy(DropPolicy::CancelAndWait)`",
    );
    let others: Vec<InFlight> = {
        let mut others = Vec::new();
        runtime.root.visit(&mut |other| {
            if !std::ptr::eq(op, other) {
                others.push(other.describe(runtime));
            }
        });
        others
    };
    if !others.is_empty() {
        let _ = writeln!(text, "  {} more in flight in this context:", others.len());
        for other in others.iter().take(LISTED) {
            let _ = writeln!(text, "    {other}");
        }
        if others.len() > LISTED {
            let _ = writeln!(text, "    ...");
        }
    }
    die(&text)
}

pub(super) fn abort_with(runtime: &Runtime, op: &Inflight, error: &io::Error) -> ! {
    die(&format!(
        "\ncorio: aborting: the kernel does not let go of a dropped operation ({}): waiting for it \
         failed: {error}\n",
        op.describe(runtime)
    ))
}

fn die(text: &str) -> ! {
    // One write, so that the report stays in one piece; nothing can be done if it fails.
    let _ = io::stderr().lock().write_all(text.as_bytes());
    std::process::abort()
}
