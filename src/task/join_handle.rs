//! The handle of a task, and the error of a task without output.

// # Why this file has `unsafe`
// A handle moves its task's output out of the task's cell, and a panic's payload is `Sync`.

use std::any::Any;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::panic::{RefUnwindSafe, UnwindSafe, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::cell::drop_quietly;
use crate::runtime::poll_budget::within_budget;
use crate::runtime::task::{Header, TaskRef};
use crate::runtime::waker::LocalWaker;

/// A handle to a task. Await it for the output, or [`cancel`](Self::cancel) the task. Dropping the
/// handle detaches the task, which runs on.
///
/// # Examples
/// ```
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let task = corio::spawn(async { 6 * 7 });
/// assert_eq!(task.await.unwrap(), 42);
///
/// let failing = corio::spawn(async { panic!("oh") });
/// assert!(failing.await.unwrap_err().is_panic());
/// # });
/// # Ok::<(), corio::SetupError>(())
/// ```
pub struct JoinHandle<T> {
    task: TaskRef,
    _output: PhantomData<T>,
}

// The output is not pinned in the handle.
impl<T> Unpin for JoinHandle<T> {}

impl<T> JoinHandle<T> {
    pub(super) fn new(task: TaskRef) -> Self {
        JoinHandle { task, _output: PhantomData }
    }

    /// Returns `true` if the task has ended.
    ///
    /// # Examples
    /// ```
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let task = corio::spawn(async {});
    /// assert!(!task.is_finished());
    /// corio::yield_now().await;
    /// assert!(task.is_finished());
    /// # });
    /// # Ok::<(), corio::SetupError>(())
    /// ```
    pub fn is_finished(&self) -> bool {
        self.task.is_done()
    }

    /// Cancels the task: its operations in flight are cancelled, and operations that it starts from
    /// now on fail with `ECANCELED`.
    ///
    /// The task is polled until nothing of it is in flight, so that it sees the results of its
    /// operations. If it is not done then, its future is dropped. Await the handle to wait for
    /// that: it gives the output if the future was ready, else a
    /// [cancelled](JoinError::is_cancelled) [`JoinError`].
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let task = corio::spawn(corio::sleep(Duration::from_secs(3600)));
    /// task.cancel();
    /// assert!(task.await.unwrap_err().is_cancelled());
    /// # });
    /// # Ok::<(), corio::SetupError>(())
    /// ```
    #[doc(alias = "abort")]
    pub fn cancel(&self) {
        self.task.cancel();
    }

    /// Has the task polled once more. Owning thread only.
    pub(crate) fn wake(&self) {
        self.task.schedule();
    }

    /// Makes a handle that [cancels](Self::cancel) the task when it is dropped. The drop
    /// does not wait until the task has ended.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let (sender, receiver) = corio::sync::local::oneshot::channel::<()>();
    /// let task = corio::spawn(async move {
    ///     corio::sleep(Duration::from_secs(3600)).await;
    ///     drop(sender);
    /// });
    /// drop(task.cancel_on_drop());
    /// assert!(receiver.await.is_err(), "the task has ended");
    /// # });
    /// # Ok::<(), corio::SetupError>(())
    /// ```
    #[doc(alias = "AbortOnDropHandle")]
    pub fn cancel_on_drop(self) -> CancelOnDrop<T> {
        CancelOnDrop(self)
    }

    /// Drops the handle, and cancels the task without polling it again.
    pub(super) fn abandon(self) {
        if !self.task.is_done() {
            self.task.detach();
            // It must not keep the task alive that it belongs to.
            self.task.joiner.set(LocalWaker::NONE);
            self.task.abandon();
        }
    }

    /// Takes the output, if the task has ended and the output is there.
    #[inline(always)]
    pub(crate) fn take(&mut self) -> Option<Result<T, JoinError>> {
        let output = self.task.claim_output()?;
        // SAFETY: the handle was created with the output's type, and an address of the output is
        // returned once.
        Some(unsafe { output.cast().read() })
    }

    /// Takes the output, if this handle has waited for it.
    #[inline(always)]
    fn take_awaited(&mut self) -> Option<Result<T, JoinError>> {
        let output = self.task.claim_awaited()?;
        // SAFETY: as in `take`.
        Some(unsafe { output.cast().read() })
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.take_awaited() {
            Some(output) => Poll::Ready(output),
            None if wait(&self.task, cx) => Poll::Pending,
            None => Poll::Ready(self.take().unwrap_or_else(|| Err(leaked(&self.task)))),
        }
    }
}

/// Has the waker woken when the task ends. Returns `false` if it has ended already. Not generic, so
/// that there is one copy for all types of outputs.
#[inline(never)]
fn wait(task: &Header, cx: &mut Context<'_>) -> bool {
    let waker = cx.waker();
    if task.is_done() {
        if task.is_unawaited() {
            return within_budget(cx, |_| Poll::Ready(())).is_pending();
        }
        assert!(task.take_leaked(), "a JoinHandle was polled after it gave its output");
        return false;
    }
    LocalWaker::update_own(&task.joiner, waker) || wait_for_foreign(task, waker)
}

/// Returns the error of a task that has ended without an output: leaked with its context.
#[cold]
fn leaked(task: &Header) -> JoinError {
    task.take_leaked();
    task.take_panic().map_or_else(JoinError::cancelled, JoinError::panicked)
}

#[cold]
fn wait_for_foreign(task: &Header, waker: &Waker) -> bool {
    LocalWaker::update(&task.joiner, waker);
    if task.is_done() {
        // The foreign waker's `clone` has run the task, or dropped its context.
        task.joiner.set(LocalWaker::NONE);
        return false;
    }
    true
}

// A panic between two calls leaves a handle as it is: each method changes it in one step, and a
// task that has panicked says so by its `JoinError`.
impl<T> UnwindSafe for JoinHandle<T> {}
impl<T> RefUnwindSafe for JoinHandle<T> {}

impl<T> Drop for JoinHandle<T> {
    #[inline]
    fn drop(&mut self) {
        if !self.task.is_over() {
            self.detach();
        }
    }
}

impl<T> JoinHandle<T> {
    /// Drops the output, or makes the task drop it when it ends.
    #[inline(never)]
    fn detach(&mut self) {
        if self.task.is_done() {
            // As where the task drops the output: a destructor's panic has no receiver.
            drop_quietly(self.take());
        } else {
            self.task.detach();
            // The waker must not keep the task that polled this handle alive.
            self.task.joiner.set(LocalWaker::NONE);
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle")
            .field("spawned_at", &format_args!("{}", self.task.scope.location))
            .field("finished", &self.is_finished())
            .finish()
    }
}

/// A [`JoinHandle`] that cancels its task when it is dropped. See [`JoinHandle::cancel_on_drop`].
#[derive(Debug)]
#[must_use = "the task is cancelled when this is dropped"]
pub struct CancelOnDrop<T>(JoinHandle<T>);

impl<T> Future for CancelOnDrop<T> {
    type Output = Result<T, JoinError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl<T> std::ops::Deref for CancelOnDrop<T> {
    type Target = JoinHandle<T>;
    fn deref(&self) -> &JoinHandle<T> {
        &self.0
    }
}

impl<T> Drop for CancelOnDrop<T> {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// The error of a task that has ended without an output: it was cancelled, or it has panicked.
///
/// `?` converts it to [`io::Error`] and to boxed errors. `Debug` prints the same text as `Display`.
///
/// # Examples
/// ```
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// async fn run() -> Result<u32, Box<dyn std::error::Error + Send + Sync>> {
///     Ok(corio::spawn(async { 7 }).await?)
/// }
/// assert_eq!(run().await.unwrap(), 7);
///
/// async fn read() -> std::io::Result<u32> {
///     Ok(corio::spawn(async { panic!("out of luck") }).await?)
/// }
/// assert_eq!(read().await.unwrap_err().to_string(), "the task panicked: out of luck");
/// # });
/// # Ok::<(), corio::SetupError>(())
/// ```
pub struct JoinError(Cause);

enum Cause {
    Cancelled,
    Panicked(Payload),
}

/// The payload of a panic. By shared reference it can only be read as text.
struct Payload(Box<dyn Any + Send>);

// SAFETY: by shared reference only `message` accesses the value: it checks its type and reads it if
// it is a string, and strings are `Sync`. All other uses move the value.
unsafe impl Sync for Payload {}

impl JoinError {
    pub(crate) fn cancelled() -> Self {
        JoinError(Cause::Cancelled)
    }

    pub(crate) fn panicked(panic: Box<dyn Any + Send>) -> Self {
        JoinError(Cause::Panicked(Payload(panic)))
    }

    /// Returns `true` if the task was cancelled, or its context was dropped.
    ///
    /// # Examples
    /// See [`JoinHandle::cancel`].
    pub fn is_cancelled(&self) -> bool {
        matches!(self.0, Cause::Cancelled)
    }

    /// Returns `true` if the task has panicked.
    ///
    /// # Examples
    /// See [`JoinHandle`].
    pub fn is_panic(&self) -> bool {
        matches!(self.0, Cause::Panicked(_))
    }

    /// Resumes the task's panic in the calling task.
    ///
    /// # Panics
    /// Always: with the task's own panic, or, if the task was cancelled, with a message that says
    /// so.
    ///
    /// # Examples
    /// ```should_panic
    /// # let mut context = corio::IoContext::new(8).unwrap();
    /// # context.block_on(async {
    /// let task = corio::spawn(async { panic!("oh") });
    /// if let Err(error) = task.await {
    ///     error.resume_panic(); // panics with "oh"
    /// }
    /// # });
    /// ```
    #[doc(alias = "into_panic")]
    #[doc(alias = "resume_unwind")]
    pub fn resume_panic(self) -> ! {
        match self.0 {
            Cause::Panicked(Payload(panic)) => resume_unwind(panic),
            Cause::Cancelled => panic!("the task was cancelled before it had an output"),
        }
    }

    /// Returns the text of the panic, or "?" if its payload is not a text; `None` if there was
    /// none.
    fn message(&self) -> Option<&str> {
        let Cause::Panicked(Payload(panic)) = &self.0 else { return None };
        let text = panic.downcast_ref::<&'static str>().copied();
        Some(text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("?"))
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.message() {
            Some(message) => write!(f, "the task panicked: {message}"),
            None => f.write_str("the task was cancelled"),
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for JoinError {}

impl From<JoinError> for io::Error {
    fn from(error: JoinError) -> Self {
        io::Error::other(error)
    }
}
