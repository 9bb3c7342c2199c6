//! The one future that every operation is.
//!
//! # Why this file has `unsafe`
//! It lends the future's own memory to the driver. The argument in one place: the future is
//! pinned from its first poll on, is `!Unpin`, and its destructor does not return before the
//! driver has let go. So from `submit` to `Done` its memory is neither moved nor reused, and
//! leaking it only leaks.

use crate::os;
use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomPinned;
use std::mem::ManuallyDrop;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::driver::{OpCode, Request, Token};
use crate::runtime::Runtime;
use crate::runtime::inflight::{Inflight, State};
use crate::runtime::scope::Scope;

/// What distinguishes one operation from another.
///
/// This trait is public only because [`Op`] names it; it can't be implemented elsewhere.
pub trait Operation: Sized {
    /// What awaiting the operation gives.
    type Output;

    #[doc(hidden)]
    const CODE: OpCode;

    /// The kernel uses no memory of it while it is in flight, so that dropping it is no mistake.
    #[doc(hidden)]
    const MAY_BE_DROPPED: bool = false;

    /// Gets ready for [`request`](Self::request): takes hold of the file. An error number if that
    /// fails; 0 if there is nothing to do. The value is pinned from here on.
    #[doc(hidden)]
    fn prepare(&mut self) -> Result<(), i32>;

    /// Describes the operation. Pointers may lead into `self`, which is pinned. Nothing that `self`
    /// borrows is looked at: a leaked operation is described too, when a driver tries it again.
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn request(&mut self) -> Request;

    /// Takes note of an intermediate result; `true`: the operation goes on with a new request.
    #[doc(hidden)]
    #[inline(always)]
    fn goes_on(&mut self, _result: i32) -> bool {
        false
    }

    /// Takes note of whether there is more to receive, as far as the driver knows.
    #[doc(hidden)]
    #[inline(always)]
    fn left_more(&self, _more: bool) {}

    /// Makes the output of the last result: a count, or a negated error number.
    #[doc(hidden)]
    fn finish(self, result: i32) -> Self::Output;

    /// Nobody wants the output of the last result. It may be an fd, which is made, so that it can be closed.
    #[doc(hidden)]
    fn discard(self, result: i32) {
        drop(self.finish(result));
    }
}

/// An operation: a future that owns everything the kernel needs, and is the same for every
/// system call. See [`op`](crate::op) for the list.
///
/// Dropping it while it is in flight is a mistake that [`DropPolicy`](crate::DropPolicy) answers;
/// end it with [`with_timeout`](Self::with_timeout), [`race`](crate::race),
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
pub struct Op<K: Operation> {
    inflight: Inflight,
    /// Holds a value unless the state is `Taken`. Kernel-written memory lies within.
    kind: UnsafeCell<ManuallyDrop<K>>,
    _pinned: PhantomPinned,
}

impl<K: Operation> Op<K> {
    #[inline(always)]
    #[track_caller]
    pub(crate) fn of(kind: K) -> Self {
        Op {
            inflight: Inflight::new(K::CODE, Location::caller(), Self::describe),
            kind: UnsafeCell::new(ManuallyDrop::new(kind)),
            _pinned: PhantomPinned,
        }
    }

    /// The record's way back to the request.
    ///
    /// # Safety
    /// The token is this type's record, and nothing else uses the operation's memory.
    unsafe fn describe(token: Token) -> Request {
        // The token's provenance was exposed, and that of the whole future, in `start`.
        let this: *const Self = std::ptr::with_exposed_provenance(
            token.as_ptr().addr() - std::mem::offset_of!(Self, inflight),
        );
        // SAFETY: what the caller promises; in flight, so the kind is there.
        unsafe { (*(*this).kind.get()).request() }
    }

    /// The value of a pinned future that has not been taken and is not in the driver's hands.
    ///
    /// # Safety
    /// The state is `Idle` or `Done`, and the borrow ends before it changes.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)] // The state says whose turn it is.
    unsafe fn kind(&self) -> &mut K {
        // SAFETY: what the caller promises; the value lies in an `UnsafeCell`.
        unsafe { &mut *self.kind.get() }
    }

    // Not `always`: each `.await` would have all of this, and, unoptimised, room for it in its stack frame.
    #[inline]
    fn start(&self, runtime: &Runtime, cx: &mut Context<'_>) -> Poll<i32> {
        // SAFETY: the current scope is alive while it is current.
        let scope: &Scope = unsafe { &*runtime.current_scope.get() };
        if scope.is_cancelled() {
            return refuse(scope);
        }
        if self.inflight.is_cancelled() {
            // Between two parts of a transfer.
            return Poll::Ready(-os::ECANCELED);
        }
        // SAFETY: the state is `Idle`.
        let kind = unsafe { self.kind() };
        if let Err(errno) = kind.prepare() {
            return Poll::Ready(-errno);
        }
        std::ptr::from_ref(self).expose_provenance();
        while runtime.has_poll_budget() {
            let request = kind.request();
            // SAFETY: idle and pinned; see the head of this file.
            match unsafe { self.inflight.submit(K::CODE, runtime, cx.waker(), request) } {
                None => return Poll::Pending,
                Some(result) => {
                    runtime.spend_poll_budget(result);
                    if !kind.goes_on(result) {
                        return Poll::Ready(result);
                    }
                }
            }
        }
        // Not started, or not gone on with, so that other tasks have their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Polls up to the last result.
    #[inline(always)]
    pub(crate) fn poll_result(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<i32> {
        let this = self.into_ref().get_ref();
        let state = this.inflight.state();
        if state == State::Done {
            let result = this.inflight.result();
            this.inflight.set_state(State::Idle);
            // SAFETY: done, so the driver has let go.
            if !unsafe { this.kind() }.goes_on(result) {
                return Poll::Ready(result);
            }
        } else if state != State::Idle {
            return this.poll_again(state, cx);
        }
        // SAFETY: the borrow ends with this poll.
        this.start(unsafe { Runtime::current() }, cx)
    }

    /// Polled although nothing has happened, or once too often.
    #[cold]
    fn poll_again(&self, state: State, cx: &mut Context<'_>) -> Poll<i32> {
        assert!(state == State::Pending, "an operation was polled after it gave its result");
        self.inflight.follow();
        self.inflight.set_waker(cx.waker());
        Poll::Pending
    }

    /// Makes the output of a result that [`poll_result`](Self::poll_result) gave.
    #[inline(always)]
    pub(crate) fn finish(self: Pin<&mut Self>, result: i32) -> K::Output {
        let this = self.into_ref().get_ref();
        debug_assert_eq!(this.inflight.state(), State::Idle);
        this.inflight.set_state(State::Taken);
        // SAFETY: the value is there and, by the state just set, not used again. The driver has
        // let go of it, so moving it is fine.
        let kind = unsafe { ManuallyDrop::take(&mut *this.kind.get()) };
        kind.left_more(this.inflight.left_more());
        kind.finish(result)
    }

    /// The description, to be completed before the first poll.
    pub(super) fn before_start(&mut self) -> &mut K {
        // `&mut self` of a value that is not pinned: it was never polled.
        self.kind.get_mut()
    }

    /// Asks for an early end.
    pub(crate) fn cancel(self: Pin<&mut Self>) {
        self.inflight.cancel();
    }

    pub(crate) fn is_in_flight(&self) -> bool {
        self.inflight.state() == State::Pending
    }
}

/// A cancelled scope starts nothing new. See [`Scope::refuse`].
#[cold]
fn refuse(scope: &Scope) -> Poll<i32> {
    match scope.refuse() {
        Some(errno) => Poll::Ready(-errno),
        None => Poll::Pending,
    }
}

impl<K: Operation> Future for Op<K> {
    type Output = K::Output;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<K::Output> {
        match self.as_mut().poll_result(cx) {
            Poll::Ready(result) => Poll::Ready(self.finish(result)),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<K: Operation> Drop for Op<K> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.inflight.state() != State::Taken {
            self.drop_untaken();
        }
    }
}

impl<K: Operation> Op<K> {
    #[cold]
    fn drop_untaken(&mut self) {
        if self.inflight.state() == State::Pending {
            self.inflight.abandon(K::MAY_BE_DROPPED);
        }
        // SAFETY: the state is not `Taken`, so the value is there; it is not used again.
        let kind = unsafe { ManuallyDrop::take(self.kind.get_mut()) };
        if self.inflight.state() == State::Done {
            kind.discard(self.inflight.result());
        }
    }
}

impl<K: Operation> fmt::Debug for Op<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Op")
            .field("code", &self.inflight.code)
            .field("state", &self.inflight.state())
            .field("location", &format_args!("{}", self.inflight.location))
            .finish()
    }
}

/// A result as `std` has it.
#[inline(always)]
pub(crate) fn io_result(result: i32) -> std::io::Result<usize> {
    if result >= 0 { Ok(result as usize) } else { Err(io_error(-result)) }
}

/// Makes the error of an operation's error number: the system's, or that of a time limit.
pub(crate) fn io_error(errno: i32) -> std::io::Error {
    match errno {
        os::TIME_LIMIT => crate::time::limit_error(),
        errno => std::io::Error::from_raw_os_error(errno),
    }
}
