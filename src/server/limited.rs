//! Time limits of a connection.

use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;

use crate::os;
use crate::runtime::Runtime;
use crate::runtime::scope::{Kind, Step};
use crate::task::{Scoped, outcome};
use crate::time::{Alarm, Reached, nanos};

/// How long a connection may last, and how long it may be idle.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TimeLimits {
    pub(super) total: Option<Duration>,
    pub(super) idle: Option<Duration>,
}

impl TimeLimits {
    pub(super) fn are_set(self) -> bool {
        self.total.is_some() || self.idle.is_some()
    }
}

/// The result of a handler under limits.
pub(super) struct Ended<T> {
    /// `None`: it was dropped before it returned.
    pub(super) output: Option<T>,
    /// A limit was reached, and operations in flight were cancelled, before it ended.
    pub(super) expired: bool,
}

pin_project! {
    /// A handler under time limits; made by [`limited`].
    pub(super) struct Limited<F> {
        #[pin]
        body: Scoped<F>,
        #[pin]
        total: Alarm,
        #[pin]
        check: Alarm,
        limits: TimeLimits,
        idle_watch: IdleWatch,
        expired: Option<Duration>,
    }
}

/// Runs `future` until a limit is reached; then cancels its operations in flight, and polls it once
/// more, as [`timeout`](crate::timeout()) does.
#[track_caller]
pub(super) fn limited<F: Future>(limits: TimeLimits, future: F) -> Limited<F> {
    Limited {
        body: Scoped::new(Kind::Timeout, Location::caller(), future),
        total: Alarm::new(),
        check: Alarm::new(),
        limits,
        idle_watch: IdleWatch::default(),
        expired: None,
    }
}

impl<F: Future> Future for Limited<F> {
    type Output = Ended<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let _reached = this.expired.map(Reached::new);
        let mut step = this.body.as_mut().poll(cx);
        if this.expired.is_none() && matches!(step, Step::Pending) {
            let TimeLimits { total, idle } = *this.limits;
            let body = this.body.as_ref();
            *this.expired = Runtime::with(|runtime| {
                let overdue = total.is_some_and(|limit| {
                    let deadline = |now: u64| now.saturating_add(nanos(limit));
                    this.total.poll(runtime, cx, deadline).is_ready()
                });
                let is_idle = idle.is_some_and(|limit| {
                    let deadline = |now: u64| now.saturating_add(nanos(limit / CHECKS));
                    this.check.poll_again(runtime, cx, deadline).is_ready()
                        && this.idle_watch.is_over(body.succeeded())
                });
                if overdue { total } else { idle.filter(|_| is_idle) }
            });
            if let Some(limit) = *this.expired {
                let _reached = Reached::new(limit);
                step = this.body.cancel_and_poll(cx, os::TIME_LIMIT);
            }
        }
        let expired = this.expired.is_some();
        match outcome(step) {
            // The task was cancelled, and drops this.
            Poll::Ready(None) if !expired => Poll::Pending,
            Poll::Ready(output) => Poll::Ready(Ended { output, expired }),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// How many times per idle limit a connection is checked.
const CHECKS: u32 = 4;

/// Counts the consecutive checks at which a connection was idle.
#[derive(Default)]
struct IdleWatch {
    /// How many operations had succeeded at the last check.
    ended: u32,
    /// At how many consecutive checks there were no more.
    checks: u32,
}

impl IdleWatch {
    /// Checks again; returns `true` if the idle limit is over.
    fn is_over(&mut self, ended: u32) -> bool {
        if self.ended == ended {
            self.checks += 1;
        } else {
            *self = IdleWatch { ended, checks: 0 };
        }
        self.checks >= CHECKS
    }
}
