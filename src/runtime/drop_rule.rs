//! The drop rule: what happens when an operation's future is dropped while the kernel still uses
//! its memory, and how an operation in flight is described.

use std::cell::Cell;
use std::time::Duration;

use super::Runtime;
use super::report::{InFlight, abort_dropped, abort_undrained, enclosing};
use super::scope::Kind;
use super::tracked_op::{State, TrackedOp};
use crate::driver::Wait;

/// What happens when an operation's future is dropped while the kernel still uses its memory.
///
/// # Examples
/// ```
/// use corio::{DropPolicy, IoContext};
/// let context = IoContext::builder().drop_policy(DropPolicy::CancelAndWait).build()?;
/// # Ok::<(), corio::SetupError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DropPolicy {
    /// Writes a report to stderr, which names the source line of the operation, then calls
    /// `abort()`.
    #[default]
    Abort,
    /// Cancels the operation and blocks the thread until the kernel no longer uses its memory. No
    /// task runs meanwhile. Code written for `select!`, `try_join!` or `buffer_unordered` works
    /// with this.
    CancelAndWait,
}

thread_local! {
    /// What is being dropped was cancelled: see [`cancelling_drops`].
    static CANCELLING: Cell<bool> = const { Cell::new(false) };
}

/// Drops what was cancelled. Operations inside are cancelled and waited for under every policy: it
/// may hold some that others have begun, which no scope of its own could cancel before.
#[cold]
pub(crate) fn cancelling_drops<T>(drop: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            CANCELLING.set(self.0);
        }
    }
    let _outer = Restore(CANCELLING.replace(true));
    drop()
}

impl TrackedOp {
    /// Applies the drop rule to an operation whose future is being dropped in flight. Returns when
    /// the operation is `Done`. An operation that `may_be_dropped` is cancelled and waited for
    /// under every policy.
    #[cold]
    pub(crate) fn abandon(&self, may_be_dropped: bool) {
        let runtime = self.runtime();
        // While the thread panics there is no abort, since it would hide the panic's message.
        let may_be_dropped = may_be_dropped || CANCELLING.get() || std::thread::panicking();
        if !may_be_dropped && runtime.drop_policy == DropPolicy::Abort {
            abort_dropped(&self.describe(runtime), &runtime.others_in_flight(self));
        }
        self.cancel();
        while self.state() == State::Pending {
            if let Err(error) = runtime.reap(Wait::Forever) {
                abort_undrained(&self.describe(runtime), &error);
            }
        }
    }

    /// Describes an operation that is in flight.
    fn describe(&self, runtime: &Runtime) -> InFlight {
        let flight = self.flight();
        let mut task = None;
        // SAFETY: a scope moves its operations to another before it is dropped, and its children
        // likewise.
        let mut scope = unsafe { flight.scope.get().as_ref() };
        let mut within = Vec::new();
        while let Some(this) = scope {
            if let Some(name) = enclosing(this.kind) {
                within.push((name, this.location));
            } else if this.kind == Kind::Task {
                task = Some(this.location);
            }
            scope = this.parent();
        }
        InFlight {
            code: self.code,
            fd: flight.fd,
            len: flight.len,
            age: runtime.coarse_now().saturating_sub(Duration::from_nanos(flight.started)),
            location: self.location,
            task,
            within,
        }
    }
}

impl Runtime {
    /// Returns all operations in flight, oldest first.
    pub(crate) fn list_in_flight(&self) -> Vec<InFlight> {
        let mut all = Vec::new();
        self.root.visit(&mut |op| all.push(op.describe(self)));
        all.sort_by_key(|op| std::cmp::Reverse(op.age));
        all
    }

    /// Returns all operations in flight but `op`.
    fn others_in_flight(&self, op: &TrackedOp) -> Vec<InFlight> {
        let mut others = Vec::new();
        self.root.visit(&mut |other| {
            if !std::ptr::eq(op, other) {
                others.push(other.describe(self));
            }
        });
        others
    }
}
