//! Raw messages between contexts: two numbers, of 32 and of 64 bits, without any set-up.
//!
//! Tasks of any context and plain threads send messages to a context through [its
//! handle](crate::Handle::send_message). Messages that arrive before a task [listens](messages())
//! are kept. A context keeps at most [`ROOM`] messages; then senders wait, first come, first
//! served, so that nothing is lost and no memory fills up. Messages of one sender arrive in the
//! order in which they were sent.
//!
//! A [channel](super::mpsc) carries values of any type, also handles like
//! [`TcpStream`](crate::net::TcpStream), but its sender must first be handed to the task that is to
//! send. Messages suit what many contexts tell each other: requests by number, keys, counts,
//! addresses within the program.
//!
//! # Examples
//! ```
//! use corio::sync::messages::Message;
//! let mut context = corio::IoContext::new(8)?;
//! let handle = context.handle();
//! let thread = std::thread::spawn(move || handle.message_blocking(1, 42));
//! context.block_on(async {
//!     let mut messages = corio::messages();
//!     assert_eq!(messages.next().await, Some(Message { tag: 1, value: 42 }));
//! });
//! assert!(thread.join().unwrap().is_ok());
//! # Ok::<(), corio::SetupError>(())
//! ```
//!
//! # How it works
//! A message goes through memory, on every driver: each context has a channel for its messages,
//! created with the first one. If the receiver's thread sleeps in the kernel, it is woken: between
//! rings by a completion that the kernel writes into the sleeper's ring (`IORING_OP_MSG_RING`,
//! Linux 6.10 or newer, see `io_uring_enter(2)`), otherwise by a write to an event counter or its
//! equivalent.
//!
//! That completion could carry the message, as it has 32 and 64 bits of payload. It does not: a
//! round trip would be no faster, a stream several times slower, and the number of messages in
//! flight would be unbounded. `docs/performance.md` has the figures.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use super::mpsc::{Receiver, Sender, TryRecvError, channel};
use crate::runtime::Runtime;
use crate::runtime::remote::Remote;
use crate::runtime::slot::Attachment;
use crate::runtime::sync::{Mutex, lock};

/// The number of messages that a context keeps before senders have to wait.
pub const ROOM: usize = 1024;

/// A message: two numbers, whose meaning the program chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Message {
    /// By convention, the kind of message.
    pub tag: u32,
    /// By convention, its content.
    pub value: u64,
}

/// A context's channel for messages, created when it is first needed.
struct Mailbox {
    sender: Sender<Message>,
    /// `None` while a [`Messages`] has it.
    receiver: Mutex<Option<Receiver<Message>>>,
}

impl Mailbox {
    fn new(room: usize) -> Self {
        let (sender, receiver) = channel(room);
        Mailbox { sender, receiver: Mutex::new(Some(receiver)) }
    }
}

impl Attachment for Mailbox {
    fn close(&self) {
        self.sender.close();
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Returns the context's mailbox, or a closed one if the context was dropped before it had one.
fn mailbox(remote: &Remote) -> &Mailbox {
    static CLOSED: OnceLock<Mailbox> = OnceLock::new();
    remote.mailbox.get_or_init(|| Mailbox::new(ROOM)).unwrap_or_else(|| {
        CLOSED.get_or_init(|| {
            let mailbox = Mailbox::new(1);
            mailbox.close();
            mailbox
        })
    })
}

/// Any thread: returns the sending end of the context's mailbox.
pub(crate) fn sender(remote: &Remote) -> &Sender<Message> {
    &mailbox(remote).sender
}

/// The receiver of a context's messages; returned by [`messages`](messages()).
///
/// Dropping it loses nothing: messages are kept for the next receiver.
///
/// # Examples
/// See the [module](self).
pub struct Messages {
    remote: Arc<Remote>,
    /// `None` only within `drop`.
    receiver: Option<Receiver<Message>>,
}

/// Returns the receiver of the running context's messages. There is one at a time.
///
/// # Panics
/// If no context is running on this thread, or a receiver exists already.
///
/// # Examples
/// Two contexts that count in turn:
/// ```
/// use corio::{Handle, IoContext, handle, messages};
///
/// async fn take_turns(other: Handle) {
///     let mut messages = messages();
///     while let Some(message) = messages.next().await {
///         if message.value >= 10 {
///             break;
///         }
///         // The other context may have ended by then.
///         let _ = other.send_message(0, message.value + 1).await;
///     }
///     let _ = other.send_message(0, 10).await;
/// }
///
/// let mut context = IoContext::new(8)?;
/// let here = context.handle();
/// let (sender, handles) = std::sync::mpsc::channel();
/// let thread = std::thread::spawn(move || {
///     let mut context = IoContext::new(8).unwrap();
///     sender.send(context.handle()).unwrap();
///     context.block_on(take_turns(here));
/// });
/// context.block_on(async {
///     handle().send_message(0, 0).await.unwrap(); // to itself
///     take_turns(handles.recv().unwrap()).await;
/// });
/// thread.join().unwrap();
/// # Ok::<(), corio::SetupError>(())
/// ```
#[track_caller]
pub fn messages() -> Messages {
    Runtime::with(|runtime| {
        let remote = runtime.remote.clone();
        let receiver = lock(&mailbox(&remote).receiver).take();
        assert!(
            receiver.is_some(),
            "this context's messages have a receiver already: forward messages from it to others"
        );
        Messages { remote, receiver }
    })
}

impl Messages {
    fn receiver(&mut self) -> &mut Receiver<Message> {
        self.receiver.as_mut().expect("the receiver is there until `drop`")
    }

    /// Receives the next message; `None` when the context was dropped and all messages are
    /// received. Cancel-safe: a future that is dropped has taken nothing.
    pub async fn next(&mut self) -> Option<Message> {
        self.receiver().recv().await
    }

    /// Polls for the next message, as [`next`](Self::next) does; for futures written by hand.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.receiver().poll_recv(cx)
    }

    /// Receives the next message if it is there, without waiting.
    ///
    /// # Errors
    /// [`TryRecvError`] says whether there may be one later.
    pub fn try_next(&mut self) -> Result<Message, TryRecvError> {
        self.receiver().try_recv()
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        let Some(mut receiver) = self.receiver.take() else { return };
        receiver.drop_waker();
        *lock(&mailbox(&self.remote).receiver) = Some(receiver);
    }
}

impl fmt::Debug for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messages").finish_non_exhaustive()
    }
}
