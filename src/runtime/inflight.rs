//! The record of one operation, which lives inside the operation's future.
//!
//! ```text
//!            submit                     last completion              poll
//!   Idle ─────────────▶ Pending ───────────────────────▶ Done ─────────────▶ Taken
//!   the future's        the driver's: buffer, address    the future's        empty
//!                       storage and `operation` may be   again
//!                       touched by the kernel
//! ```
//!
//! | state | who may touch the buffer | who may touch this record |
//! |---|---|---|
//! | `Idle` | the future | the future |
//! | `Pending` | the kernel alone | the driver (`operation`), the scope tree (`link`, `scope`), the future (`waker`) |
//! | `Done` | the future | the future |
//! | `Taken` | the caller, who has it back | the future |
//!
//! # Why this file has `unsafe`
//! It follows pointers between records, scopes and the runtime.

use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;
use std::panic::Location;
use std::ptr::NonNull;
use std::task::Waker;
use std::time::Duration;

use super::list::{Link, Linked, unlink};
use super::scope::{Kind, Scope};
use super::waker::LocalWaker;
use super::{DropPolicy, Runtime, report};
use crate::driver::{Driver, Notes, OpCode, Record, Request, Token, Wait};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Idle,
    Pending,
    Done,
    Taken,
}

/// See the module's page. `repr(C)`: the driver's part comes first, so that its address is ours.
#[repr(C)]
pub(crate) struct Inflight {
    operation: Record,
    state: Cell<State>,
    cancelled: Cell<bool>,
    pub(crate) code: OpCode,
    /// Initialised exactly while the state is `Pending`.
    flight: UnsafeCell<MaybeUninit<Flight>>,
    pub(crate) location: &'static Location<'static>,
}

/// What there is to know about an operation only while it is in flight.
struct Flight {
    link: Link<Inflight>,
    scope: Cell<*const Scope>,
    runtime: *const Runtime,
    waker: Cell<LocalWaker>,
    /// By the runtime's coarse clock, in nanoseconds.
    started: u64,
    fd: i32,
    len: u32,
}

impl Linked for Inflight {
    #[inline(always)]
    fn link(&self) -> &Link<Inflight> {
        &self.flight().link
    }
}

impl Inflight {
    #[inline(always)]
    pub(crate) const fn new(
        code: OpCode,
        location: &'static Location<'static>,
        request: unsafe fn(Token) -> Request,
    ) -> Self {
        Inflight {
            operation: Record::new(request),
            flight: UnsafeCell::new(MaybeUninit::uninit()),
            location,
            state: Cell::new(State::Idle),
            cancelled: Cell::new(false),
            code,
        }
    }

    /// The record of the flight, which the caller knows to be under way.
    #[inline(always)]
    fn flight(&self) -> &Flight {
        debug_assert_eq!(self.state(), State::Pending, "no flight is under way");
        // SAFETY: pending, so `submit` has initialised it; all its changes go through cells.
        unsafe { (*self.flight.get()).assume_init_ref() }
    }

    #[inline(always)]
    fn runtime(&self) -> &Runtime {
        // SAFETY: a runtime is not given up while an operation of it is pending.
        unsafe { &*self.flight().runtime }
    }

    #[inline(always)]
    pub(crate) fn state(&self) -> State {
        self.state.get()
    }

    #[inline(always)]
    pub(crate) fn set_state(&self, state: State) {
        self.state.set(state);
    }

    #[inline(always)]
    pub(crate) fn result(&self) -> i32 {
        self.operation.result.get()
    }

    /// Whether a receive that has ended left more in the socket, as far as the driver knows.
    #[inline(always)]
    pub(crate) fn left_more(&self) -> bool {
        self.operation.notes.get().more
    }

    /// Whether somebody has asked for an early end.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.get()
    }

    #[inline(always)]
    fn token(&self) -> Token {
        NonNull::from(self).cast()
    }

    /// Submits. `Some`: it ended at once; the state is unchanged. (`code` is the record's own, given
    /// as a constant.)
    ///
    /// # Safety
    /// The record is `Idle` and pinned, with all memory the request names, until it is `Done`.
    #[inline(always)]
    pub(crate) unsafe fn submit(
        &self,
        code: OpCode,
        runtime: &Runtime,
        waker: &Waker,
        request: Request,
    ) -> Option<i32> {
        let (fd, len) = request.summary();
        // Before the driver has it: a foreign waker's `clone` may panic.
        let waker = LocalWaker::with_current(runtime, waker);
        runtime.stats.submitted[code as usize].add(1);
        self.operation.notes.set(Notes::NEW);
        // SAFETY: the driver runs no foreign code; the caller keeps the record and its memory in place
        // until delivery.
        let ended = unsafe { runtime.driver_mut().submit(self.token(), request) };
        let scope = runtime.current_scope.get();
        if let Some(result) = ended {
            // SAFETY: the current scope is alive while it is current.
            self.count_end(runtime, unsafe { &*scope }, result);
            return Some(result);
        }
        let flight = Flight {
            link: Link::new(),
            scope: Cell::new(scope),
            runtime,
            waker: Cell::new(waker),
            started: runtime.clock.get(),
            fd,
            len,
        };
        // SAFETY: the state is `Idle`, so nobody refers to the place.
        unsafe { (*self.flight.get()).write(flight) };
        self.state.set(State::Pending);
        // SAFETY: the current scope is pinned and alive while it is current; the record stays in
        // place until it is unlinked, at delivery.
        let scope = unsafe {
            (*scope).enlist(self);
            &*scope
        };
        if scope.is_cancelled() {
            // By a foreign waker's `clone`: it was open when the operation was about to start.
            self.cancel();
        }
        None
    }

    /// The driver has let go: wakes whoever waits.
    ///
    /// # Safety
    /// `token` was delivered by `runtime`'s driver just now.
    #[inline(always)]
    pub(super) unsafe fn deliver(token: Token, runtime: &Runtime) {
        // SAFETY: tokens are addresses of records whose first field is the `Record`; the record
        // stays in place until it is `Done`.
        let this = unsafe { token.cast::<Inflight>().as_ref() };
        debug_assert_eq!(this.state(), State::Pending, "delivered twice, or never submitted");
        let flight = this.flight();
        unlink(this);
        // SAFETY: a scope hands its operations on before it goes.
        let scope = unsafe { &*flight.scope.get() };
        this.state.set(State::Done);
        this.count_end(runtime, scope, this.result());
        if scope.is_cancelled() {
            this.operation.result.set(scope.result(this.result()));
            scope.announce(runtime);
        }
        // SAFETY: initialised in flight, and taken out once, as the state is no longer `Pending`.
        unsafe { flight.waker.as_ptr().read() }.wake(runtime);
    }

    #[inline(always)]
    fn count_end(&self, runtime: &Runtime, scope: &Scope, result: i32) {
        runtime.stats.completed[self.code as usize].add(1);
        if result < 0 {
            runtime.stats.failed[self.code as usize].add(1);
        } else {
            scope.count_end();
        }
    }

    /// Has `waker` woken at the end, instead of whoever it was before.
    #[inline(always)]
    pub(crate) fn set_waker(&self, waker: &Waker) {
        if LocalWaker::holds(&self.flight().waker, waker) {
            return;
        }
        let new = LocalWaker::new(waker);
        // A foreign waker's `clone` may have dropped an operation, whose cancelling takes in others.
        if self.state() == State::Pending {
            self.flight().waker.set(new);
        } else {
            new.wake_now();
        }
    }

    /// Moves the operation, which is in flight, into the scope that polls it now: whoever cancels
    /// that scope waits for it, also if its future was first polled somewhere else.
    #[inline(always)]
    pub(crate) fn follow(&self) {
        Runtime::try_with(|runtime| {
            // An operation stays in its own context's tree, whoever polls it.
            let Some(runtime) = runtime.filter(|now| std::ptr::eq(*now, self.runtime())) else {
                return;
            };
            let current = runtime.current_scope.get();
            if !std::ptr::eq(current, self.flight().scope.get()) {
                self.move_to(current);
            }
        });
    }

    #[cold]
    fn move_to(&self, scope: *const Scope) {
        let runtime = self.runtime();
        // SAFETY: a scope hands its operations on before it goes.
        let old = unsafe { &*self.flight().scope.get() };
        unlink(self);
        if old.is_cancelled() {
            // It may be drained now.
            old.announce(runtime);
        }
        self.flight().scope.set(scope);
        // SAFETY: the current scope is pinned and alive while it is current; the record is in
        // flight, hence pinned, and has just left its list.
        let new = unsafe {
            (*scope).enlist(self);
            &*scope
        };
        if new.is_cancelled() {
            self.cancel();
        }
    }

    /// Asks for an early end; an operation that is not in flight does not start any more. A close
    /// is left alone: after a cancelled one nobody could tell whether the fd is still open.
    pub(crate) fn cancel(&self) {
        self.cancelled.set(true);
        if self.state() == State::Pending && self.code != OpCode::Close {
            // SAFETY: pending means submitted and not delivered.
            self.runtime().driver(|driver| unsafe { driver.cancel(self.token()) });
        }
    }

    /// The scope this was linked into goes; `heir` (or else the context's root) takes over.
    pub(super) fn rehome(&self, heir: Option<&Scope>) {
        let scope = heir.unwrap_or(&self.runtime().root);
        self.flight().scope.set(scope);
        // SAFETY: the caller has just unlinked the record, which is pinned as it is in flight.
        unsafe { scope.enlist(self) };
    }

    /// The future is being dropped while the kernel may still use its memory, unless it `may_be_dropped`:
    /// applies the drop rule. On return the operation is `Done`.
    #[cold]
    pub(crate) fn abandon(&self, may_be_dropped: bool) {
        let runtime = self.runtime();
        // A panic is already on its way to whoever is to hear of it; an abort would hide it.
        if !may_be_dropped && runtime.drop_policy == DropPolicy::Abort && !std::thread::panicking()
        {
            report::abort(runtime, self);
        }
        self.cancel();
        while self.state() == State::Pending {
            if let Err(error) = runtime.reap(Wait::Forever) {
                report::abort_with(runtime, self, &error);
            }
        }
    }

    pub(super) fn describe(&self, runtime: &Runtime) -> report::InFlight {
        let flight = self.flight();
        let mut task = None;
        // SAFETY: a scope hands its operations on before it goes, parents likewise.
        let mut scope = unsafe { flight.scope.get().as_ref() };
        let mut within = Vec::new();
        while let Some(this) = scope {
            if let Some(name) = report::enclosing(this.kind) {
                within.push((name, this.location));
            } else if this.kind == Kind::Task {
                task = Some(this.location);
            }
            scope = this.parent();
        }
        report::InFlight {
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
