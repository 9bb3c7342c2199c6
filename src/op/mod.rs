//! Operations: one future per system call, each owning its buffer.
//!
//! All of them are the same future, [`Op`], around a plain description of what is wanted. Handles
//! in [`net`](crate::net) and [`fs`](crate::fs) make them; they can also be made directly on
//! anything that is a [`Source`]: a handle, any standard type with a file descriptor, or a
//! [registered file](FixedFile).
//!
//! Nothing happens before the first poll. The result is `(io::Result<T>, Buf)` where there is a
//! buffer: it comes back also on error, on [timeout](Op::with_timeout) and on cancellation.
//!
//! | family | futures |
//! |---|---|
//! | files | [`AsyncOpen`], [`AsyncStatx`], [`AsyncRead`], [`AsyncWrite`], [`AsyncReadv`], [`AsyncWritev`], [`AsyncFsync`], [`AsyncFdatasync`], [`AsyncFallocate`], [`AsyncFtruncate`], [`AsyncClose`] |
//! | sockets | [`AsyncAccept`], [`AsyncConnect`], [`AsyncRecv`], [`AsyncRecvBuf`], [`AsyncSend`], [`AsyncRecvmsg`], [`AsyncSendmsg`], [`AsyncShutdown`] |
//! | both | [`AsyncSendfile`], [`AsyncPoll`], [`AsyncNop`] |
//! | whole transfers | [`AsyncReadExactAt`], [`AsyncWriteAllAt`], [`AsyncRecvExact`], [`AsyncSendAll`] |
//!
//! # Adding an operation
//! 1. A variant of `Request` (`driver/request.rs`), and an `OpCode` with its name.
//! 2. One arm per driver (`driver/uring/lower.rs`).
//! 3. A struct that implements `Operation` in a file of this folder, its alias, and its constructor.

mod exact;
mod file;
mod fixed;
mod future;
mod message;
mod path;
mod recv_stream;
mod rights;
mod sendfile;
mod socket;
mod source;
#[cfg(target_os = "linux")]
mod splice;
mod timeout;

pub use exact::{
    AsyncReadExactAt, AsyncRecvExact, AsyncSendAll, AsyncWriteAllAt, Incomplete, ReadExactAt,
    RecvExact, SendAll, WriteAllAt, is_cancelled,
};
pub use file::{
    AsyncClose, AsyncFallocate, AsyncFdatasync, AsyncFsync, AsyncFtruncate, AsyncNop, AsyncRead,
    AsyncReadv, AsyncWrite, AsyncWritev, Close, Fallocate, Fsync, Ftruncate, Nop, Read, Readv,
    Write, Writev,
};
pub use fixed::{FixedFile, FixedFiles};
pub use future::{Op, Operation};
pub use message::{AsyncRecvmsg, AsyncSendmsg, Received, Recvmsg, Sendmsg};
pub use path::{AsyncOpen, AsyncStatx, Open, Statx};
pub use recv_stream::{AsyncRecvBuf, RecvProvided, RecvStream};
pub use sendfile::{AsyncSendfile, Sendfile};
pub use socket::{
    Accept, AsyncAccept, AsyncConnect, AsyncPoll, AsyncRecv, AsyncSend, AsyncShutdown, Connect,
    Interest, Poll, Readiness, Recv, Send, Shutdown,
};
pub(crate) use source::Descriptor;
pub use source::Source;
#[cfg(target_os = "linux")]
pub use splice::{AsyncSplice, Splice};
pub use timeout::WithTimeout;
