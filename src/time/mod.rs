//! Sleeping, time limits, and the monotonic clock.
//!
//! Timers live in user space, inside the futures that use them, and determine how long the loop's
//! one wait may last: a sleep costs no submission entry, no allocation and no system call.
//!
//! A duration or deadline too long to be represented, such as [`Duration::MAX`], means "never",
//! wherever one is taken.

// # Why this file has `unsafe`
// It reads the current scope, which is known by address.

mod alarm;
mod instant;
mod limit;

use std::fmt;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;

pub(crate) use alarm::Alarm;
pub use instant::Instant;
pub use limit::Elapsed;
pub(crate) use limit::{Reached, limit_error};

use crate::os;
use crate::runtime::Runtime;
use crate::runtime::poll_budget::within_budget;
use crate::runtime::scope::{Kind, Step};
use crate::task::Scoped;

pin_project! {
    /// The future returned by [`sleep`] and [`sleep_until`].
    ///
    /// It may be dropped at any time. In a [cancelled](crate::JoinHandle::cancel) task or block it
    /// never completes, as the block is about to be dropped.
    ///
    /// # Examples
    /// ```
    /// use corio::{race, sleep, time::AsyncSleep};
    /// use std::time::Duration;
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let (short, never): (AsyncSleep, AsyncSleep) =
    ///     (sleep(Duration::from_millis(1)), sleep(Duration::MAX));
    /// race(short, never).await;
    /// # });
    /// # Ok::<(), corio::SetupError>(())
    /// ```
    #[must_use = "futures do nothing unless awaited"]
    pub struct AsyncSleep {
        #[pin]
        alarm: Alarm,
        until: Until,
    }
}

#[derive(Clone, Copy, Debug)]
enum Until {
    After(Duration),
    At(Instant),
}

/// Waits until `duration` has passed, counted from the first poll.
///
/// Accurate to the kernel's timer slack of about 50 µs; where more than 32 timers of a context are
/// due within 66 µs, they all fire at the end of these. A zero duration still lets other tasks run
/// once; [`Duration::MAX`] never passes.
///
/// # Examples
/// ```
/// use std::time::{Duration, Instant};
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let start = Instant::now();
/// corio::sleep(Duration::from_millis(2)).await;
/// assert!(start.elapsed() >= Duration::from_millis(2));
/// # });
/// # Ok::<(), corio::SetupError>(())
/// ```
pub fn sleep(duration: Duration) -> AsyncSleep {
    AsyncSleep { alarm: Alarm::new(), until: Until::After(duration) }
}

/// Waits until `deadline`, an [`Instant`] or one of std's.
///
/// # Examples
/// ```
/// use corio::time::Instant;
/// use std::time::Duration;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// corio::sleep_until(Instant::now() + Duration::from_millis(1)).await;
/// corio::sleep_until(std::time::Instant::now()).await;
/// # });
/// # Ok::<(), corio::SetupError>(())
/// ```
pub fn sleep_until(deadline: impl Into<Instant>) -> AsyncSleep {
    AsyncSleep { alarm: Alarm::new(), until: Until::At(deadline.into()) }
}

impl Future for AsyncSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let until = *this.until;
        Runtime::with(|runtime| {
            // SAFETY: the current scope is alive while it is current.
            if unsafe { &*runtime.current_scope.get() }.is_cancelled() {
                // Completing would claim that the time has passed, and a loop around it would spin.
                return Poll::Pending;
            }
            this.alarm.poll(runtime, cx, |now| match until {
                Until::After(duration) => now.saturating_add(nanos(duration)),
                Until::At(deadline) => runtime.nanos_at(deadline.into()),
            })
        })
    }
}

impl fmt::Debug for AsyncSleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncSleep").field("until", &self.until).finish()
    }
}

/// Returns a duration in nanoseconds, or `u64::MAX` (584 years, which is never).
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

pin_project! {
    /// A block with a limit: what [`Timeout`] and [`TimeoutAt`] share.
    struct Limited<F> {
        #[pin]
        body: Scoped<F>,
        #[pin]
        alarm: Alarm,
        limit: Duration,
        expired: bool,
    }
}

impl<F: Future> Limited<F> {
    fn new(limit: Duration, location: &'static Location<'static>, future: F) -> Self {
        Limited {
            body: Scoped::new(Kind::Timeout, location, future),
            alarm: Alarm::new(),
            limit,
            expired: false,
        }
    }

    /// Polls the body. Its first pending poll starts the limit: `start` returns the deadline and
    /// the limit, given the time and the limit so far.
    #[inline]
    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        start: impl FnOnce(&Runtime, u64, &mut Duration) -> u64,
    ) -> Poll<Result<F::Output, Elapsed>> {
        if self.body.was_polled() {
            return self.poll_body(cx, start);
        }
        within_budget(cx, |cx| self.poll_body(cx, start))
    }

    fn poll_body(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        start: impl FnOnce(&Runtime, u64, &mut Duration) -> u64,
    ) -> Poll<Result<F::Output, Elapsed>> {
        let mut this = self.project();
        if !*this.expired {
            match this.body.as_mut().poll(cx) {
                Step::Done(output) => return Poll::Ready(Ok(output)),
                // An enclosing block was cancelled, and will drop this one.
                Step::Ended => return Poll::Pending,
                Step::Pending => {}
            }
            let limit = &mut *this.limit;
            let due = Runtime::with(|runtime| {
                this.alarm.poll(runtime, cx, |now| start(runtime, now, limit))
            });
            if due.is_pending() {
                return Poll::Pending;
            }
        }
        let _reached = Reached::new(*this.limit);
        let step = if std::mem::replace(this.expired, true) {
            this.body.poll(cx)
        } else {
            this.body.cancel_and_poll(cx, os::TIME_LIMIT)
        };
        match step {
            Step::Done(output) => Poll::Ready(Ok(output)),
            Step::Ended => Poll::Ready(Err(Elapsed::new(*this.limit))),
            Step::Pending => Poll::Pending,
        }
    }
}

pin_project! {
    /// The future returned by [`timeout`].
    ///
    /// # Examples
    /// ```
    /// use corio::{time::Timeout, timeout};
    /// use std::{future::Ready, time::Duration};
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let limited: Timeout<Ready<u8>> = timeout(Duration::MAX, std::future::ready(7));
    /// assert_eq!(limited.await, Ok(7));
    /// # });
    /// # Ok::<(), corio::SetupError>(())
    /// ```
    #[must_use = "futures do nothing unless awaited"]
    pub struct Timeout<F> {
        #[pin]
        inner: Limited<F>,
    }
}

pin_project! {
    /// The future returned by [`timeout_at`].
    ///
    /// # Examples
    /// ```
    /// use corio::time::{Instant, TimeoutAt, timeout_at};
    /// use std::future::Ready;
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let limited: TimeoutAt<Ready<u8>> = timeout_at(Instant::now(), std::future::ready(7));
    /// assert_eq!(limited.await, Ok(7));
    /// # });
    /// # Ok::<(), corio::SetupError>(())
    /// ```
    #[must_use = "futures do nothing unless awaited"]
    pub struct TimeoutAt<F> {
        #[pin]
        inner: Limited<F>,
        deadline: Instant,
    }
}

/// Runs a future with a time limit; use it as `timeout(d, f).await??`, as both the future and the
/// timeout may report `TimedOut`.
///
/// The limit counts from the first poll. When it is reached, the operations that `future` has in
/// flight are cancelled and waited for, with the error `TimedOut`, which carries [`Elapsed`]. The
/// future is polled until none of them is in flight, so that it sees their results. If it returns
/// then (as code that uses `?` does, with that error), its output is the result, although the limit
/// has passed: the inner `?`. Otherwise it is dropped, and the result is `Err(Elapsed)`, which
/// converts to an [`io::Error`](std::io::Error) of the same kind: the outer `?`.
///
/// [`Duration::MAX`] is no limit. For a single operation,
/// [`with_timeout`](crate::op::Op::with_timeout) is lighter.
///
/// # Examples
/// ```
/// use corio::{net::UnixStream, timeout};
/// use std::{io, time::Duration};
///
/// async fn ask(stream: &UnixStream) -> io::Result<Vec<u8>> {
///     timeout(Duration::from_millis(1), async {
///         stream.send_all("a question").await.0?;
///         let (result, answer) = stream.recv(Vec::with_capacity(64)).await;
///         result.map(|_| answer)
///     })
///     .await?
/// }
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let (stream, _silent) = UnixStream::pair()?;
/// let error = ask(&stream).await.unwrap_err();
/// assert_eq!(error.kind(), io::ErrorKind::TimedOut);
/// assert_eq!(error.to_string(), "time limit of 1 ms reached");
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[track_caller]
pub fn timeout<F: Future>(limit: Duration, future: F) -> Timeout<F> {
    Timeout { inner: Limited::new(limit, Location::caller(), future) }
}

/// Runs a future until a deadline, an [`Instant`] or one of std's; otherwise as [`timeout`]: use it
/// as `timeout_at(deadline, f).await??`.
///
/// A future that needs no wait completes even if the deadline has passed.
///
/// # Examples
/// ```
/// use corio::{net::UnixStream, time::{Instant, timeout_at}};
/// use std::time::Duration;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let deadline = Instant::now() + Duration::from_millis(2);
/// let (a, b) = UnixStream::pair()?;
/// // Both are to be done by then.
/// timeout_at(deadline, async { a.send("hello").await.0 }).await??;
/// timeout_at(deadline, async { b.recv([0; 5]).await.0 }).await??;
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[track_caller]
pub fn timeout_at<F: Future>(deadline: impl Into<Instant>, future: F) -> TimeoutAt<F> {
    let inner = Limited::new(Duration::ZERO, Location::caller(), future);
    TimeoutAt { inner, deadline: deadline.into() }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().inner.poll(cx, |_, now, limit| now.saturating_add(nanos(*limit)))
    }
}

impl<F: Future> Future for TimeoutAt<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let deadline = *this.deadline;
        this.inner.poll(cx, |runtime, now, limit| {
            let end = runtime.nanos_at(deadline.into());
            *limit = Duration::from_nanos(end.saturating_sub(now));
            end
        })
    }
}

impl<F> fmt::Debug for Timeout<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout").field("limit", &self.inner.limit).finish_non_exhaustive()
    }
}

impl<F> fmt::Debug for TimeoutAt<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeoutAt").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}
