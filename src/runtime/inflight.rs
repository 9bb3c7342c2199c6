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

use std::cell::Cell;
use std::panic::Location;
use std::ptr::{self, NonNull};
use std::task::Waker;

use super::list::{Link, Linked, unlink};
use super::scope::Scope;
use super::waker::LocalWaker;
use super::{DropPolicy, Runtime, report};
use crate::driver::{Driver, Notes, OpCode, Operation, Request, Token, Wait};

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
    operation: Operation,
    link: Link<Inflight>,
    scope: Cell<*const Scope>,
    runtime: Cell<*const Runtime>,
    waker: Cell<LocalWaker>,
    started: Cell<u64>,
    pub(crate) location: &'static Location<'static>,
    fd: Cell<i32>,
    len: Cell<u32>,
    state: Cell<State>,
    cancelled: Cell<bool>,
    pub(crate) code: OpCode,
}

impl Linked for Inflight {
    fn link(&self) -> &Link<Inflight> {
        &self.link
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
            operation: Operation::new(request),
            link: Link::new(),
            scope: Cell::new(ptr::null()),
            runtime: Cell::new(ptr::null()),
            waker: Cell::new(LocalWaker::None),
            started: Cell::new(0),
            location,
            fd: Cell::new(-1),
            len: Cell::new(0),
            state: Cell::new(State::Idle),
            cancelled: Cell::new(false),
            code,
        }
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

    /// Whether somebody has asked for an early end.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.get()
    }

    #[inline(always)]
    fn token(&self) -> Token {
        NonNull::from(self).cast()
    }

    /// Submits. `Some`: it ended at once, or may not start; the state is unchanged.
    ///
    /// # Safety
    /// The record is `Idle` and pinned, with all memory the request names, until it is `Done`.
    #[inline(always)]
    pub(crate) unsafe fn submit(
        &self,
        runtime: &Runtime,
        waker: &Waker,
        request: Request,
    ) -> Option<i32> {
        let (fd, len) = request.summary();
        self.operation.notes.set(Notes::NEW);
        self.fd.set(fd);
        self.len.set(len);
        self.started.set(runtime.clock.get());
        self.runtime.set(runtime);
        let scope = runtime.current_scope.get();
        self.scope.set(scope);
        // Before the driver has it: a foreign waker's `clone` may panic.
        let waker = LocalWaker::with_current(runtime, waker);
        runtime.stats.submitted[self.code as usize].add(1);
        // SAFETY: the caller keeps the record and its memory in place until delivery.
        if let Some(result) =
            runtime.driver(|driver| unsafe { driver.submit(self.token(), request) })
        {
            self.count_end(runtime, result);
            return Some(result);
        }
        self.waker.set(waker);
        self.state.set(State::Pending);
        runtime.in_flight.set(runtime.in_flight.get() + 1);
        // SAFETY: the current scope is pinned and alive while it is current; the record stays in
        // place until it is unlinked, at delivery.
        unsafe { (*scope).enlist(self) };
        None
    }

    /// The driver has let go: wakes whoever waits.
    ///
    /// # Safety
    /// `token` was delivered by `runtime`'s driver just now.
    #[inline(always)]
    pub(super) unsafe fn deliver(token: Token, runtime: &Runtime) {
        // SAFETY: tokens are addresses of records whose first field is the `Operation`; the record
        // stays in place until it is `Done`.
        let this = unsafe { token.cast::<Inflight>().as_ref() };
        debug_assert_eq!(this.state(), State::Pending, "delivered twice, or never submitted");
        unlink(this);
        this.state.set(State::Done);
        runtime.in_flight.set(runtime.in_flight.get() - 1);
        this.count_end(runtime, this.result());
        // SAFETY: a scope hands its operations on before it goes.
        let scope = unsafe { &*this.scope.get() };
        if scope.is_cancelled() {
            scope.announce(runtime);
        }
        this.waker.replace(LocalWaker::None).wake(runtime);
    }

    #[inline(always)]
    fn count_end(&self, runtime: &Runtime, result: i32) {
        runtime.stats.completed[self.code as usize].add(1);
        if result < 0 {
            runtime.stats.failed[self.code as usize].add(1);
        }
    }

    /// Has `waker` woken at the end, instead of whoever it was before.
    #[inline(always)]
    pub(crate) fn set_waker(&self, waker: &Waker) {
        LocalWaker::update(&self.waker, waker);
    }

    /// Moves the operation, which is in flight, into the scope that polls it now: whoever cancels
    /// that scope waits for it, also if its future was first polled somewhere else.
    #[inline(always)]
    pub(crate) fn follow(&self) {
        Runtime::try_with(|runtime| {
            let current = runtime.map_or(ptr::null(), |runtime| runtime.current_scope.get());
            // An operation stays in its own context's tree, though that may have been given up.
            let own = runtime.is_some_and(|runtime| ptr::eq(runtime, self.runtime.get()));
            if own && !ptr::eq(current, self.scope.get()) {
                self.move_to(current);
            }
        });
    }

    #[cold]
    fn move_to(&self, scope: *const Scope) {
        // SAFETY: as in `cancel`; and a scope hands its operations on before it goes.
        let (runtime, old) = unsafe { (&*self.runtime.get(), &*self.scope.get()) };
        unlink(self);
        if old.is_cancelled() {
            // It may be drained now.
            old.announce(runtime);
        }
        self.scope.set(scope);
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

    /// Asks for an early end.
    pub(crate) fn cancel(&self) {
        if self.state() == State::Pending {
            // SAFETY: a runtime is not given up while an operation of it is pending.
            let runtime = unsafe { &*self.runtime.get() };
            self.cancelled.set(true);
            // SAFETY: pending means submitted and not delivered.
            runtime.driver(|driver| unsafe { driver.cancel(self.token()) });
        }
    }

    /// The scope this was linked into goes; `heir` (or else the context's root) takes over.
    pub(super) fn rehome(&self, heir: Option<&Scope>) {
        // SAFETY: as in `cancel`.
        let scope = heir.unwrap_or_else(|| unsafe { &(*self.runtime.get()).root });
        self.scope.set(scope);
        // SAFETY: the caller has just unlinked the record, which is pinned as it is in flight.
        unsafe { scope.enlist(self) };
    }

    /// The future is being dropped while the kernel may still use its memory: applies the drop
    /// rule. On return the operation is `Done`.
    #[cold]
    pub(crate) fn abandon(&self) {
        // SAFETY: as in `cancel`.
        let runtime = unsafe { &*self.runtime.get() };
        // A panic is already on its way to whoever is to hear of it; an abort would hide it.
        if runtime.drop_policy == DropPolicy::Abort && !std::thread::panicking() {
            report::abort(runtime, self);
        }
        self.cancel();
        while self.state() == State::Pending {
            if let Err(error) = runtime.reap(Wait::Forever) {
                report::abort_with(runtime, self, &error);
            }
        }
    }

    pub(super) fn describe(&self, runtime: &Runtime) -> report::Pending {
        let mut task = None;
        // SAFETY: a scope hands its operations on before it goes, parents likewise.
        let mut scope = unsafe { self.scope.get().as_ref() };
        let mut within = Vec::new();
        while let Some(this) = scope {
            if let Some(name) = report::enclosing(this.kind) {
                within.push((name, this.location));
            } else if this.kind == super::scope::Kind::Task {
                task = Some(this.location);
            }
            scope = this.parent();
        }
        report::Pending {
            code: self.code,
            fd: self.fd.get(),
            len: self.len.get(),
            age: runtime
                .coarse_now()
                .saturating_sub(std::time::Duration::from_nanos(self.started.get())),
            location: self.location,
            task,
            within,
        }
    }
}
