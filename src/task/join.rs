//! Waiting for a task, or ending it.
//!
//! # Why this file has `unsafe`
//! A handle takes its task's output out of the task's cell, and a panic's payload is shared.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::runtime::task::{Header, TaskRef};
use crate::runtime::waker::LocalWaker;

/// A task's handle: await it for the output, [`cancel`](Self::cancel) it, or drop it to let the
/// task run on by itself.
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

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        self.task.is_done()
    }

    /// Asks the task to end: every operation it has in flight is cancelled, and operations it
    /// starts from now on fail with `ECANCELED`.
    ///
    /// The task is polled until nothing of it is in flight, so that it sees what became of its
    /// operations; if it is still not done then, it is dropped. Await the handle to wait for that:
    /// it gives the output if the task ended by itself, else a cancelled [`JoinError`].
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
    pub fn cancel(&self) {
        self.task.cancel();
    }

    /// The output, if the task has ended and nobody took it.
    #[inline(always)]
    pub(crate) fn take(&mut self) -> Option<Result<T, JoinError>> {
        let output = self.task.claim_output()?;
        // SAFETY: the handle was made with the output's type, and just this once the output is
        // there.
        Some(unsafe { output.cast().read() })
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.take() {
            Some(output) => Poll::Ready(output),
            None if wait(&self.task, cx.waker()) => Poll::Pending,
            None => Poll::Ready(self.take().expect("nobody else takes it")),
        }
    }
}

/// Has `waker` woken when the task ends; `false`: it has ended meanwhile. One function for all
/// outputs.
#[inline(never)]
fn wait(task: &Header, waker: &Waker) -> bool {
    assert!(!task.is_done(), "a JoinHandle was polled after it gave its output");
    LocalWaker::update_own(&task.joiner, waker) || wait_for_foreign(task, waker)
}

#[cold]
fn wait_for_foreign(task: &Header, waker: &Waker) -> bool {
    LocalWaker::update(&task.joiner, waker);
    if task.is_done() {
        // The waker's `clone` has run the task, or dropped its context.
        task.joiner.set(LocalWaker::NONE);
        return false;
    }
    true
}

impl<T> Drop for JoinHandle<T> {
    #[inline]
    fn drop(&mut self) {
        if !self.task.is_over() {
            self.give_up();
        }
    }
}

impl<T> JoinHandle<T> {
    /// The output is dropped, now or when it comes.
    #[inline(never)]
    fn give_up(&mut self) {
        if self.task.is_done() {
            drop(self.take());
        } else {
            self.task.detach();
            // Whoever polled this handle has no more interest, and need not be kept alive by it.
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

/// Why a task has no output. It is `Send` and `Sync`, so `?` takes it into any error type.
///
/// # Examples
/// ```
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// async fn run() -> Result<u32, Box<dyn std::error::Error + Send + Sync>> {
///     Ok(corio::spawn(async { 7 }).await?)
/// }
/// assert_eq!(run().await.unwrap(), 7);
/// # });
/// # Ok::<(), corio::SetupError>(())
/// ```
pub struct JoinError(Cause);

enum Cause {
    Cancelled,
    Panicked(Payload),
}

/// What a panic carried. Shared, it is only looked at as text.
struct Payload(Box<dyn Any + Send>);

// SAFETY: by shared reference only `message` reaches the value, and it does nothing with it but ask
// for its type and read it if it is a string; strings are `Sync`. Otherwise it moves as a whole.
unsafe impl Sync for Payload {}

impl JoinError {
    pub(crate) fn cancelled() -> Self {
        JoinError(Cause::Cancelled)
    }

    pub(crate) fn panicked(panic: Box<dyn Any + Send>) -> Self {
        JoinError(Cause::Panicked(Payload(panic)))
    }

    /// The task was cancelled, or its context ended.
    pub fn is_cancelled(&self) -> bool {
        matches!(self.0, Cause::Cancelled)
    }

    /// The task panicked.
    pub fn is_panic(&self) -> bool {
        matches!(self.0, Cause::Panicked(_))
    }

    /// Goes on with the task's panic in the calling task.
    ///
    /// # Panics
    /// Always: with the task's own panic, or, if it was cancelled, with a message that says so.
    pub fn resume_panic(self) -> ! {
        match self.0 {
            Cause::Panicked(Payload(panic)) => resume_unwind(panic),
            Cause::Cancelled => panic!("the task was cancelled before it had an output"),
        }
    }

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
        write!(f, "JoinError({self})")
    }
}

impl std::error::Error for JoinError {}
