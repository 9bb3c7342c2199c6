//! Yielding to other tasks.

use std::pin::Pin;
use std::task::{Context, Poll};

/// Lets every other task that is ready run first.
///
/// # Examples
/// ```
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// for step in 0..1000 {
///     // … a piece of a long computation …
///     if step % 100 == 0 {
///         corio::yield_now().await;
///     }
/// }
/// # });
/// # Ok::<(), corio::SetupError>(())
/// ```
pub fn yield_now() -> YieldNow {
    YieldNow { yielded: false }
}

/// The future returned by [`yield_now`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct YieldNow {
    yielded: bool,
}

impl Future for YieldNow {
    type Output = ();

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.yielded {
            return Poll::Ready(());
        }
        self.yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
