//! The methods of [`Handle`] that send messages.

use super::messages::{Message, sender};
use super::mpsc::{SendError, SendFuture, TrySendError};
use crate::context::Handle;

impl Handle {
    /// Sends the context two numbers, which it receives by [`messages`](crate::messages()). Waits
    /// while the context's mailbox [is full](crate::sync::messages::ROOM). Dropping the future
    /// before it is ready leaves the message unsent. Messages of one task or thread arrive in the
    /// order in which they were sent.
    ///
    /// The numbers are passed through memory, and the context is woken if it sleeps; between rings
    /// by `IORING_OP_MSG_RING` (Linux 6.10 or newer, `io_uring_enter(2)`).
    ///
    /// # Errors
    /// [`SendError`] with the message, if the context was dropped. Messages that a context has not
    /// received when it is dropped are lost.
    ///
    /// # Examples
    /// ```
    /// let mut context = corio::IoContext::new(8)?;
    /// let handle = context.handle();
    /// context.block_on(async {
    ///     handle.send_message(1, 42).await.expect("the context is running");
    ///     let message = corio::messages().next().await.expect("a message was sent");
    ///     assert_eq!((message.tag, message.value), (1, 42));
    /// });
    /// # Ok::<(), corio::SetupError>(())
    /// ```
    pub fn send_message(&self, tag: u32, value: u64) -> SendFuture<'_, Message> {
        sender(&self.remote).send(Message { tag, value })
    }

    /// Sends a message as [`send_message`](Self::send_message) does, if there is room for it.
    ///
    /// # Errors
    /// [`TrySendError::Full`] with the message if there is no room, [`TrySendError::Closed`] if the
    /// context was dropped.
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
        sender(&self.remote).try_send(Message { tag, value })
    }

    /// Sends a message from a plain thread, and blocks the thread until there is room.
    ///
    /// # Errors
    /// [`SendError`] with the message, if the context was dropped.
    ///
    /// # Panics
    /// If there is no room and a context is running on this thread, which would be blocked.
    ///
    /// # Examples
    /// See [`sync::messages`](mod@crate::sync::messages).
    #[track_caller]
    pub fn message_blocking(&self, tag: u32, value: u64) -> Result<(), SendError<Message>> {
        sender(&self.remote).send_blocking(Message { tag, value })
    }
}
