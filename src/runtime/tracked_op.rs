//! An operation as the runtime tracks it: its state, and, while it is in flight, its place in the
//! scope tree, its waker and the driver's record. It lives inside the operation's future.
//!
//! ```text
//!            submit                     last completion              poll
//!   Idle ─────────────▶ Pending ───────────────────────▶ Done ─────────────▶ Taken
//!   the future's        the driver's: buffer, address    the future's        empty
//!                       storage and `operation` may be   again
//!                       touched by the kernel
//! ```
//!
//! | state | the buffer may be touched by | this record may be touched by |
//! |---|---|---|
//! | `Idle` | the future | the future |
//! | `Pending` | the kernel alone | the driver, the scope tree, the future |
//! | `Done` | the future | the future |
//! | `Taken` | the caller, which has it back | the future |
//!
//! While it is pending, `operation` is the driver's, `link` and `scope` are the scope tree's, and
//! `waker` is the future's.

// # Why this file has `unsafe`
// It follows pointers between operations, scopes and the runtime.

use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;
use std::panic::Location;
use std::ptr::NonNull;
use std::task::Waker;

use super::Runtime;
use super::list::{Link, Linked, unlink};
use super::scope::Scope;
use super::waker::LocalWaker;
use crate::driver::{Driver, Notes, OpCode, Record, Request, Token};
use crate::os;

/// The states of the diagram above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Idle,
    Pending,
    Done,
    Taken,
}

/// An operation's record; see the head of this file. `repr(C)`: the driver's record comes first, so
/// that both have the same address.
#[repr(C)]
pub(crate) struct TrackedOp {
    operation: Record,
    state: Cell<State>,
    cancelled: Cell<bool>,
    pub(crate) code: OpCode,
    /// Initialised while the state is `Pending`, and only then.
    flight: UnsafeCell<MaybeUninit<Flight>>,
    pub(crate) location: &'static Location<'static>,
}

/// The part of the record that exists only while the operation is in flight.
pub(super) struct Flight {
    link: Link<TrackedOp>,
    pub(super) scope: Cell<*const Scope>,
    runtime: *const Runtime,
    waker: Cell<LocalWaker>,
    /// When the operation was submitted, in nanoseconds of the runtime's coarse clock.
    pub(super) started: u64,
    /// The file descriptor, for reports; -1 if there is none.
    pub(super) fd: i32,
    /// Bytes, or the number of buffers of a vectored operation, for reports.
    pub(super) len: u32,
}

impl Linked for TrackedOp {
    #[inline(always)]
    fn link(&self) -> &Link<TrackedOp> {
        &self.flight().link
    }
}

impl TrackedOp {
    #[inline(always)]
    pub(crate) const fn new(
        code: OpCode,
        location: &'static Location<'static>,
        request: unsafe fn(Token) -> Request,
    ) -> Self {
        TrackedOp {
            operation: Record::new(request),
            flight: UnsafeCell::new(MaybeUninit::uninit()),
            location,
            state: Cell::new(State::Idle),
            cancelled: Cell::new(false),
            code,
        }
    }

    /// Returns the in-flight part. The state must be `Pending`.
    #[inline(always)]
    pub(super) fn flight(&self) -> &Flight {
        debug_assert_eq!(self.state(), State::Pending, "the operation is not in flight");
        // SAFETY: pending, so `submit` has initialised it; all its changes go through cells.
        unsafe { (*self.flight.get()).assume_init_ref() }
    }

    #[inline(always)]
    pub(super) fn runtime(&self) -> &Runtime {
        // SAFETY: a runtime is not freed while one of its operations is pending.
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

    /// Returns `true` if the driver knows that a completed receive left more bytes in the socket.
    #[inline(always)]
    pub(crate) fn left_more(&self) -> bool {
        self.operation.notes.get().more
    }

    /// Returns `true` if the operation was cancelled.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.get()
    }

    #[inline(always)]
    fn token(&self) -> Token {
        NonNull::from(self).cast()
    }

    /// Submits the operation. Returns its result if it completed inline; the state is unchanged
    /// then. `code` equals the record's own; passed as a constant, it makes the counters' addresses
    /// constant.
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
        // SAFETY: this function's only item.
        unsafe { self.submit_inline::<true>(code, runtime, waker, request) }
    }

    /// Does the same; but what ends at once is delivered in the next turn, like the rest.
    ///
    /// # Safety
    /// As for [`submit`](Self::submit).
    #[cold]
    pub(crate) unsafe fn submit_for_a_turn(
        &self,
        code: OpCode,
        runtime: &Runtime,
        waker: &Waker,
        request: Request,
    ) -> Option<i32> {
        // SAFETY: this function's only item.
        unsafe { self.submit_inline::<false>(code, runtime, waker, request) }
    }

    /// # Safety
    /// As for [`submit`](Self::submit).
    #[inline(always)]
    unsafe fn submit_inline<const INLINE: bool>(
        &self,
        code: OpCode,
        runtime: &Runtime,
        waker: &Waker,
        request: Request,
    ) -> Option<i32> {
        let (fd, len) = request.summary();
        // Before the driver has it: a foreign waker's `clone` may panic.
        let waker = LocalWaker::with_current(runtime, waker);
        if waker.is_foreign() {
            if let Some(result) = cancelled_by_clone(runtime) {
                return Some(result);
            }
        }
        runtime.stats.submitted[code as usize].add(1);
        self.operation.notes.set(Notes::NEW);
        // SAFETY: the driver runs no foreign code; the caller keeps the record and its memory in
        // place until delivery.
        let ended = unsafe { runtime.driver_mut().submit(self.token(), request) };
        let scope = runtime.current_scope.get();
        // SAFETY: the driver has just ended it. If it delivers it later, it is in flight from here
        // on, as if it had been taken.
        let later = |result| unsafe { runtime.driver_mut().deliver_later(self.token(), result) };
        if let Some(result) = ended.filter(|&result| INLINE || !later(result)) {
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
        // SAFETY: the state is `Idle`, so nothing refers to this memory.
        unsafe { (*self.flight.get()).write(flight) };
        self.state.set(State::Pending);
        // SAFETY: the current scope is pinned and alive while it is current; the record stays in
        // place until it is unlinked, at delivery.
        unsafe { (*scope).link_operation(self) };
        None
    }

    /// Marks the operation done after its last completion, and wakes the task that awaits it.
    ///
    /// # Safety
    /// `token` was delivered by `runtime`'s driver just now.
    #[inline(always)]
    pub(super) unsafe fn deliver(token: Token, runtime: &Runtime) {
        // SAFETY: tokens are addresses of records whose first field is the `Record`; the record
        // stays in place until it is `Done`.
        let this = unsafe { token.cast::<TrackedOp>().as_ref() };
        debug_assert_eq!(this.state(), State::Pending, "delivered twice, or never submitted");
        let flight = this.flight();
        unlink(this);
        // SAFETY: a scope moves its operations to another before it is dropped.
        let scope = unsafe { &*flight.scope.get() };
        this.state.set(State::Done);
        this.count_end(runtime, scope, this.result());
        if scope.is_cancelled() {
            this.operation.result.set(scope.translate_result(this.result()));
            scope.wake_waiters(runtime);
        }
        // SAFETY: initialised in flight, and taken out once, as the state is no longer `Pending`.
        unsafe { flight.waker.as_ptr().read() }.wake(runtime);
    }

    /// Ends the operation in a child process made by `fork`, where the kernel does nothing for it.
    #[cfg(unix)]
    pub(super) fn end_in_child(&self, runtime: &Runtime) {
        self.operation.result.set(-os::ECANCELED);
        // SAFETY: it is in the runtime's tree, so it is pending. Its driver is gone, and neither
        // the kernel nor a thread accesses this process's copy of its memory.
        unsafe { TrackedOp::deliver(self.token(), runtime) };
    }

    #[inline(always)]
    fn count_end(&self, runtime: &Runtime, scope: &Scope, result: i32) {
        runtime.stats.completed[self.code as usize].add(1);
        if result < 0 {
            runtime.stats.failed[self.code as usize].add(1);
        } else {
            scope.count_success();
        }
    }

    /// Registers `waker` to be woken at the completion, in place of the one before.
    #[inline(always)]
    pub(crate) fn set_waker(&self, waker: &Waker) {
        if LocalWaker::holds(&self.flight().waker, waker) {
            return;
        }
        let new = LocalWaker::new(waker);
        // A foreign waker's `clone` may have dropped an operation, and waiting for that one's
        // cancellation may have delivered this one.
        if self.state() == State::Pending {
            self.flight().waker.set(new);
        } else {
            new.wake_now();
        }
    }

    /// Moves the operation, which is in flight, into the scope that polls it now, so that
    /// cancelling that scope also waits for an operation that was first polled in another one.
    #[inline(always)]
    pub(crate) fn follow(&self) {
        Runtime::try_with(|runtime| {
            // An operation stays in its own context's tree, even if another context polls it.
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
        // SAFETY: a scope moves its operations to another before it is dropped.
        let old = unsafe { &*self.flight().scope.get() };
        unlink(self);
        if old.is_cancelled() {
            // It may be drained now.
            old.wake_waiters(runtime);
        }
        self.flight().scope.set(scope);
        // SAFETY: the current scope is pinned and alive while it is current; the record is in
        // flight, hence pinned, and has just left its list.
        let new = unsafe {
            (*scope).link_operation(self);
            &*scope
        };
        if new.is_cancelled() {
            self.cancel();
        }
    }

    /// Cancels the operation; if it is not in flight, it will not start. A close is only left to
    /// itself: otherwise it would be unknown whether the fd is still open.
    pub(crate) fn cancel(&self) {
        self.cancelled.set(true);
        if self.state() == State::Pending {
            // SAFETY: pending means submitted and not delivered; the code is that of the request.
            self.runtime().driver(|driver| unsafe {
                match self.code {
                    OpCode::Close => driver.leave_close(self.token()),
                    _ => driver.cancel(self.token()),
                }
            });
            if self.runtime().given_up.get() {
                self.runtime().await_given_up(self);
            }
        }
    }

    /// Links the operation, whose scope is being dropped, into `parent`, or into the context's
    /// root.
    pub(super) fn reparent(&self, parent: Option<&Scope>) {
        let scope = parent.unwrap_or(&self.runtime().root);
        self.flight().scope.set(scope);
        // SAFETY: the caller has just unlinked the record, which is pinned as it is in flight.
        unsafe { scope.link_operation(self) };
        if scope.is_cancelled() && !self.is_cancelled() {
            self.cancel();
        }
    }
}

/// Returns the result of an operation whose scope was open when it was about to start, if the
/// `clone` of the foreign waker that it was polled with has cancelled the scope.
#[cold]
fn cancelled_by_clone(runtime: &Runtime) -> Option<i32> {
    // SAFETY: the current scope is alive while it is current.
    let scope = unsafe { &*runtime.current_scope.get() };
    scope.is_cancelled().then(|| scope.translate_result(-os::ECANCELED))
}
