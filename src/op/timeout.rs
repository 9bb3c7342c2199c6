//! A time limit for one operation, without a scope of its own.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;

use super::future::{Op, Operation};
use crate::os;
use crate::runtime::Runtime;
use crate::time::{Alarm, Reached, nanos};

pin_project! {
    /// An operation with a time limit; made by [`Op::with_timeout`].
    ///
    /// # Examples
    /// See [`Op::with_timeout`].
    #[must_use = "operations do nothing unless awaited"]
    pub struct WithTimeout<T: Operation> {
        #[pin]
        op: Op<T>,
        #[pin]
        alarm: Alarm,
        // In nanoseconds: smaller than a `Duration`.
        limit: u64,
        expired: bool,
    }
}

impl<T: Operation> Op<T> {
    /// Gives the operation at most `limit` from its first poll.
    ///
    /// When the limit is reached, the operation is cancelled and waited for: the kernel lets go
    /// before the result is there. An operation that completed before the cancellation reached it
    /// gives its true result, so no byte and no connection is lost; otherwise the error is of the
    /// kind `TimedOut`, carries [`Elapsed`](crate::Elapsed), and says how long the limit was.
    /// [`Duration::MAX`] is no limit.
    ///
    /// Limits are looked at between turns of the loop. A transfer that never waits, say from a
    /// cached file to `/dev/null`, makes way for that after 4 MiB or half a millisecond, and
    /// notices its own limit then.
    ///
    /// # Examples
    /// ```
    /// use std::{io::ErrorKind, os::unix::net::UnixStream, time::Duration};
    /// use corio::op::AsyncRecv;
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let (a, _b) = UnixStream::pair()?;
    /// let recv = AsyncRecv::new(&a, vec![0; 64]);
    /// let (result, buf) = recv.with_timeout(Duration::from_millis(1)).await;
    /// let error = result.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::TimedOut);
    /// assert_eq!(error.to_string(), "time limit of 1 ms reached");
    /// assert_eq!(buf.len(), 64);
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_timeout(self, limit: Duration) -> WithTimeout<T> {
        WithTimeout { op: self, alarm: Alarm::new(), limit: nanos(limit), expired: false }
    }
}

impl<T: Operation> Future for WithTimeout<T> {
    type Output = T::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T::Output> {
        let mut this = self.project();
        loop {
            if let Poll::Ready(result) = this.op.as_mut().poll_result(cx) {
                if *this.expired && result == -os::ECANCELED {
                    let _reached = Reached::new(Duration::from_nanos(*this.limit));
                    return Poll::Ready(this.op.finish(-os::TIME_LIMIT));
                }
                return Poll::Ready(this.op.finish(result));
            }
            if *this.expired {
                return Poll::Pending;
            }
            let limit = *this.limit;
            let due = Runtime::with(|runtime| {
                this.alarm.as_mut().poll(runtime, cx, |now| now.saturating_add(limit))
            });
            if due.is_pending() {
                return Poll::Pending;
            }
            *this.expired = true;
            this.op.as_mut().cancel();
            if this.op.is_in_flight() {
                return Poll::Pending;
            }
            // It was between two parts of a transfer: the next poll ends it.
        }
    }
}

impl<T: Operation> std::fmt::Debug for WithTimeout<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let limit = Duration::from_nanos(self.limit);
        f.debug_struct("WithTimeout").field("op", &self.op).field("limit", &limit).finish()
    }
}
