//! Tasks that are started on a context from another thread.

// # Why this file has `unsafe`
// A task that is leaked with its context is reported from its body, which stays in place.

use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use pin_project_lite::pin_project;

use super::cell::{OnLeak, spawn_with};
use super::join_handle::JoinError;
use crate::context::Handle;
use crate::runtime::Runtime;
use crate::runtime::park::wait;
use crate::runtime::poll_budget::within_budget;
use crate::runtime::sync::{Mutex, lock};

/// The state that a task and its handle share.
struct State<T> {
    result: Option<Result<T, JoinError>>,
    /// The task was polled.
    begun: bool,
    ended: bool,
    /// The handle was dropped, so the result is dropped too.
    detached: bool,
    cancelled: bool,
    joiner: Option<Waker>,
    /// Wakes the task, so that it sees that it was cancelled.
    task: Option<Waker>,
}

/// A handle to a task that was started by [`Handle::spawn`](crate::Handle::spawn).
///
/// Await it on any context or executor, or [`join`](Self::join) it on a plain thread. Dropping it
/// detaches the task, which runs on.
///
/// # Examples
/// ```
/// let (sender, receiver) = std::sync::mpsc::channel();
/// let other = std::thread::spawn(move || {
///     let mut context = corio::IoContext::new(8).unwrap();
///     sender.send(context.handle()).unwrap();
///     context.run(|_| {}).unwrap();
/// });
/// let handle = receiver.recv().unwrap();
///
/// // From a plain thread:
/// let task = handle.spawn(|| async { 6 * 7 });
/// assert_eq!(task.join().unwrap(), 42);
///
/// // From another context:
/// let mut context = corio::IoContext::new(8)?;
/// let answer = context.block_on(handle.spawn(|| async { "hello from over there" }));
/// assert_eq!(answer.unwrap(), "hello from over there");
///
/// handle.stop();
/// other.join().unwrap();
/// # Ok::<(), corio::SetupError>(())
/// ```
#[must_use = "dropping the handle lets the task run on; `drop(..)` says that you want that"]
pub struct RemoteTask<T> {
    state: Arc<Mutex<State<T>>>,
}

impl<T> RemoteTask<T> {
    /// Cancels the task, as [`JoinHandle::cancel`](super::JoinHandle::cancel) does. A task that has
    /// not started yet never starts.
    ///
    /// # Examples
    /// ```
    /// let mut context = corio::IoContext::new(8)?;
    /// let task = context.handle().spawn(|| async { unreachable!("it was cancelled before") });
    /// task.cancel();
    /// let result: Result<(), _> = context.block_on(task);
    /// assert!(result.unwrap_err().is_cancelled());
    /// # Ok::<(), corio::SetupError>(())
    /// ```
    #[doc(alias = "abort")]
    pub fn cancel(&self) {
        let mut state = lock(&self.state);
        state.cancelled = true;
        let task = state.task.take();
        drop(state);
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Returns `true` if the task has ended.
    ///
    /// # Examples
    /// ```
    /// let mut context = corio::IoContext::new(8)?;
    /// let mut task = context.handle().spawn(|| async {});
    /// assert!(!task.is_finished());
    /// context.block_on(async { (&mut task).await })?;
    /// assert!(task.is_finished());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_finished(&self) -> bool {
        lock(&self.state).ended
    }

    /// Returns `true` if the task was polled.
    pub(crate) fn has_begun(&self) -> bool {
        lock(&self.state).begun
    }

    fn poll_result(&self, cx: &mut Context<'_>) -> Poll<Result<T, JoinError>> {
        // Cloned without the lock: a foreign waker's `clone` may run the task.
        let waker = cx.waker().clone();
        let mut state = lock(&self.state);
        if let Some(result) = state.result.take() {
            return Poll::Ready(result);
        }
        assert!(!state.ended, "a RemoteTask was polled after it gave its output");
        let old = state.joiner.replace(waker);
        drop(state);
        drop(old);
        Poll::Pending
    }

    /// Blocks a plain thread until the task has ended, and returns the output.
    ///
    /// # Errors
    /// [`JoinError`] if the task was cancelled or has panicked, or its context was dropped.
    ///
    /// # Panics
    /// If a context is running on this thread, which would be blocked.
    ///
    /// # Examples
    /// See [`RemoteTask`].
    #[track_caller]
    pub fn join(self) -> Result<T, JoinError> {
        wait(self)
    }
}

impl<T> Future for RemoteTask<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        within_budget(cx, |cx| self.poll_result(cx))
    }
}

impl<T> Drop for RemoteTask<T> {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.detached = true;
        let left = (state.result.take(), state.joiner.take());
        drop(state);
        drop(left);
    }
}

impl<T> fmt::Debug for RemoteTask<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteTask").field("finished", &self.is_finished()).finish()
    }
}

/// The task's side of the shared state. Dropping it without an output reports a cancelled task.
struct Completion<T>(Arc<Mutex<State<T>>>);

impl<T> Completion<T> {
    fn complete(&self, result: Result<T, JoinError>) {
        let mut state = lock(&self.0);
        if state.ended {
            return;
        }
        state.ended = true;
        let (joiner, task) = (state.joiner.take(), state.task.take());
        let unwanted = match state.detached {
            true => Some(result),
            false => {
                state.result = Some(result);
                None
            }
        };
        drop(state);
        drop((unwanted, task));
        if let Some(joiner) = joiner {
            joiner.wake();
        }
    }

    /// Returns `true` if the task was cancelled. Otherwise registers `waker` to be woken when it
    /// is.
    fn is_cancelled(&self, waker: &Waker) -> bool {
        let mut state = lock(&self.0);
        if !state.cancelled {
            state.begun = true;
            state.task.get_or_insert_with(|| waker.clone());
        }
        state.cancelled
    }
}

impl<T> Drop for Completion<T> {
    fn drop(&mut self) {
        self.complete(Err(JoinError::cancelled()));
    }
}

pin_project! {
    /// The body of the task, which reports its output to the handle.
    struct Reporting<T, F> {
        // Declared first, so dropped first: the task is reported as ended after its future was
        // dropped.
        #[pin]
        future: F,
        started: bool,
        completion: Completion<T>,
    }
}

/// Reports a leaked task as cancelled.
struct ReportLeak;

impl<T, F> OnLeak<Reporting<T, F>> for ReportLeak {
    unsafe fn leak(body: *const Reporting<T, F>) {
        // SAFETY: the body exists. Only this field is borrowed, which no operation uses and which
        // is not pinned.
        let completion = unsafe { &(*body).completion };
        completion.complete(Err(JoinError::cancelled()));
    }
}

impl<T, F: Future<Output = T>> Future for Reporting<T, F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.completion.is_cancelled(cx.waker()) {
            if !*this.started {
                return Poll::Ready(());
            }
            Runtime::cancel_current_task();
        }
        *this.started = true;
        let future = this.future;
        match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => {
                this.completion.complete(Ok(output));
                Poll::Ready(())
            }
            Err(panic) => {
                this.completion.complete(Err(JoinError::panicked(panic)));
                // The task ends like any other that panics: when nothing of it is in flight.
                resume_unwind(Box::new("reported to the task's handle"))
            }
        }
    }
}

/// Creates a task that is not bound to a context yet, and its handle.
///
/// Calling the returned function starts the task on the given runtime; its second argument is
/// dropped when the task has ended. Dropping the function instead cancels the task.
pub(crate) fn unstarted<F, Fut, K>(
    start: F,
    location: &'static Location<'static>,
) -> (impl FnOnce(&Runtime, K) + Send + 'static + use<F, Fut, K>, RemoteTask<Fut::Output>)
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future + 'static,
    Fut::Output: Send + 'static,
    K: 'static,
{
    let state = Arc::new(Mutex::new(State {
        result: None,
        begun: false,
        ended: false,
        detached: false,
        cancelled: false,
        joiner: None,
        task: None,
    }));
    let completion = Completion(state.clone());
    let begin = move |runtime: &Runtime, kept: K| {
        let future = async move {
            let _kept = kept;
            start().await
        };
        let body = Reporting { future, started: false, completion };
        // SAFETY: the body is `'static`, as `F`, `Fut` and `K` are.
        drop(unsafe { spawn_with::<_, ReportLeak>(runtime, body, location) });
    };
    (begin, RemoteTask { state })
}

impl Handle {
    /// Starts a task on the context. Works from any thread, also while the context does not run.
    ///
    /// `start` is called on the context's thread, so that the future need not be `Send`: only
    /// `start` and the output are. If the context was dropped, or is dropped before the task is
    /// done, the task counts as cancelled.
    ///
    /// # Examples
    /// See [`RemoteTask`].
    #[track_caller]
    pub fn spawn<F, Fut>(&self, start: F) -> RemoteTask<Fut::Output>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future + 'static,
        Fut::Output: Send + 'static,
    {
        let (begin, task) = unstarted(start, Location::caller());
        // If the context was dropped, this drops the job, and with it the completion: the task
        // counts as cancelled.
        drop(self.remote.post_job(Box::new(move |runtime: &Runtime| begin(runtime, ()))));
        task
    }
}
