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
//! | sockets | [`AsyncAccept`], [`AsyncConnect`], [`AsyncRecv`], [`AsyncRecvChunk`], [`AsyncSend`], [`AsyncRecvmsg`], [`AsyncSendmsg`], [`AsyncShutdown`] |
//! | both | [`AsyncSendfile`], [`AsyncPoll`], [`AsyncNop`] |
//! | whole transfers | [`AsyncReadExactAt`], [`AsyncWriteExactAt`], [`AsyncRecvExact`], [`AsyncSendExact`] |
//!
//! # Adding an operation
//! 1. A variant of `Request` (`driver/request.rs`), and an `OpCode` with its name.
//! 2. One arm per driver (`driver/uring/lower.rs`).
//! 3. A struct that implements `Kind` in a file of this folder, its alias, and its constructor.

mod chunk;
mod exact;
mod file;
mod fixed;
mod future;
mod message;
mod path;
mod rights;
mod sendfile;
mod socket;
mod source;
#[cfg(target_os = "linux")]
mod splice;
mod timeout;

pub use chunk::{AsyncRecvChunk, Chunks};
pub use exact::{
    AsyncReadExactAt, AsyncRecvExact, AsyncSendExact, AsyncWriteExactAt, Incomplete, is_cancelled,
};
pub use file::{
    AsyncClose, AsyncFallocate, AsyncFdatasync, AsyncFsync, AsyncFtruncate, AsyncNop, AsyncRead,
    AsyncReadv, AsyncWrite, AsyncWritev,
};
pub use fixed::{FixedFile, FixedFiles};
pub use future::Op;
pub use message::{AsyncRecvmsg, AsyncSendmsg, Received};
pub use path::{AsyncOpen, AsyncStatx};
pub use sendfile::AsyncSendfile;
pub use socket::{
    AsyncAccept, AsyncConnect, AsyncPoll, AsyncRecv, AsyncSend, AsyncShutdown, Interest,
};
pub(crate) use source::Descriptor;
pub use source::Source;
#[cfg(target_os = "linux")]
pub use splice::AsyncSplice;
pub use timeout::WithTimeout;

/// What each operation is around the common future; not to be named directly.
pub mod kind {
    pub use super::chunk::RecvChunk;
    pub use super::exact::{ReadExactAt, RecvExact, SendExact, WriteExactAt};
    pub use super::file::{Close, Fallocate, Fsync, Ftruncate, Nop, Read, Readv, Write, Writev};
    pub use super::future::Kind;
    pub use super::message::{Recvmsg, Sendmsg};
    pub use super::path::{Open, Statx};
    pub use super::sendfile::Sendfile;
    pub use super::socket::{Accept, Connect, Poll, Recv, Send, Shutdown};
    #[cfg(target_os = "linux")]
    pub use super::splice::Splice;
}
