//! Raw messages from context to context: a number of 32 bits and one of 64, and nothing to set up.
//!
//! Every context can be sent messages by [its handle](crate::Handle::send_message), from tasks of any
//! context and from plain threads. What comes before anybody [listens](messages()) is kept. A
//! context keeps at most [`ROOM`] messages; then senders wait, first come, first served, so nothing
//! is lost and no memory fills up. Messages of one sender come in the order in which they were
//! sent.
//!
//! A [channel](super::channel()) carries values of any type, also handles like
//! [`TcpStream`](crate::net::TcpStream), but its sender has to be brought to whoever is to send.
//! Messages suit what many contexts tell each other: requests by number, keys, counts, addresses of
//! a program's own.
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
//! A message goes through memory, on every driver: each context has a channel for them, which is
//! made with the first one. If the receiver's thread sleeps in the kernel, it is woken: between
//! rings by a completion that the kernel writes into the sleeper's ring (`IORING_OP_MSG_RING`,
//! Linux 6.10 or newer, see `io_uring_enter(2)`), otherwise by a write to an event counter or its
//! equal.
//!
//! That completion could be the message, as it carries 32 and 64 bits. It is not: a round trip
//! would be no faster, a stream several times slower, and nothing would bound what is under way.
//! `docs/performance.md` has the figures.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use super::channel::{Receiver, Sender, TryRecvError, channel};
use crate::runtime::Runtime;
use crate::runtime::remote::Remote;
use crate::runtime::slot::Attachment;
use crate::runtime::sync::{Mutex, lock};

/// How many messages a context keeps for its listener.
pub const ROOM: usize = 1024;

/// What is sent: two numbers, of which every value is the sender's to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Message {
    /// By convention, what the message is about.
    pub tag: u32,
    /// What it says.
    pub value: u64,
}

/// A context's mailbox: a channel, created when it is first needed.
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

/// Listens to the messages of a context; made by [`messages`](messages()).
///
/// Dropping it loses nothing: messages are kept for the next one who listens.
pub struct Messages {
    remote: Arc<Remote>,
    /// Gone only in `drop`.
    receiver: Option<Receiver<Message>>,
}

/// Listens to what the running context is sent. One can listen at a time.
///
/// # Panics
/// When no context is running on this thread, or somebody listens already.
///
/// # Examples
/// Two contexts that count in turn:
/// ```
/// use corio::{Handle, IoContext, handle, messages};
///
/// async fn take_turns(other: Handle) {
///     let mut messages = messages();
///     while let Some(message) = messages.next().await
///         && message.value < 10
///     {
///         // The other one may have ended by then.
///         let _ = other.send_message(0, message.value + 1).await;
///     }
///     let _ = other.send_message(0, 10).await;
/// }
///
/// let mut context = IoContext::new(8)?;
/// let here = context.handle();
/// let (tell, told) = std::sync::mpsc::channel();
/// let thread = std::thread::spawn(move || {
///     let mut context = IoContext::new(8).unwrap();
///     tell.send(context.handle()).unwrap();
///     context.block_on(take_turns(here));
/// });
/// context.block_on(async {
///     handle().send_message(0, 0).await.unwrap(); // to itself
///     take_turns(told.recv().unwrap()).await;
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
            "somebody listens to this context's messages already: let that one tell the others"
        );
        Messages { remote, receiver }
    })
}

impl Messages {
    fn receiver(&mut self) -> &mut Receiver<Message> {
        self.receiver.as_mut().expect("there until dropped")
    }

    /// The next message; `None` when the context is gone and everything it was sent has been told.
    /// Cancel-safe: a future that is dropped has taken nothing.
    pub async fn next(&mut self) -> Option<Message> {
        self.receiver().recv().await
    }

    /// The same, for futures written by hand.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.receiver().poll_recv(cx)
    }

    /// The next message if it is there.
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
        receiver.rest();
        *lock(&mailbox(&self.remote).receiver) = Some(receiver);
    }
}

impl fmt::Debug for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messages").finish_non_exhaustive()
    }
}
