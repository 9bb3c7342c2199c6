//! Futures out of futures: race, join, yield.

use crate::os;
use std::fmt;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::scoped::{Scoped, outcome};
use crate::runtime::scope::{Kind, Step};

/// How a [`race`] of two came out.
///
/// The loser was cancelled and waited for. If it ended by itself after all, with a result that came
/// too late to win or with the error of the cancellation, that is in the `Option`: nothing that an
/// operation brought is lost without your saying so.
///
/// # Examples
/// See [`race`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RaceOutput<A, B> {
    /// The left future was first.
    First(A, Option<B>),
    /// The right future was first.
    Second(Option<A>, B),
}

/// Runs two futures until one is done; cancels the other, and waits until the kernel has let go of
/// everything it had in flight.
///
/// Both may be done at the same time; then left wins, and the right one's result comes along.
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
///     // Nothing came. The buffer is back, and no byte was lost: had one arrived at the last
///     // moment, the result would say so.
///     RaceOutput::Second(Some((result, _buf)), ()) => assert!(result.is_err()),
///     RaceOutput::Second(None, ()) => unreachable!("a cancelled recv always ends with a result"),
/// }
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[track_caller]
pub fn race<A: Future, B: Future>(a: A, b: B) -> Race<A, B> {
    let location = Location::caller();
    Race {
        left: Scoped::new(Kind::Race, location, a),
        right: Scoped::new(Kind::Race, location, b),
        left_end: End::Running,
        right_end: End::Running,
        winner: None,
    }
}

/// What has become of one branch.
#[derive(Debug)]
enum End<T> {
    Running,
    /// `None`: cancelled, and dropped without a result.
    Over(Option<T>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    First,
    Second,
}

pin_project! {
    /// The future made by [`race`].
    #[must_use = "futures do nothing unless awaited"]
    pub struct Race<A: Future, B: Future> {
        #[pin]
        left: Scoped<A>,
        #[pin]
        right: Scoped<B>,
        left_end: End<A::Output>,
        right_end: End<B::Output>,
        winner: Option<Side>,
    }
}

/// Polls one branch if it is still running.
fn advance<F: Future>(
    branch: Pin<&mut Scoped<F>>,
    end: &mut End<F::Output>,
    cx: &mut Context<'_>,
    poll: impl FnOnce(Pin<&mut Scoped<F>>, &mut Context<'_>) -> Step<F::Output>,
) {
    if let End::Running = end {
        if let Poll::Ready(result) = outcome(poll(branch, cx)) {
            *end = End::Over(result);
        }
    }
}

impl<A: Future, B: Future> Future for Race<A, B> {
    type Output = RaceOutput<A::Output, B::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        advance(this.left.as_mut(), this.left_end, cx, Scoped::poll);
        if this.winner.is_none() && matches!(this.left_end, End::Over(Some(_))) {
            *this.winner = Some(Side::First);
            advance(this.right.as_mut(), this.right_end, cx, cancel_and_poll);
        }
        advance(this.right.as_mut(), this.right_end, cx, Scoped::poll);
        if this.winner.is_none() && matches!(this.right_end, End::Over(Some(_))) {
            *this.winner = Some(Side::Second);
            advance(this.left.as_mut(), this.left_end, cx, cancel_and_poll);
        }
        let (End::Over(left), End::Over(right)) = (&mut *this.left_end, &mut *this.right_end)
        else {
            return Poll::Pending;
        };
        match (left.take(), right.take(), *this.winner) {
            (Some(left), right, Some(Side::First)) => Poll::Ready(RaceOutput::First(left, right)),
            (left, Some(right), Some(Side::Second)) => Poll::Ready(RaceOutput::Second(left, right)),
            // The race as a whole was cancelled and both branches were dropped without a result:
            // nobody has won, and whoever cancelled drops the race now.
            _ => Poll::Pending,
        }
    }
}

/// What a race does to its losers.
fn cancel_and_poll<F: Future>(
    branch: Pin<&mut Scoped<F>>,
    cx: &mut Context<'_>,
) -> Step<F::Output> {
    branch.cancel_and_poll(cx, os::ECANCELED)
}

/// Runs any number of futures until one is done; cancels the others and waits for them.
///
/// Gives the index of the first one done, and what each has brought: `None` for those that were
/// dropped without a result. An empty set is never done.
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
#[track_caller]
pub fn race_all<I: IntoIterator<Item: Future>>(futures: I) -> RaceAll<I::Item> {
    let location = Location::caller();
    RaceAll {
        branches: futures
            .into_iter()
            .map(|future| (Box::pin(Scoped::new(Kind::Race, location, future)), End::Running))
            .collect(),
        winner: None,
    }
}

type Branch<F> = (Pin<Box<Scoped<F>>>, End<<F as Future>::Output>);

/// The future made by [`race_all`].
#[must_use = "futures do nothing unless awaited"]
pub struct RaceAll<F: Future> {
    branches: Vec<Branch<F>>,
    winner: Option<usize>,
}

// The futures are pinned in boxes of their own.
impl<F: Future> Unpin for RaceAll<F> {}

impl<F: Future> Future for RaceAll<F> {
    type Output = (usize, Vec<Option<F::Output>>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        for (index, (branch, end)) in this.branches.iter_mut().enumerate() {
            advance(branch.as_mut(), end, cx, Scoped::poll);
            if this.winner.is_none() && matches!(end, End::Over(Some(_))) {
                this.winner = Some(index);
            }
        }
        let Some(winner) = this.winner else { return Poll::Pending };
        let mut running = false;
        for (branch, end) in &mut this.branches {
            if !branch.is_cancelled() {
                advance(branch.as_mut(), end, cx, cancel_and_poll);
            }
            running |= matches!(end, End::Running);
        }
        if running {
            return Poll::Pending;
        }
        let results = this.branches.drain(..).map(|(_, end)| match end {
            End::Over(result) => result,
            End::Running => None,
        });
        Poll::Ready((winner, results.collect()))
    }
}

/// Runs futures together and gives all their outputs, in the order of the futures.
///
/// Each wake polls every future that is not done, so for thousands of them [`spawn`](crate::spawn)
/// tasks instead.
///
/// # Examples
/// ```
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let squares = corio::join_all((1..4).map(|n| async move { n * n })).await;
/// assert_eq!(squares, [1, 4, 9]);
/// # });
/// # Ok::<(), corio::SetupError>(())
/// ```
pub fn join_all<I: IntoIterator<Item: Future>>(futures: I) -> JoinAll<I::Item> {
    JoinAll { parts: futures.into_iter().map(|future| Part::Running(Box::pin(future))).collect() }
}

enum Part<F: Future> {
    Running(Pin<Box<F>>),
    Done(F::Output),
}

/// The future made by [`join_all`].
#[must_use = "futures do nothing unless awaited"]
pub struct JoinAll<F: Future> {
    parts: Vec<Part<F>>,
}

// The futures are pinned in boxes of their own.
impl<F: Future> Unpin for JoinAll<F> {}

impl<F: Future> Future for JoinAll<F> {
    type Output = Vec<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut running = false;
        for part in &mut self.parts {
            if let Part::Running(future) = part {
                match future.as_mut().poll(cx) {
                    Poll::Ready(output) => *part = Part::Done(output),
                    Poll::Pending => running = true,
                }
            }
        }
        if running {
            return Poll::Pending;
        }
        let outputs = self.parts.drain(..).map(|part| match part {
            Part::Done(output) => output,
            Part::Running(_) => unreachable!("nothing is running"),
        });
        Poll::Ready(outputs.collect())
    }
}

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

/// The future made by [`yield_now`].
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

impl<F: Future> fmt::Debug for RaceAll<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RaceAll")
            .field("branches", &self.branches.len())
            .field("winner", &self.winner)
            .finish()
    }
}

impl<F: Future> fmt::Debug for JoinAll<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinAll").field("parts", &self.parts.len()).finish()
    }
}

impl<A: Future, B: Future> fmt::Debug for Race<A, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Race").finish_non_exhaustive()
    }
}
