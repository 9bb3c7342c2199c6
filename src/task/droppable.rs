//! Futures that may be dropped while their operations are in flight.

use std::fmt;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::join_handle::JoinHandle;
use super::spawn_on;
use crate::runtime::Runtime;
use crate::runtime::drop_rule::cancelling_drops;

/// Makes a future that may be dropped at any time, whatever it has in flight, under every
/// [policy](crate::DropPolicy): for frameworks, which drop the futures that they were given when a
/// client leaves.
///
/// From its first poll on, the future runs as a task of its own: one allocation, from memory that
/// earlier tasks have used, and one more turn of the run queue per wake. When what this returns is
/// dropped, the future is not polled again, and its operations are cancelled in the background.
/// When the last of them has ended, what they yield is dropped (connections that were accepted
/// meanwhile are closed), and then the future itself: its destructors run later than the drop, by
/// one turn of the loop or a few. If nothing is in flight, it is dropped at once.
///
/// It is not part of the scope that awaits it: a time limit or a race around it drops it, and does
/// not wait until its operations have ended. To cancel and wait, use a [task](crate::spawn) or
/// [`race`](crate::race) without this.
///
/// # Panics
/// When it is polled, if no context is running on this thread. A panic of the future goes on in
/// the task that awaits it.
///
/// # Examples
/// ```
/// # use std::time::Duration;
/// use corio::droppable;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let (a, b) = corio::net::UnixStream::pair()?;
/// let mut receiving = Box::pin(droppable(async move { a.recv(vec![0; 64]).await.0 }));
/// assert!(futures_util::poll!(&mut receiving).is_pending());
/// corio::yield_now().await; // it is in flight now
/// drop(receiving);
/// // A turn later `a` was closed.
/// assert_eq!(b.recv(vec![0; 64]).await.0?, 0);
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "abort_on_drop")]
#[track_caller]
pub fn droppable<F>(future: F) -> Droppable<F>
where
    F: Future + 'static,
    F::Output: 'static,
{
    Droppable { stage: Stage::New(future), location: Location::caller() }
}

/// The future of [`droppable`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct Droppable<F: Future> {
    stage: Stage<F>,
    location: &'static Location<'static>,
}

enum Stage<F: Future> {
    New(F),
    Running(JoinHandle<F::Output>),
    Over,
}

// The future is pinned in the task's cell, once it is polled.
impl<F: Future> Unpin for Droppable<F> {}

impl<F> Future for Droppable<F>
where
    F: Future + 'static,
    F::Output: 'static,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        if let Stage::New(_) = this.stage {
            Runtime::with(|runtime| {
                if let Stage::New(future) = std::mem::replace(&mut this.stage, Stage::Over) {
                    this.stage = Stage::Running(spawn_on(runtime, future, this.location));
                }
            });
        }
        let Stage::Running(task) = &mut this.stage else {
            panic!("a Droppable was polled after it had ended");
        };
        let result = std::task::ready!(Pin::new(task).poll(cx));
        this.stage = Stage::Over;
        match result {
            Ok(output) => Poll::Ready(output),
            Err(error) if error.is_panic() => error.resume_panic(),
            // The context is ending, and this with it.
            Err(_) => Poll::Pending,
        }
    }
}

impl<F: Future> Drop for Droppable<F> {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            // What it has captured may be in flight.
            Stage::New(future) => cancelling_drops(|| drop(future)),
            Stage::Running(task) => task.abandon(),
            Stage::Over => {}
        }
    }
}

impl<F: Future> fmt::Debug for Droppable<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Droppable").field("created_at", &format_args!("{}", self.location)).finish()
    }
}
