//! A task on another thread's context, as seen from here.

use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use pin_project_lite::pin_project;

use super::join::JoinError;
use super::spawn_on;
use crate::context::Handle;
use crate::runtime::Runtime;
use crate::runtime::park::wait;
use crate::runtime::sync::{Mutex, lock};

struct State<T> {
    result: Option<Result<T, JoinError>>,
    begun: bool,
    ended: bool,
    /// The handle is gone: nobody wants the result.
    detached: bool,
    cancelled: bool,
    joiner: Option<Waker>,
    /// Wakes the task, so that it sees that it is cancelled.
    task: Option<Waker>,
}

/// Handle of a task that was started on another context by [`Handle::spawn`](crate::Handle::spawn):
/// await it, on any context or executor, or [`join`](Self::join) it from a plain thread. Dropping it
/// lets the task run on.
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
    /// Asks the task to end, as [`JoinHandle::cancel`](super::JoinHandle::cancel) does; one that has
    /// not started yet never will.
    pub fn cancel(&self) {
        let mut state = lock(&self.state);
        state.cancelled = true;
        let task = state.task.take();
        drop(state);
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        lock(&self.state).ended
    }

    /// Whether the task has run at all.
    pub(crate) fn has_begun(&self) -> bool {
        lock(&self.state).begun
    }

    /// Waits for the output on a plain thread.
    ///
    /// # Errors
    /// As for [`JoinHandle`](super::JoinHandle): the task was cancelled, or its context ended, or it
    /// panicked.
    ///
    /// # Panics
    /// Within a running context, which it would block.
    #[track_caller]
    pub fn join(self) -> Result<T, JoinError> {
        wait(self)
    }
}

impl<T> Future for RemoteTask<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // Made without the lock: a foreign waker's `clone` may run the task.
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

/// The task's side. Dropped without an output, it says that the task was cancelled.
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

    /// Whether the task is to end; else it runs now, and is woken when it is to end.
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
    /// The body of such a task.
    struct Reporting<T, F> {
        // Dropped first, as an unfinished task ends with its future.
        #[pin]
        future: F,
        started: bool,
        completion: Completion<T>,
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
                // The task ends as any that panics: when nothing of it is in flight any more.
                resume_unwind(Box::new("reported to the task's handle"))
            }
        }
    }
}

/// A task for some context, and its handle. Calling the first starts it on the context that is given;
/// what is given besides stays with the task until it has ended. Dropping it instead cancels the task.
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
        drop(spawn_on(runtime, Reporting { future, started: false, completion }, location));
    };
    (begin, RemoteTask { state })
}

impl Handle {
    /// Starts a task on the context. Works from any thread, also while the context does not run.
    ///
    /// `start` is called on the context's thread, so that the future need not be `Send`: only `start`
    /// and the output are. If the context was dropped, or is dropped before the task is done, the task
    /// counts as cancelled.
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
        // If the context was dropped, this drops the job, and with it the completion: the task counts as
        // cancelled.
        drop(self.remote.post_job(Box::new(move |runtime: &Runtime| begin(runtime, ()))));
        task
    }
}
