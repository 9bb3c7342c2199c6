//! What other threads can do with a context.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use crate::runtime::remote::Remote;
use crate::sync::messages::Message;
use crate::sync::mpsc::{SendError, SendFuture, TrySendError};
use crate::task::{RemoteTask, spawn_remotely};

/// Reaches a context from any thread; cheap to clone. It may outlive its context, and does
/// nothing then.
///
/// # Examples
/// ```
/// let mut context = corio::IoContext::new(8)?;
/// let handle = context.handle();
/// std::thread::spawn(move || handle.stop());
/// context.run(|_| {})?; // returns when the other thread has said so
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Handle {
    remote: Arc<Remote>,
}

impl Handle {
    pub(super) fn new(remote: Arc<Remote>) -> Self {
        Handle { remote }
    }

    /// Asks the context's current or else its next [`run`](super::IoContext::run) to return, and
    /// wakes it if it sleeps.
    pub fn stop(&self) {
        self.remote.stop();
    }

    /// Starts a task on the context. `start` is called on its thread, so that the task need not be
    /// `Send`: only `start` and the output are. Works from any thread, also before the context runs.
    ///
    /// If the context is gone, or ends before the task does, the task counts as cancelled.
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
        spawn_remotely(&self.remote, start, Location::caller())
    }

    /// Sends the context two numbers, which it gets by [`messages`](crate::messages()). Waits for
    /// room if the context [keeps as many as it can](crate::sync::messages::ROOM) already; dropping
    /// the future before it is done leaves the message unsent. Messages that one task or thread
    /// sends come in that order.
    ///
    /// The numbers go through memory, and the context is woken if it sleeps; between rings by
    /// `IORING_OP_MSG_RING` (Linux 6.10 or newer, `io_uring_enter(2)`).
    ///
    /// # Errors
    /// The message, if the context is gone. One that goes later takes what it has not looked at
    /// along.
    ///
    /// # Examples
    /// See [`sync::messages`](mod@crate::sync::messages).
    pub fn send_message(&self, tag: u32, value: u64) -> SendFuture<'_, Message> {
        self.remote.mailbox.sender().send(Message { tag, value })
    }

    /// The same if there is room, without waiting.
    ///
    /// # Errors
    /// The message, if there is none or the context is gone.
    ///
    /// # Examples
    /// ```
    /// use corio::sync::mpsc::TrySendError;
    /// let context = corio::IoContext::new(8)?;
    /// let handle = context.handle();
    /// assert_eq!(handle.try_message(1, 2), Ok(()));
    /// drop(context);
    /// assert!(matches!(handle.try_message(3, 4), Err(TrySendError::Closed(_))));
    /// # Ok::<(), corio::SetupError>(())
    /// ```
    pub fn try_message(&self, tag: u32, value: u64) -> Result<(), TrySendError<Message>> {
        self.remote.mailbox.sender().try_send(Message { tag, value })
    }

    /// The same from a plain thread, which is parked until there is room.
    ///
    /// # Errors
    /// The message, if the context is gone.
    ///
    /// # Panics
    /// Within a running context, which it would block, if there is no room.
    #[track_caller]
    pub fn message_blocking(&self, tag: u32, value: u64) -> Result<(), SendError<Message>> {
        self.remote.mailbox.sender().send_blocking(Message { tag, value })
    }

    /// Whether the context is being run at this moment.
    pub fn is_running(&self) -> bool {
        self.remote.is_running()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("running", &self.is_running()).finish()
    }
}
