//! A branch of a race or a `try_join`: a future in a scope of its own, later its output.

use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::scoped::{Scoped, outcome};
use crate::os;
use crate::runtime::scope::{Kind, Step};

/// The state of a branch.
enum End<T> {
    Running,
    /// `None`: cancelled, and dropped without an output.
    Over(Option<T>),
}

pin_project! {
    /// A future that can be cancelled and waited for, with its output.
    pub(super) struct Branch<F: Future> {
        #[pin]
        scoped: Scoped<F>,
        end: End<F::Output>,
    }
}

impl<F: Future> Branch<F> {
    pub(super) fn new(kind: Kind, location: &'static Location<'static>, future: F) -> Self {
        Branch { scoped: Scoped::new(kind, location, future), end: End::Running }
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.end, End::Running)
    }

    /// Returns `true` if the future was polled before.
    pub(super) fn was_polled(&self) -> bool {
        self.scoped.was_polled()
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.scoped.is_cancelled()
    }

    /// Returns the output, if the future has ended by itself.
    pub(super) fn output(&self) -> Option<&F::Output> {
        match &self.end {
            End::Over(output) => output.as_ref(),
            End::Running => None,
        }
    }

    /// Takes the output, if the future has ended by itself.
    pub(super) fn take(self: Pin<&mut Self>) -> Option<F::Output> {
        match self.project().end {
            End::Over(output) => output.take(),
            End::Running => None,
        }
    }

    /// Polls the future, if it is running.
    pub(super) fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) {
        self.advance(cx, Scoped::poll);
    }

    /// Cancels the future and polls it once, if it is running.
    pub(super) fn cancel(self: Pin<&mut Self>, cx: &mut Context<'_>) {
        self.advance(cx, |scoped, cx| scoped.cancel_and_poll(cx, os::ECANCELED));
    }

    fn advance(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut Scoped<F>>, &mut Context<'_>) -> Step<F::Output>,
    ) {
        if self.is_running() {
            let this = self.project();
            if let Poll::Ready(output) = outcome(poll(this.scoped, cx)) {
                *this.end = End::Over(output);
            }
        }
    }
}
