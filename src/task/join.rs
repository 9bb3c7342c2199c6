//! Running futures together: `join` and `join_all`.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::runtime::poll_budget::within_budget;

pin_project! {
    /// A future, and then its output.
    #[project = PartProjection]
    enum Part<F: Future> {
        Running {
            #[pin]
            future: F,
        },
        Done {
            output: Option<F::Output>,
        },
    }
}

impl<F: Future> Part<F> {
    /// Polls the future if it is running. Returns `true` once it is done.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> bool {
        if let PartProjection::Running { future } = self.as_mut().project() {
            match future.poll(cx) {
                Poll::Ready(output) => self.set(Part::Done { output: Some(output) }),
                Poll::Pending => return false,
            }
        }
        true
    }

    /// Takes the output of a future that is done.
    ///
    /// # Panics
    /// If the output was taken already.
    fn take(self: Pin<&mut Self>) -> F::Output {
        let output = match self.project() {
            PartProjection::Running { .. } => None,
            PartProjection::Done { output } => output.take(),
        };
        output.expect("a join was polled after it gave its outputs")
    }
}

/// Runs two futures together and returns both outputs.
///
/// Each wake polls both futures that are not done. To end both at the first error, use
/// [`try_join`](super::try_join()).
///
/// # Examples
/// ```
/// use corio::net::UnixStream;
///
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let (a, b) = UnixStream::pair()?;
/// let ((sent, _), (received, buf)) =
///     corio::join(a.send_all("hello"), b.recv_exact(vec![0; 5])).await;
/// sent?;
/// received?;
/// assert_eq!(buf, b"hello");
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "join!")]
pub fn join<A: Future, B: Future>(first: A, second: B) -> Join<A, B> {
    let (first, second) = (Part::Running { future: first }, Part::Running { future: second });
    Join { first, second, polled: false }
}

pin_project! {
    /// The future returned by [`join`].
    #[must_use = "futures do nothing unless awaited"]
    pub struct Join<A: Future, B: Future> {
        #[pin]
        first: Part<A>,
        #[pin]
        second: Part<B>,
        polled: bool,
    }
}

impl<A: Future, B: Future> Future for Join<A, B> {
    type Output = (A::Output, B::Output);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if *self.as_mut().project().polled {
            return self.poll_parts(cx);
        }
        within_budget(cx, |cx| self.poll_parts(cx))
    }
}

impl<A: Future, B: Future> Join<A, B> {
    fn poll_parts(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<(A::Output, B::Output)> {
        let mut this = self.project();
        *this.polled = true;
        let first_done = this.first.as_mut().poll(cx);
        let second_done = this.second.as_mut().poll(cx);
        if first_done && second_done {
            Poll::Ready((this.first.take(), this.second.take()))
        } else {
            Poll::Pending
        }
    }
}

/// Runs futures together and returns all outputs, in the order of the futures.
///
/// Each wake polls every future that is not done, so for thousands of them
/// [`spawn`](crate::spawn()) tasks instead.
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
#[doc(alias = "JoinSet")]
#[doc(alias = "FuturesUnordered")]
pub fn join_all<I: IntoIterator<Item: Future>>(futures: I) -> JoinAll<I::Item> {
    let part = |future| Box::pin(Part::Running { future });
    JoinAll { parts: futures.into_iter().map(part).collect(), polled: false }
}

/// The future returned by [`join_all`].
#[must_use = "futures do nothing unless awaited"]
pub struct JoinAll<F: Future> {
    parts: Vec<Pin<Box<Part<F>>>>,
    polled: bool,
}

// The futures are pinned in boxes of their own.
impl<F: Future> Unpin for JoinAll<F> {}

impl<F: Future> Future for JoinAll<F> {
    type Output = Vec<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polled {
            return self.poll_parts(cx);
        }
        within_budget(cx, |cx| self.poll_parts(cx))
    }
}

impl<F: Future> JoinAll<F> {
    fn poll_parts(&mut self, cx: &mut Context<'_>) -> Poll<Vec<F::Output>> {
        self.polled = true;
        let mut done = true;
        for part in &mut self.parts {
            done &= part.as_mut().poll(cx);
        }
        if !done {
            return Poll::Pending;
        }
        Poll::Ready(self.parts.drain(..).map(|mut part| part.as_mut().take()).collect())
    }
}

impl<A: Future, B: Future> fmt::Debug for Join<A, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Join").finish_non_exhaustive()
    }
}

impl<F: Future> fmt::Debug for JoinAll<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinAll").field("parts", &self.parts.len()).finish()
    }
}
