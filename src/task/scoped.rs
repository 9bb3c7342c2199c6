//! A future in a scope of its own, as used for the branches of a race and for timeouts.

// # Why this file has `unsafe`
// The scope is linked into the tree by address, and the future is pinned by hand.

use std::marker::PhantomPinned;
use std::mem::ManuallyDrop;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::runtime::Runtime;
use crate::runtime::drop_rule::cancelling_drops;
use crate::runtime::scope::{Kind, Scope, Step};

/// A future whose operations in flight can be cancelled and waited for together.
pub(crate) struct Scoped<F> {
    /// Dropped before the scope: its operations unlink from the scope's list.
    future: ManuallyDrop<F>,
    scope: Scope,
    /// It may have results to give, even if the scope has left the tree with its context.
    polled: bool,
    _pinned: PhantomPinned,
}

impl<F: Future> Scoped<F> {
    pub(crate) fn new(kind: Kind, location: &'static Location<'static>, future: F) -> Self {
        let (future, scope) = (ManuallyDrop::new(future), Scope::new(kind, location));
        Scoped { future, scope, polled: false, _pinned: PhantomPinned }
    }

    /// Polls the future in its scope, which follows the current one.
    pub(crate) fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Step<F::Output> {
        // SAFETY: nothing is moved out; both fields are structurally pinned.
        let this = unsafe { self.get_unchecked_mut() };
        this.polled = true;
        Runtime::with(|runtime| {
            // SAFETY: pinned with `self`, and detached when dropped. The current scope is pinned
            // too, and detaches its children when dropped.
            unsafe { this.scope.follow(&*runtime.current_scope.get(), runtime) };
            // SAFETY: pinned with `self`.
            let future = unsafe { Pin::new_unchecked(&mut *this.future) };
            let waker = cx.waker();
            runtime.poll_in(&this.scope, waker, || future.poll(cx))
        })
    }

    /// Returns `true` if the future was polled before.
    pub(crate) fn was_polled(&self) -> bool {
        self.polled
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.scope.is_cancelled()
    }

    /// Returns how many operations have succeeded inside; see [`Scope::succeeded`].
    pub(crate) fn succeeded(&self) -> u32 {
        self.scope.succeeded()
    }

    /// Cancels everything in flight inside with the error number `errno`, then polls the future
    /// once: it sees the results, or has ended because nothing is in flight.
    pub(crate) fn cancel_and_poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        errno: i32,
    ) -> Step<F::Output> {
        self.scope.cancel(errno);
        if !self.polled {
            // It has nothing in flight, and no results to give.
            return Step::Ended;
        }
        self.poll(cx)
    }
}

impl<F> Drop for Scoped<F> {
    fn drop(&mut self) {
        // SAFETY: it is dropped in place, as pinning requires, and not used again.
        let mut drop = || unsafe { ManuallyDrop::drop(&mut self.future) };
        if self.scope.is_cancelled() { cancelling_drops(drop) } else { drop() }
    }
}

/// Converts a [`Step`] to a `Poll`; `None` stands for [`Step::Ended`].
pub(crate) fn outcome<T>(step: Step<T>) -> Poll<Option<T>> {
    match step {
        Step::Done(value) => Poll::Ready(Some(value)),
        Step::Ended => Poll::Ready(None),
        Step::Pending => Poll::Pending,
    }
}
