//! A future in a scope of its own: what race branches and timeout blocks are made of.
//!
//! # Why this file has `unsafe`
//! The scope is linked into the tree by address, and the future is pinned by hand.

use std::marker::PhantomPinned;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::runtime::Runtime;
use crate::runtime::scope::{Kind, Scope, Step};

/// A future whose operations can be cancelled and waited for together.
pub(crate) struct Scoped<F> {
    // Declared before the scope, so dropped first: its operations leave the scope's list.
    future: F,
    scope: Scope,
    _pinned: PhantomPinned,
}

impl<F: Future> Scoped<F> {
    pub(crate) fn new(kind: Kind, location: &'static Location<'static>, future: F) -> Self {
        Scoped { future, scope: Scope::new(kind, location), _pinned: PhantomPinned }
    }

    pub(crate) fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Step<F::Output> {
        // SAFETY: nothing is moved out; both fields are structurally pinned.
        let this = unsafe { self.get_unchecked_mut() };
        Runtime::with(|runtime| {
            // SAFETY: pinned with `self`; it leaves the tree when dropped. The current scope is
            // pinned likewise.
            unsafe { this.scope.follow(&*runtime.current_scope.get(), runtime) };
            // SAFETY: pinned with `self`.
            let future = unsafe { Pin::new_unchecked(&mut this.future) };
            runtime.poll_in(&this.scope, cx, |cx| future.poll(cx))
        })
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.scope.is_cancelled()
    }

    /// Returns how many operations have succeeded inside; see [`Scope::succeeded`].
    pub(crate) fn succeeded(&self) -> u32 {
        self.scope.succeeded()
    }

    /// Asks everything in flight inside to end, with the given error, then polls once: the body sees the news, or is
    /// over because nothing is in flight.
    pub(crate) fn cancel_and_poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        errno: i32,
    ) -> Step<F::Output> {
        self.scope.cancel(errno);
        if !self.scope.is_attached() {
            // It never ran, and need not.
            return Step::Ended;
        }
        self.poll(cx)
    }
}

/// [`Step`] as a plain poll, where the end of a cancelled body is `None`.
pub(crate) fn outcome<T>(step: Step<T>) -> Poll<Option<T>> {
    match step {
        Step::Done(value) => Poll::Ready(Some(value)),
        Step::Ended => Poll::Ready(None),
        Step::Pending => Poll::Pending,
    }
}
