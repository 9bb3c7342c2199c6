//! Time: sleeping, and limits for anything that waits.
//!
//! Timers live in user space, inside the futures that use them, and feed the loop's one wait: a
//! sleep costs no submission entry, no allocation and no system call.
//!
//! # Why this file has `unsafe`
//! It looks at the current scope, which is known by address.

mod alarm;

use crate::os;
use std::fmt;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;

pub(crate) use alarm::Alarm;

use crate::runtime::Runtime;
use crate::runtime::scope::{Kind, Step};
use crate::task::{Scoped, outcome};

pin_project! {
    /// Waits for a time; made by [`sleep`] and [`sleep_until`].
    ///
    /// Dropping it is always fine. In a [cancelled](crate::JoinHandle::cancel) task or block it
    /// never ends, as the block is about to be dropped.
    ///
    /// # Examples
    /// See [`sleep`].
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

/// Waits for `duration`, counted from the first poll.
///
/// Good to the kernel's timer slack, some 50 µs; where more than 32 timers of a context are due within
/// 66 µs, they end together when that time is over. A zero duration still lets other tasks run once.
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

/// Waits until `deadline`.
///
/// # Examples
/// ```
/// use std::time::{Duration, Instant};
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// corio::sleep_until(Instant::now() + Duration::from_millis(1)).await;
/// # });
/// # Ok::<(), corio::SetupError>(())
/// ```
pub fn sleep_until(deadline: Instant) -> AsyncSleep {
    AsyncSleep { alarm: Alarm::new(), until: Until::At(deadline) }
}

impl Future for AsyncSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let until = *this.until;
        Runtime::with(|runtime| {
            // SAFETY: the current scope is alive while it is current.
            if unsafe { &*runtime.current_scope.get() }.is_cancelled() {
                // It would be a lie that the time has passed, and a loop around it would spin.
                return Poll::Pending;
            }
            this.alarm.poll(runtime, cx, |now| match until {
                Until::After(duration) => now.saturating_add(nanos(duration)),
                Until::At(deadline) => runtime.nanos_at(deadline),
            })
        })
    }
}

impl fmt::Debug for AsyncSleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncSleep").field("until", &self.until).finish()
    }
}

/// Nanoseconds, or the most there can be.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The time was up before a [`timeout`] block was done.
///
/// # Examples
/// See [`timeout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the time was up")]
pub struct Elapsed(());

impl From<Elapsed> for std::io::Error {
    fn from(error: Elapsed) -> Self {
        std::io::Error::new(std::io::ErrorKind::TimedOut, error)
    }
}

pin_project! {
    /// The future made by [`timeout`].
    ///
    /// # Examples
    /// See [`timeout`].
    #[must_use = "futures do nothing unless awaited"]
    pub struct Timeout<F> {
        #[pin]
        body: Scoped<F>,
        #[pin]
        alarm: Alarm,
        limit: Duration,
        expired: bool,
    }
}

/// Gives `future`, with everything it has in flight, at most `limit` from the first poll.
///
/// When the time is up, its operations are cancelled and waited for. The future is polled until
/// nothing of it is in flight, so it sees their results: if it ends by itself then, that is the
/// result, late as it is; otherwise it is dropped, and the result is [`Elapsed`]. Inside, operations
/// end with the error `TimedOut`, so code that uses `?` ends by itself, with that error.
///
/// For a single operation [`with_timeout`](crate::op::Op::with_timeout) is lighter.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use corio::{net::UnixStream, timeout};
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let (a, _b) = UnixStream::pair()?;
/// let outcome = timeout(Duration::from_millis(1), async {
///     loop {
///         let (result, _) = a.recv(vec![0; 64]).await;
///         if result.is_err() {
///             corio::sleep(Duration::from_secs(3600)).await;
///         }
///     }
/// })
/// .await;
/// assert!(outcome.is_err());
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[track_caller]
pub fn timeout<F: Future>(limit: Duration, future: F) -> Timeout<F> {
    Timeout {
        body: Scoped::new(Kind::Timeout, Location::caller(), future),
        alarm: Alarm::new(),
        limit,
        expired: false,
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let mut step = this.body.as_mut().poll(cx);
        if !*this.expired && matches!(step, Step::Pending) {
            let limit = nanos(*this.limit);
            let due = Runtime::with(|runtime| {
                this.alarm.poll(runtime, cx, |now| now.saturating_add(limit))
            });
            if due.is_ready() {
                *this.expired = true;
                step = this.body.cancel_and_poll(cx, os::ETIMEDOUT);
            }
        }
        match outcome(step) {
            Poll::Ready(Some(output)) => Poll::Ready(Ok(output)),
            Poll::Ready(None) if *this.expired => Poll::Ready(Err(Elapsed(()))),
            // Something around this block was cancelled and will drop it.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

impl<F> fmt::Debug for Timeout<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout").field("limit", &self.limit).finish_non_exhaustive()
    }
}
