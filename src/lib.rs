//! A completion-based coroutine runtime: one [`IoContext`] per thread owns one io_uring ring,
//! `async` code awaits operations that own their buffers, and nothing is allocated per operation.
//! Where there is no io_uring, the same API runs on epoll, kqueue or Windows.
//!
//! It is like tokio's API, but every operation takes its buffer by value, tasks stay on their
//! thread, and dropping an operation in flight aborts the process. README has a table "tokio →
//! corio".
//!
//! # Three rules
//! 1. **Who owns the buffer.** An operation takes its buffer by value and returns
//!    `(io::Result<n>, buf)`: the buffer comes back on error, timeout and cancellation too. A `Vec`
//!    is overwritten from its start, up to its capacity.
//! 2. **Who owns the fd.** An operation borrows its handle, so a handle can't be closed underneath
//!    it. Dropping a handle closes it, without waiting.
//! 3. **What a drop does.** A future whose operation is in flight must not be dropped: the kernel
//!    still has the address of its memory. End it first, by [a timeout](op::Op::with_timeout),
//!    [`race`], [`timeout`](time::timeout()) or [`JoinHandle::cancel`]. Otherwise the process
//!    aborts with a report, or, [by choice](DropPolicy), the thread waits for the kernel.
//!
//! # Read a file
//! ```
//! use corio::{IoContext, fs::File};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let mut context = IoContext::new(256)?;
//!     context.block_on(async {
//!         let file = File::open("Cargo.toml").await?;
//!         // The buffer goes in by value, and comes back with as many bytes as were read.
//!         let (result, buf) = file.read_at(Vec::with_capacity(4096), 0).await;
//!         assert_eq!(result?, buf.len());
//!         assert_eq!(buf[0], b'[');
//!         Ok(())
//!     })
//! }
//! ```
//!
//! # A server on all cores
//! [`Server`](server::Server) runs a handler on one context per processor. [`server`] has the rest:
//! limits, statistics, graceful stop, and [`Workers`](server::Workers) for other programs.
//! ```no_run
//! use corio::{net::Stream, server::Server};
//!
//! async fn echo(stream: Stream) -> std::io::Result<()> {
//!     // The runtime owns the receive buffer: an idle connection holds none.
//!     let mut received = stream.recv_stream();
//!     while let Some(bytes) = received.recv().await? {
//!         stream.send_all(bytes).await.0?;
//!     }
//!     Ok(())
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let server = Server::builder()
//!         .listen("127.0.0.1:7000")
//!         .max_connections(10_000)
//!         .start(|_worker| (), |stream, _context| echo(stream))?;
//!     println!("serving on {}", server.addresses()[0]);
//!     server.join(); // returns after `stop`
//!     Ok(())
//! }
//! ```
//! Contexts talk by [channels](sync) or by [messages](mod@sync::messages) of two numbers, start
//! tasks on each other by [`Handle::spawn`], and share work by [`Jobs`](server::Jobs).
//!
//! # A server on one thread
//! ```no_run
//! use corio::{IoContext, net::{TcpListener, TcpStream}};
//!
//! async fn echo(stream: TcpStream) -> std::io::Result<()> {
//!     let mut buf = Vec::with_capacity(4096);
//!     loop {
//!         let (result, received) = stream.recv(buf).await;
//!         if result? == 0 {
//!             return Ok(()); // end of stream
//!         }
//!         let (result, sent) = stream.send_all(received).await;
//!         result?;
//!         buf = sent;
//!     }
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let mut context = IoContext::new(256)?;
//!     context.block_on(async {
//!         let listener = TcpListener::bind("127.0.0.1:7000")?;
//!         loop {
//!             let (stream, _peer) = listener.accept().await?;
//!             corio::spawn(echo(stream)); // dropping the handle detaches the task
//!         }
//!     })
//! }
//! ```
//!
//! # Timeouts
//! A time limit cancels, and *waits*: when the result is there, the kernel has let go and the
//! buffer is back. If the operation completed before the cancellation reached it, its result is
//! returned.
//! ```
//! use std::{io::ErrorKind, time::Duration};
//! # use corio::net::UnixStream;
//! # let mut context = corio::IoContext::new(8)?;
//! # context.block_on(async {
//! let (a, _b) = UnixStream::pair()?;
//! // One operation:
//! let (result, buf) = a.recv(vec![0; 64]).with_timeout(Duration::from_millis(1)).await;
//! assert_eq!(result.unwrap_err().kind(), ErrorKind::TimedOut);
//!
//! // A whole block, with everything it has in flight. Within a function this is
//! // `timeout(limit, block).await??`: both ways to reach the limit give `TimedOut`.
//! let outcome = corio::timeout(Duration::from_millis(1), async {
//!     a.recv_exact(buf).await.0?;
//!     a.send_all("thank you").await.0
//! })
//! .await;
//! // The inner `?` returned `TimedOut`, so the outer result is `Ok`. `Err(Elapsed)` appears only
//! // if the block does not return then.
//! assert_eq!(outcome.unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
//! # Ok::<(), std::io::Error>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Race
//! The first future to end wins; the other is cancelled and waited for. If it completed all the
//! same, its result is returned too, so a connection that was accepted at the last moment is not
//! lost.
//! ```
//! # use std::time::Duration;
//! use corio::{RaceOutput, net::TcpListener, race, sleep};
//! # let mut context = corio::IoContext::new(8)?;
//! # context.block_on(async {
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! match race(listener.accept(), sleep(Duration::from_millis(1))).await {
//!     RaceOutput::First(accepted, _) | RaceOutput::Second(Some(accepted), ()) => match accepted {
//!         Ok((_stream, peer)) => println!("connection from {peer}"),
//!         Err(error) => println!("no connection: {error}"),
//!     },
//!     RaceOutput::Second(None, ()) => {}
//! }
//! # Ok::<(), std::io::Error>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Tasks
//! ```
//! # let mut context = corio::IoContext::new(8)?;
//! # context.block_on(async {
//! let task = corio::spawn(async { "from a task" });
//! assert_eq!(task.await.unwrap(), "from a task");
//!
//! // A panic is returned to the task that awaits the handle; other tasks go on.
//! let failing = corio::spawn(async { panic!("oh") });
//! assert!(failing.await.unwrap_err().is_panic());
//!
//! // What blocks or computes for long runs on another thread.
//! let sum = corio::spawn_blocking(|| (1..=1_000_000u64).sum::<u64>());
//! assert_eq!(sum.await.unwrap(), 500_000_500_000);
//! # });
//! # Ok::<(), corio::SetupError>(())
//! ```
//! Tasks of one thread share data by `Rc` and `RefCell`, and wait for each other by the locks and
//! channels of [`sync::local`].
//!
//! # Buffers
//! `Vec<u8>`, `Box<[u8]>`, arrays, static bytes and strings, [and more](buf). A part of a buffer is
//! made by [`slice`](buf::IoBuf::slice), which is also how to append:
//! ```
//! use corio::buf::IoBuf;
//! # use corio::net::UnixStream;
//! # let mut context = corio::IoContext::new(8)?;
//! # context.block_on(async {
//! # let (a, b) = UnixStream::pair()?;
//! a.send_all("hello ").await.0?;
//! let (result, mut buf) = b.recv(Vec::with_capacity(64)).await;
//! result?;
//! a.send_all("world").await.0?;
//! buf.reserve(64); // receiving fills spare capacity, and never grows the buffer
//! let len = buf.len();
//! let (result, rest) = b.recv(buf.slice(len..)).await;
//! result?;
//! assert_eq!(rest.into_inner(), b"hello world");
//! # Ok::<(), std::io::Error>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Names and TLS
//! [`net::resolve`] looks up a name off the loop. With the feature `rustls`, `net::TlsStream` is
//! TLS over a connection.
//!
//! # Other libraries
//! [`compat`] runs hyper and axum, and has the I/O traits of tokio and futures, each by a feature.
//!
//! # The drop rule
//! This program is wrong, and the report says where:
//! ```text
//! let mut recv = std::pin::pin!(stream.recv(vec![0; 64]));
//! assert!(futures_util::poll!(recv.as_mut()).is_pending()); // the kernel has the buffer now
//! return;                                                   // and the future is dropped:
//!
//! corio: aborting: a future was dropped while its operation was still in flight
//!   operation  recv on fd 5, 64 bytes, pending for 0 ms
//!   started at src/main.rs:12:40
//!   task       spawned at src/main.rs:9:13
//!   often      by `select!`, `try_join`, `try_join_all` or `buffer_unordered`, which drop futures
//!   why        the kernel may still read or write the future's memory, which is about to be reused
//!   instead    end it first: `.with_timeout(d)`, `corio::timeout(d, ..)`, `corio::race(..)` or
//!              `JoinHandle::cancel()`; each cancels and waits for the kernel; or build the context
//!              with `.drop_policy(DropPolicy::CancelAndWait)`
//! ```
//! With [`DropPolicy::CancelAndWait`] the drop cancels the operation and waits; ordinary `select!`
//! code works then, and code ported from tokio should start with it. [`docs::dropping`] says why
//! there is such a rule, when an operation is in flight, and how tests can miss the abort.
//!
//! # Errors
//! Operations give [`io::Error`](std::io::Error) with the system's error number. Errors of
//! `recv_exact`, `send_all` and their like carry [`Incomplete`](op::Incomplete): the number of
//! bytes transferred. [`is_cancelled`](op::is_cancelled) distinguishes a cancellation from other
//! errors. A context that can't be made says why, and what to do, by [`SetupError`].
//!
//! # Common compile errors
//! - `stream.recv(&mut buf)`: `&mut Vec<u8>` is no `IoBufMut`. Give the buffer away and get it
//!   back: `let (result, buf) = stream.recv(buf).await;`
//! - `stream.recv(buf).await?`: the `?` operator cannot be applied to type `(Result<…>, …)`. Take
//!   the pair apart: `let (result, buf) = …; let n = result?;`, or use `.await.0?` where the buffer
//!   is not needed again.
//! - `stream.send_all(line.as_bytes())`, `send_all(&buf[1..])`: `line` does not live long enough
//!   (`'static`). Give the owner: `send_all(line)`, or `send_all(buf.slice(1..))` with
//!   `use corio::buf::IoBuf`.
//! - `thread::spawn(move || context.block_on(…))`: `Rc<()>` cannot be sent between threads safely.
//!   Make the `IoContext` on the thread that runs it; other threads use its [`Handle`].
//!
//! # What runs where
//! On Linux 5.13 and newer, io_uring; where it is missing or forbidden, epoll, and
//! [`IoContext::fallback_reason`] says why. macOS and the BSDs (kqueue) compile; Windows runs under
//! Wine. [`Builder::driver`] and the environment variable `CORIO_DRIVER` override the choice.
//! [`docs::platforms`] has the details, [`docs::architecture`] follows an operation through the
//! code.

mod address;
pub mod blocking;
pub mod buf;
pub mod compat;
mod context;
mod driver;
mod error;
pub mod fs;
mod metadata;
pub mod net;
pub mod op;
pub mod os;
mod runtime;
pub mod server;
pub mod sync;
pub mod task;
pub mod time;

pub use blocking::spawn_blocking;
pub use context::{Builder, Handle, IoContext, handle, in_flight, stats, try_handle};
pub use driver::{DriverChoice, OpCode, ParseDriverError, SetupError};
pub use runtime::DropPolicy;
pub use runtime::report::InFlight;
pub use runtime::stall::Stall;
pub use runtime::stats::{OperationStats, Stats};
pub use sync::messages;
pub use task::{
    CancelOnDrop, Droppable, JoinError, JoinHandle, RaceOutput, RemoteTask, droppable, join,
    join_all, race, race_all, spawn, try_join, try_join_all, unconstrained, yield_now,
};
pub use time::{Elapsed, sleep, sleep_until, timeout, timeout_at};

/// The documents in the repository's folder `docs`, for reading along with the API.
#[cfg(doc)]
pub mod docs {
    #[doc = include_str!("../docs/architecture.md")]
    pub mod architecture {}
    #[doc = include_str!("../docs/dropping.md")]
    pub mod dropping {}
    #[doc = include_str!("../docs/platforms.md")]
    pub mod platforms {}
    #[doc = include_str!("../docs/reliability.md")]
    pub mod reliability {}
}

/// The programs in the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
