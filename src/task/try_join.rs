//! Running futures together until one fails: `try_join` and `try_join_all`.

use std::fmt;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::branch::Branch;
use crate::runtime::poll_budget::within_budget;
use crate::runtime::scope::Kind;

/// Runs two futures together and returns both outputs, or the first error.
///
/// When one fails, the other is cancelled, and waited for until nothing of it is in flight; its
/// output, if it still gives one, is dropped. So this is safe where `try_join!` of other crates
/// would drop operations in flight.
///
/// # Errors
/// The error of the future that failed first.
///
/// # Examples
/// ```
/// use std::io::{self, ErrorKind};
/// use corio::net::UnixStream;
///
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let (a, b) = UnixStream::pair()?;
/// let outcome = corio::try_join(
///     async { b.recv(vec![0; 64]).await.0 }, // never completes by itself
///     async { Err::<(), _>(io::Error::from(ErrorKind::InvalidData)) },
/// )
/// .await;
/// assert_eq!(outcome.unwrap_err().kind(), ErrorKind::InvalidData);
/// # drop(a);
/// # Ok::<(), io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "try_join!")]
#[track_caller]
pub fn try_join<A, B, T, U, E>(first: A, second: B) -> TryJoin<A, B>
where
    A: Future<Output = Result<T, E>>,
    B: Future<Output = Result<U, E>>,
{
    let location = Location::caller();
    TryJoin {
        first: Branch::new(Kind::TryJoin, location, first),
        second: Branch::new(Kind::TryJoin, location, second),
        failed: None,
    }
}

#[derive(Clone, Copy)]
enum Failed {
    First,
    Second,
}

pin_project! {
    /// The future returned by [`try_join`].
    #[must_use = "futures do nothing unless awaited"]
    pub struct TryJoin<A: Future, B: Future> {
        #[pin]
        first: Branch<A>,
        #[pin]
        second: Branch<B>,
        failed: Option<Failed>,
    }
}

impl<A, B, T, U, E> Future for TryJoin<A, B>
where
    A: Future<Output = Result<T, E>>,
    B: Future<Output = Result<U, E>>,
{
    type Output = Result<(T, U), E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.first.was_polled() {
            return self.poll_branches(cx);
        }
        within_budget(cx, |cx| self.poll_branches(cx))
    }
}

impl<A, B, T, U, E> TryJoin<A, B>
where
    A: Future<Output = Result<T, E>>,
    B: Future<Output = Result<U, E>>,
{
    fn poll_branches(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(T, U), E>> {
        let mut this = self.project();
        this.first.as_mut().poll(cx);
        if this.failed.is_none() && matches!(this.first.output(), Some(Err(_))) {
            *this.failed = Some(Failed::First);
            this.second.as_mut().cancel(cx);
        }
        this.second.as_mut().poll(cx);
        if this.failed.is_none() && matches!(this.second.output(), Some(Err(_))) {
            *this.failed = Some(Failed::Second);
            this.first.as_mut().cancel(cx);
        }
        if this.first.is_running() || this.second.is_running() {
            return Poll::Pending;
        }
        match (*this.failed, this.first.take(), this.second.take()) {
            (None, Some(Ok(first)), Some(Ok(second))) => Poll::Ready(Ok((first, second))),
            (Some(Failed::First), Some(Err(error)), _)
            | (Some(Failed::Second), _, Some(Err(error))) => Poll::Ready(Err(error)),
            // The whole was cancelled from outside, and a branch was dropped without an output: the
            // scope around it drops this future now.
            _ => Poll::Pending,
        }
    }
}

/// Runs futures together and returns all outputs, in the order of the futures, or the first error.
///
/// When one fails, the others are cancelled, and waited for until nothing of them is in flight;
/// their outputs are dropped. Each wake polls every future that is not done, so for thousands of
/// them [`spawn`](crate::spawn()) tasks instead.
///
/// # Errors
/// The error of the future that failed first.
///
/// # Examples
/// ```
/// use corio::fs::File;
///
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let lengths = corio::try_join_all(["Cargo.toml", "README.md"].map(|path| async move {
///     let file = File::open(path).await?;
///     file.read_at(vec![0; 16], 0).await.0
/// }));
/// assert_eq!(lengths.await?, [16, 16]);
///
/// let missing = corio::try_join_all(["Cargo.toml", "missing"].map(File::open)).await;
/// assert_eq!(missing.unwrap_err().kind(), std::io::ErrorKind::NotFound);
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[track_caller]
pub fn try_join_all<I, T, E>(futures: I) -> TryJoinAll<I::Item>
where
    I: IntoIterator<Item: Future<Output = Result<T, E>>>,
{
    let location = Location::caller();
    let branch = |future| Box::pin(Branch::new(Kind::TryJoin, location, future));
    TryJoinAll { branches: futures.into_iter().map(branch).collect(), failed: None }
}

/// The future returned by [`try_join_all`].
#[must_use = "futures do nothing unless awaited"]
pub struct TryJoinAll<F: Future> {
    branches: Vec<Pin<Box<Branch<F>>>>,
    /// The index of the first future that failed.
    failed: Option<usize>,
}

// The futures are pinned in boxes of their own.
impl<F: Future> Unpin for TryJoinAll<F> {}

impl<F, T, E> Future for TryJoinAll<F>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<Vec<T>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.branches.first().is_some_and(|first| first.was_polled()) {
            return self.poll_branches(cx);
        }
        within_budget(cx, |cx| self.poll_branches(cx))
    }
}

impl<F, T, E> TryJoinAll<F>
where
    F: Future<Output = Result<T, E>>,
{
    fn poll_branches(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<T>, E>> {
        let this = self;
        for (index, branch) in this.branches.iter_mut().enumerate() {
            branch.as_mut().poll(cx);
            if this.failed.is_none() && matches!(branch.output(), Some(Err(_))) {
                this.failed = Some(index);
            }
        }
        let mut running = false;
        for branch in &mut this.branches {
            if this.failed.is_some() && !branch.is_cancelled() {
                branch.as_mut().cancel(cx);
            }
            running |= branch.is_running();
        }
        if running {
            return Poll::Pending;
        }
        let mut outputs = Vec::with_capacity(this.branches.len());
        for (index, branch) in this.branches.iter_mut().enumerate() {
            match branch.as_mut().take() {
                Some(Ok(output)) => outputs.push(output),
                Some(Err(error)) if this.failed == Some(index) => return Poll::Ready(Err(error)),
                // An error of another one, after which the first one's is still to come; or the
                // whole was cancelled from outside.
                _ => {}
            }
        }
        if this.failed.is_none() && outputs.len() == this.branches.len() {
            Poll::Ready(Ok(outputs))
        } else {
            // As in `TryJoin`.
            Poll::Pending
        }
    }
}

impl<A: Future, B: Future> fmt::Debug for TryJoin<A, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TryJoin").finish_non_exhaustive()
    }
}

impl<F: Future> fmt::Debug for TryJoinAll<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TryJoinAll").field("branches", &self.branches.len()).finish()
    }
}
