//! The time limits of a connection.

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

/// How long a connection may take, and how long it may be silent.
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

/// A handler's end under limits.
pub(super) struct Ended<T> {
    /// `None`: it did not come to an end of its own.
    pub(super) output: Option<T>,
    /// A limit was reached, and what was in flight cancelled, before it ended.
    pub(super) expired: bool,
}

pin_project! {
    /// A handler under limits; see [`limited`].
    pub(super) struct Limited<F> {
        #[pin]
        body: Scoped<F>,
        #[pin]
        total: Alarm,
        #[pin]
        check: Alarm,
        limits: TimeLimits,
        silence: Silence,
        expired: Option<Duration>,
    }
}

/// Runs `future` until a limit is reached; then cancels what it has in flight, and lets it see
/// that, as [`timeout`](crate::timeout()) does.
#[track_caller]
pub(super) fn limited<F: Future>(limits: TimeLimits, future: F) -> Limited<F> {
    Limited {
        body: Scoped::new(Kind::Timeout, Location::caller(), future),
        total: Alarm::new(),
        check: Alarm::new(),
        limits,
        silence: Silence::default(),
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
                let silent = idle.is_some_and(|limit| {
                    let deadline = |now: u64| now.saturating_add(nanos(limit / CHECKS));
                    this.check.poll_again(runtime, cx, deadline).is_ready()
                        && this.silence.has_lasted(body.ended())
                });
                if overdue { total } else { idle.filter(|_| silent) }
            });
            if let Some(limit) = *this.expired {
                let _reached = Reached::new(limit);
                step = this.body.cancel_and_poll(cx, os::TIME_LIMIT);
            }
        }
        let expired = this.expired.is_some();
        match outcome(step) {
            Poll::Ready(None) if !expired => Poll::Pending, // The task was cancelled, and drops this.
            Poll::Ready(output) => Poll::Ready(Ended { output, expired }),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// How often within the limit a connection is looked at.
const CHECKS: u32 = 4;

/// Between looks at a connection: how long it has been silent.
#[derive(Default)]
struct Silence {
    /// How many operations had ended at the last look.
    ended: u32,
    /// At how many looks, one after the other, it was no more.
    looks: u32,
}

impl Silence {
    /// Looks again; whether the silence has lasted for long enough.
    fn has_lasted(&mut self, ended: u32) -> bool {
        if self.ended == ended {
            self.looks += 1;
        } else {
            *self = Silence { ended, looks: 0 };
        }
        self.looks >= CHECKS
    }
}
