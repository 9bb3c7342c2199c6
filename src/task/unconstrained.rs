//! Futures without a budget.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::runtime::poll_budget;

/// Returns a future that runs `future` without a budget: what is ready in it never yields, so that
/// nothing else runs on this thread until it waits for something.
///
/// Usually a task that finds everything ready is polled again later, and the loop looks for timers,
/// I/O and other tasks, after one poll in which it has made
///
/// - 64 operations that completed at once, or 512 KiB of their results;
/// - 512 other awaits of this crate that were ready at once: locks, channels, tasks that had ended,
///   [`race`](crate::race()), [`join`](crate::join()), [`timeout`](crate::timeout()). (The list is
///   in `docs/architecture.md`, "Awaits that are ready at once".) Eight of them count as one
///   operation.
///
/// Then awaits are pending though they would be ready. So a future that is polled once by hand to
/// see whether it is ready may say that it is not; methods such as
/// [`try_recv`](crate::sync::mpsc::Receiver::try_recv) have no budget.
///
/// Awaits of other crates are not counted; use [`yield_now`](crate::yield_now()) between them.
///
/// # Examples
/// ```
/// use corio::sync::local::Mutex;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let sum = Mutex::new(0);
/// corio::unconstrained(async {
///     for n in 0..1000 {
///         *sum.lock().await += n; // no other task runs in between
///     }
/// })
/// .await;
/// assert_eq!(*sum.lock().await, 499_500);
/// # });
/// # Ok::<(), corio::SetupError>(())
/// ```
pub fn unconstrained<F: Future>(future: F) -> Unconstrained<F> {
    Unconstrained { future }
}

pin_project! {
    /// The future returned by [`unconstrained`].
    #[must_use = "futures do nothing unless awaited"]
    pub struct Unconstrained<F> {
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Unconstrained<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let _guard = poll_budget::Unconstrained::begin();
        self.project().future.poll(cx)
    }
}

impl<F> fmt::Debug for Unconstrained<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unconstrained").finish_non_exhaustive()
    }
}
