//! Running futures against each other: `race` and `race_all`.

use std::fmt;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::branch::Branch;
use crate::runtime::poll_budget::within_budget;
use crate::runtime::scope::Kind;

/// The result of a [`race`] of two futures.
///
/// The loser was cancelled and waited for. Its output, if it has given one, is in the `Option`: one
/// that came too late to win, or the error of its cancellation. So nothing that an operation has
/// achieved is lost unless you drop it.
///
/// # Examples
/// See [`race`].
#[doc(alias = "Either")]
#[doc(alias = "Raced")] // words: allow(raced)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RaceOutput<A, B> {
    /// The first future has won.
    First(A, Option<B>),
    /// The second future has won.
    Second(Option<A>, B),
}

impl<A, B> RaceOutput<A, B> {
    /// Returns `true` if the first future has won.
    ///
    /// # Examples
    /// ```
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let output = corio::race(async { 1 }, corio::sleep(std::time::Duration::MAX)).await;
    /// assert!(output.is_first());
    /// # });
    /// # Ok::<(), corio::SetupError>(())
    /// ```
    pub fn is_first(&self) -> bool {
        matches!(self, RaceOutput::First(..))
    }

    /// Returns `true` if the second future has won.
    ///
    /// # Examples
    /// See [`is_first`](Self::is_first).
    pub fn is_second(&self) -> bool {
        matches!(self, RaceOutput::Second(..))
    }

    /// Returns the first future's output, if it has given one: as the winner, or as the loser.
    ///
    /// # Examples
    /// With a time limit, the operation's own output is there in both cases, so no byte and no
    /// connection is lost:
    /// ```
    /// use std::time::Duration;
    /// use corio::{net::UnixStream, race, sleep};
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let (a, _b) = UnixStream::pair()?;
    /// let output = race(a.recv(vec![0; 64]), sleep(Duration::from_millis(1))).await;
    /// let (result, _buf) = output.first().expect("a cancelled operation gives a result");
    /// assert!(corio::op::is_cancelled(&result.unwrap_err()));
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn first(self) -> Option<A> {
        match self {
            RaceOutput::First(first, _) => Some(first),
            RaceOutput::Second(first, _) => first,
        }
    }

    /// Returns the second future's output, if it has given one: as the winner, or as the loser.
    ///
    /// # Examples
    /// See [`first`](Self::first).
    pub fn second(self) -> Option<B> {
        match self {
            RaceOutput::First(_, second) => second,
            RaceOutput::Second(_, second) => Some(second),
        }
    }
}

impl<T> RaceOutput<T, T> {
    /// Returns the winner's output, and drops the loser's.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let slow = async {
    ///     corio::sleep(Duration::from_secs(3600)).await;
    ///     "slow"
    /// };
    /// assert_eq!(corio::race(slow, async { "fast" }).await.into_inner(), "fast");
    /// # });
    /// # Ok::<(), corio::SetupError>(())
    /// ```
    pub fn into_inner(self) -> T {
        match self {
            RaceOutput::First(output, _) | RaceOutput::Second(_, output) => output,
        }
    }
}

/// Runs two futures until one is ready, cancels the other, and waits until nothing of it is in
/// flight.
///
/// If both are ready at the same time, the first one wins; the output of the second one is returned
/// too.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use corio::{RaceOutput, net::UnixStream, race, sleep};
///
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let (a, _b) = UnixStream::pair()?;
/// match race(a.recv(vec![0; 64]), sleep(Duration::from_millis(1))).await {
///     RaceOutput::First((result, buf), _) => println!("received {:?}", &buf[..result?]),
///     // Nothing was received. The buffer is returned; if bytes had arrived just before the
///     // cancellation, the result would be their number.
///     RaceOutput::Second(Some((result, _buf)), ()) => assert!(result.is_err()),
///     RaceOutput::Second(None, ()) => unreachable!("a cancelled recv always ends with a result"),
/// }
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "select")]
#[doc(alias = "select!")]
#[track_caller]
pub fn race<A: Future, B: Future>(first: A, second: B) -> Race<A, B> {
    let location = Location::caller();
    Race {
        first: Branch::new(Kind::Race, location, first),
        second: Branch::new(Kind::Race, location, second),
        winner: None,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Winner {
    First,
    Second,
}

pin_project! {
    /// The future returned by [`race`].
    #[must_use = "futures do nothing unless awaited"]
    pub struct Race<A: Future, B: Future> {
        #[pin]
        first: Branch<A>,
        #[pin]
        second: Branch<B>,
        winner: Option<Winner>,
    }
}

impl<A: Future, B: Future> Future for Race<A, B> {
    type Output = RaceOutput<A::Output, B::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.first.was_polled() {
            return self.poll_branches(cx);
        }
        within_budget(cx, |cx| self.poll_branches(cx))
    }
}

impl<A: Future, B: Future> Race<A, B> {
    fn poll_branches(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<RaceOutput<A::Output, B::Output>> {
        let mut this = self.project();
        this.first.as_mut().poll(cx);
        if this.winner.is_none() && this.first.output().is_some() {
            *this.winner = Some(Winner::First);
            this.second.as_mut().cancel(cx);
        }
        this.second.as_mut().poll(cx);
        if this.winner.is_none() && this.second.output().is_some() {
            *this.winner = Some(Winner::Second);
            this.first.as_mut().cancel(cx);
        }
        if this.first.is_running() || this.second.is_running() {
            return Poll::Pending;
        }
        match (*this.winner, this.first.take(), this.second.take()) {
            (Some(Winner::First), Some(first), second) => {
                Poll::Ready(RaceOutput::First(first, second))
            }
            (Some(Winner::Second), first, Some(second)) => {
                Poll::Ready(RaceOutput::Second(first, second))
            }
            (Some(_), ..) => panic!("a race was polled after it gave its outputs"),
            // The whole race was cancelled from outside, and both branches were dropped without an
            // output: the scope around it drops this future now.
            (None, ..) => Poll::Pending,
        }
    }
}

/// Runs any number of futures until one is ready, cancels the others, and waits until nothing of
/// them is in flight.
///
/// Returns the index of the winner, and the outputs of all: `None` for futures that were dropped
/// without one. With no futures at all it is never ready.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let naps = [30, 1, 20].map(|ms| async move {
///     corio::sleep(Duration::from_millis(ms)).await;
///     ms
/// });
/// let (first, results) = corio::race_all(naps).await;
/// assert_eq!((first, results), (1, vec![None, Some(1), None]));
/// # });
/// # Ok::<(), corio::SetupError>(())
/// ```
#[doc(alias = "select_all")]
#[track_caller]
pub fn race_all<I: IntoIterator<Item: Future>>(futures: I) -> RaceAll<I::Item> {
    let location = Location::caller();
    let branch = |future| Box::pin(Branch::new(Kind::Race, location, future));
    RaceAll { branches: futures.into_iter().map(branch).collect(), winner: None }
}

/// The future returned by [`race_all`].
#[must_use = "futures do nothing unless awaited"]
pub struct RaceAll<F: Future> {
    branches: Vec<Pin<Box<Branch<F>>>>,
    /// The index of the first future that was ready.
    winner: Option<usize>,
}

// The futures are pinned in boxes of their own.
impl<F: Future> Unpin for RaceAll<F> {}

impl<F: Future> Future for RaceAll<F> {
    type Output = (usize, Vec<Option<F::Output>>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.branches.first().is_some_and(|first| first.was_polled()) {
            return self.poll_branches(cx);
        }
        within_budget(cx, |cx| self.poll_branches(cx))
    }
}

impl<F: Future> RaceAll<F> {
    fn poll_branches(&mut self, cx: &mut Context<'_>) -> Poll<(usize, Vec<Option<F::Output>>)> {
        let this = self;
        for (index, branch) in this.branches.iter_mut().enumerate() {
            branch.as_mut().poll(cx);
            if this.winner.is_none() && branch.output().is_some() {
                this.winner = Some(index);
            }
        }
        let Some(winner) = this.winner else { return Poll::Pending };
        assert!(!this.branches.is_empty(), "a race was polled after it gave its outputs");
        let mut running = false;
        for branch in &mut this.branches {
            if !branch.is_cancelled() {
                branch.as_mut().cancel(cx);
            }
            running |= branch.is_running();
        }
        if running {
            return Poll::Pending;
        }
        let outputs = this.branches.drain(..).map(|mut branch| branch.as_mut().take());
        Poll::Ready((winner, outputs.collect()))
    }
}

impl<A: Future, B: Future> fmt::Debug for Race<A, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Race").finish_non_exhaustive()
    }
}

impl<F: Future> fmt::Debug for RaceAll<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RaceAll")
            .field("branches", &self.branches.len())
            .field("winner", &self.winner)
            .finish()
    }
}
