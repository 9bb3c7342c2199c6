//! The future that all operations share.

// # Why this file has `unsafe`
// It lends the future's own memory to the driver. The argument in one place: the future is pinned
// from its first poll on, is `!Unpin`, and its destructor does not return before the driver has let
// go. So from `submit` to `Done` its memory is neither moved nor reused, and leaking it only leaks.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomPinned;
use std::mem::ManuallyDrop;
use std::ops::ControlFlow;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::order::WAIT;
use crate::driver::{OpCode, Request, Token};
use crate::os;
use crate::runtime::Runtime;
use crate::runtime::scope::Scope;
use crate::runtime::tracked_op::{State, TrackedOp};

/// An operation: the state that distinguishes one system call from another.
///
/// This trait is public only because [`Op`] names it. It is sealed: its methods name types that the
/// crate does not export.
///
/// # Safety
/// The driver passes what [`request`](Self::request) returns on to the kernel or to another thread.
/// For a value that is pinned from [`prepare`](Self::prepare) on, and from a call of `request`
/// until the operation has ended, an implementation ensures:
///
/// 1. *Memory.* Each pointer of the request is valid for the access of that system call, for the
///    length that the request names. It leads into the value itself (in fields that nothing else
///    borrows meanwhile), into memory that the value owns and whose address does not change with
///    it, or into a buffer, by the contract of [`IoBuf`](crate::buf::IoBuf) and its relatives.
/// 2. *Files.* Each fd of the request stays open until the value is dropped: it is
///    [held](super::Source) by `prepare`, or owned.
/// 3. *Borrows.* `request` reads nothing that the value only borrows: a leaked operation is
///    described again when a driver repeats it, after the borrows have ended.
/// 4. *Result.* `finish` and `discard` treat memory as initialized, or an fd as theirs, only as far
///    as the given result of that system call says so.
pub unsafe trait Operation: Sized {
    /// The output of the awaited operation.
    type Output;

    #[doc(hidden)]
    const CODE: OpCode;

    /// Whether the future may be dropped in flight, as the kernel uses no memory of the value.
    #[doc(hidden)]
    const MAY_BE_DROPPED: bool = false;

    /// Prepares for [`request`](Self::request): holds the files. Breaks with a result, zero or a
    /// negated error number, if the operation ends without a system call, or with [`WAIT`] or
    /// [`YIELD`].
    #[doc(hidden)]
    fn prepare(&mut self) -> ControlFlow<i32>;

    /// Waits for the place among other transfers, after `prepare` has broken with [`WAIT`]: has
    /// `waker` woken when it may be polled again.
    #[doc(hidden)]
    fn wait(&mut self, _waker: &Waker) {}

    /// Describes the system call to make next.
    #[doc(hidden)]
    fn request(&mut self) -> Request;

    /// Records an intermediate result; returns `true` if another request has to follow.
    #[doc(hidden)]
    #[inline(always)]
    fn goes_on(&mut self, _result: i32) -> bool {
        false
    }

    /// Records the driver's guess whether the socket holds more bytes to receive.
    #[doc(hidden)]
    #[inline(always)]
    fn left_more(&self, _more: bool) {}

    /// Converts the last result, zero or more or a negated error number, to the output.
    #[doc(hidden)]
    fn finish(self, result: i32) -> Self::Output;

    /// Releases what the last result brought, such as an fd, when the output is not wanted.
    #[doc(hidden)]
    fn discard(self, result: i32) {
        drop(self.finish(result));
    }
}

/// Breaks [`prepare`](Operation::prepare) of an operation that would end without a system call when
/// the budget of its task is spent: no result of a system call.
const YIELD: i32 = i32::MIN + 1;

/// Ends an operation before it starts, with an error number; otherwise as [`ended`].
#[cold]
pub(super) fn failed(errno: i32) -> ControlFlow<i32> {
    ended(-errno)
}

/// Ends an operation before it starts, with a result; for [`Operation::prepare`], which may be
/// called again, and has to end in the same way then.
#[cold]
pub(super) fn ended(result: i32) -> ControlFlow<i32> {
    let is_spent = |runtime: Option<&Runtime>| runtime.is_some_and(Runtime::is_spent);
    ControlFlow::Break(if Runtime::try_with(is_spent) { YIELD } else { result })
}

/// The future of an operation, which owns all memory that the kernel needs for it. See
/// [`op`](crate::op) for the list of operations.
///
/// The [`DropPolicy`](crate::DropPolicy) decides what dropping it in flight does, by default an
/// abort; end it with [`with_timeout`](Self::with_timeout), [`race`](crate::race),
/// [`timeout`](crate::timeout) or [`JoinHandle::cancel`](crate::JoinHandle::cancel) instead.
///
/// # Examples
/// ```
/// use corio::op::{AsyncNop, Nop, Op};
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let operation: Op<Nop> = AsyncNop::new(); // nothing happens yet
/// operation.await?;
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Aborts
/// Under [`DropPolicy::Abort`](crate::DropPolicy::Abort), the default, dropping it in flight ends
/// the process with a report.
#[must_use = "operations do nothing unless awaited"]
pub struct Op<T: Operation> {
    tracked: TrackedOp,
    /// Holds a value unless the state is `Taken`. Kernel-written memory lies within.
    operation: UnsafeCell<ManuallyDrop<T>>,
    _pinned: PhantomPinned,
}

impl<T: Operation> Op<T> {
    #[inline(always)]
    #[track_caller]
    pub(crate) fn of(operation: T) -> Self {
        Op {
            tracked: TrackedOp::new(T::CODE, Location::caller(), Self::describe),
            operation: UnsafeCell::new(ManuallyDrop::new(operation)),
            _pinned: PhantomPinned,
        }
    }

    /// Describes the operation of a record again.
    ///
    /// # Safety
    /// 1. The token is that of a future of this type, which is in flight.
    /// 2. Nothing else uses the operation's memory.
    unsafe fn describe(token: Token) -> Request {
        // The token's provenance was exposed, and that of the whole future, in `start`.
        let this: *const Self = std::ptr::with_exposed_provenance(
            token.as_ptr().addr() - std::mem::offset_of!(Self, tracked),
        );
        // SAFETY: the value exists while its future is in flight (1), and is borrowed by nothing
        // (2).
        unsafe { (*(*this).operation.get()).request() }
    }

    /// Returns the operation of a pinned future.
    ///
    /// # Safety
    /// 1. The state is `Idle` or `Done`: the value exists, and the driver does not use it.
    /// 2. The borrow ends before the state changes, and before the next call.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)] // The state says who may borrow.
    unsafe fn operation(&self) -> &mut T {
        // SAFETY: the value exists (1), in an `UnsafeCell`, and no other borrow of it does (1, 2).
        unsafe { &mut *self.operation.get() }
    }

    // Not `always`: each `.await` would contain all of this, and in debug builds reserve stack for
    // it.
    #[inline]
    fn start(&self, runtime: &Runtime, cx: &mut Context<'_>) -> Poll<i32> {
        // SAFETY: the current scope is alive while it is current.
        let scope: &Scope = unsafe { &*runtime.current_scope.get() };
        if scope.is_cancelled() {
            return refuse(scope);
        }
        if self.tracked.is_cancelled() {
            // Between two parts of a transfer.
            return Poll::Ready(-os::ECANCELED);
        }
        // SAFETY: the state is `Idle`; the borrow ends with this function, or when `submit` takes
        // the operation. If that returns `Some`, it has not described the operation again.
        let operation = unsafe { self.operation() };
        if let ControlFlow::Break(result) = operation.prepare() {
            if result == WAIT {
                operation.wait(cx.waker());
                return Poll::Pending;
            }
            return end_unstarted(runtime, cx.waker(), result);
        }
        std::ptr::from_ref(self).expose_provenance();
        while runtime.may_start_operation(cx.waker()) {
            let request = operation.request();
            // SAFETY: idle and pinned; see the head of this file.
            match unsafe { self.tracked.submit(T::CODE, runtime, cx.waker(), request) } {
                None => return Poll::Pending,
                Some(result) => {
                    runtime.spend_poll_budget(result);
                    if !operation.goes_on(result) {
                        return Poll::Ready(result);
                    }
                }
            }
        }
        if !runtime.completes_inline() {
            let request = operation.request();
            // SAFETY: as above.
            let ended =
                unsafe { self.tracked.submit_for_a_turn(T::CODE, runtime, cx.waker(), request) };
            return ended.map_or(Poll::Pending, Poll::Ready);
        }
        // The budget is used up: other tasks run before this operation starts or goes on.
        runtime.yield_spent(cx.waker());
        Poll::Pending
    }

    /// Polls until the last result is there, and returns it.
    #[inline(always)]
    pub(crate) fn poll_result(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<i32> {
        let this = self.into_ref().get_ref();
        let state = this.tracked.state();
        if state == State::Done {
            let result = this.tracked.result();
            this.tracked.set_state(State::Idle);
            // SAFETY: done, so the driver has let go.
            if !unsafe { this.operation() }.goes_on(result) {
                return Poll::Ready(result);
            }
        } else if state != State::Idle {
            return this.poll_again(state, cx);
        }
        // SAFETY: the borrow ends with this poll.
        this.start(unsafe { Runtime::current_for(this.tracked.location) }, cx)
    }

    /// Handles a poll while in flight; panics after the result was given.
    #[cold]
    fn poll_again(&self, state: State, cx: &mut Context<'_>) -> Poll<i32> {
        assert!(state == State::Pending, "an operation was polled after it gave its result");
        self.tracked.follow();
        self.tracked.set_waker(cx.waker());
        Poll::Pending
    }

    /// Makes the output of a result of [`poll_result`](Self::poll_result).
    #[inline(always)]
    pub(crate) fn finish(self: Pin<&mut Self>, result: i32) -> T::Output {
        let this = self.into_ref().get_ref();
        debug_assert_eq!(this.tracked.state(), State::Idle);
        this.tracked.set_state(State::Taken);
        // SAFETY: the value is there and, by the state just set, not used again. The driver has
        // let go of it, so moving it is fine.
        let operation = unsafe { ManuallyDrop::take(&mut *this.operation.get()) };
        operation.left_more(this.tracked.left_more());
        operation.finish(result)
    }

    /// Returns the operation for changes before the first poll.
    pub(super) fn before_start(&mut self) -> &mut T {
        // `&mut self` of a value that is not pinned: it was never polled.
        self.operation.get_mut()
    }

    /// Requests cancellation; the operation ends later, with its true result.
    pub(crate) fn cancel(self: Pin<&mut Self>) {
        self.tracked.cancel();
    }

    pub(crate) fn is_in_flight(&self) -> bool {
        self.tracked.state() == State::Pending
    }
}

/// Ends an operation that makes no system call, or has its task yield first.
#[cold]
fn end_unstarted(runtime: &Runtime, waker: &Waker, result: i32) -> Poll<i32> {
    if result == YIELD {
        runtime.yield_before_end(waker);
        return Poll::Pending;
    }
    runtime.spend_poll_budget(result);
    Poll::Ready(result)
}

/// Ends an operation in a cancelled scope, which starts nothing. See [`Scope::refuse`].
#[cold]
fn refuse(scope: &Scope) -> Poll<i32> {
    match scope.refuse() {
        Some(errno) => Poll::Ready(-errno),
        None => Poll::Pending,
    }
}

impl<T: Operation> Future for Op<T> {
    type Output = T::Output;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T::Output> {
        match self.as_mut().poll_result(cx) {
            Poll::Ready(result) => Poll::Ready(self.finish(result)),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: Operation> Drop for Op<T> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.tracked.state() != State::Taken {
            self.drop_untaken();
        }
    }
}

impl<T: Operation> Op<T> {
    #[cold]
    fn drop_untaken(&mut self) {
        if self.tracked.state() == State::Pending {
            self.tracked.abandon(T::MAY_BE_DROPPED);
        }
        // SAFETY: the state is not `Taken`, so the value is there; it is not used again.
        let operation = unsafe { ManuallyDrop::take(self.operation.get_mut()) };
        if self.tracked.state() == State::Done {
            operation.discard(self.tracked.result());
        }
    }
}

impl<T: Operation> fmt::Debug for Op<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Op")
            .field("code", &self.tracked.code)
            .field("state", &self.tracked.state())
            .field("location", &format_args!("{}", self.tracked.location))
            .finish()
    }
}

/// Converts the result of a system call to std's form.
#[inline(always)]
pub(crate) fn io_result(result: i32) -> std::io::Result<usize> {
    if result >= 0 { Ok(result as usize) } else { Err(io_error(-result)) }
}

/// Makes the error of an operation's error number: the system's, or one of this crate's own.
#[cold]
pub(crate) fn io_error(errno: i32) -> std::io::Error {
    match errno {
        os::TIME_LIMIT => crate::time::limit_error(),
        os::NO_ROOM => no_room(),
        errno => std::io::Error::from_raw_os_error(errno),
    }
}

/// The error of a read or receive into no room.
#[cold]
pub(crate) fn no_room() -> std::io::Error {
    std::io::Error::new(
        std::io::ErrorKind::InvalidInput,
        "the buffer has no room, and a result of 0 bytes would look like the end: use a buffer \
         with capacity",
    )
}
