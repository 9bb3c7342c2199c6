//! A completion-based coroutine runtime: one [`IoContext`] per thread owns one io_uring ring, `async`
//! code awaits operations that own their buffers, and nothing is allocated per operation. Where there
//! is no io_uring the same runs on epoll, kqueue or Windows.
//!
//! # Three rules
//! 1. **Who owns the buffer.** An operation takes its buffer by value and gives it back with the
//!    result, on error, timeout and cancellation too.
//! 2. **Who owns the fd.** An operation borrows its handle, so a handle can't be closed underneath
//!    it. Dropping a handle closes it, without waiting.
//! 3. **What a drop does.** A future whose operation is in flight must not be dropped: the kernel
//!    still has the address of its memory. End it first, by [a timeout](op::Op::with_timeout),
//!    [`race`], [`timeout`](time::timeout()) or [`JoinHandle::cancel`]. Otherwise the process aborts
//!    with a report, or, [if you choose so](DropPolicy), the thread waits for the kernel.
//!
//! # Read a file
//! ```
//! use corio::{IoContext, fs::File};
//!
//! let mut context = IoContext::new(256)?;
//! let first = context.block_on(async {
//!     let file = File::open("Cargo.toml").await?;
//!     // The buffer goes in, and comes back with as many bytes as were read.
//!     let (result, buf) = file.read_at(Vec::with_capacity(4096), 0).await;
//!     result?;
//!     Ok::<_, std::io::Error>(buf[0])
//! })?;
//! assert_eq!(first, b'[');
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # An echo server
//! ```no_run
//! use corio::{IoContext, net::{TcpListener, TcpStream}};
//!
//! async fn echo(stream: TcpStream) -> std::io::Result<()> {
//!     let mut buf = Vec::with_capacity(4096);
//!     loop {
//!         let (result, received) = stream.recv(buf).await;
//!         if result? == 0 {
//!             return Ok(()); // the peer has ended its side
//!         }
//!         let (result, sent) = stream.send_all(received).await;
//!         result?;
//!         buf = sent;
//!     }
//! }
//!
//! let mut context = IoContext::new(256)?;
//! context.block_on(async {
//!     let listener = TcpListener::bind("127.0.0.1:7000")?;
//!     loop {
//!         let (stream, _peer) = listener.accept().await?;
//!         corio::spawn(echo(stream)); // runs by itself; the handle is dropped, the task is not
//!     }
//!     #[allow(unreachable_code)]
//!     Ok::<(), std::io::Error>(())
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The same on all cores
//! [`Server`](server::Server) runs a handler on a context per processor; [`server`] has the rest: limits, what each
//! worker knows, how it stops. Contexts talk by [channels](sync) or bare
//! [messages](mod@sync::messages), start tasks on each other by [`Handle::spawn`], and share work out
//! by [`Jobs`](server::Jobs).
//! ```no_run
//! # use corio::net::Stream;
//! # async fn echo(_: Stream) -> std::io::Result<()> { Ok(()) }
//! use corio::server::Server;
//! let server = Server::builder()
//!     .listen("127.0.0.1:7000")
//!     .max_connections(10_000)
//!     .start(|_worker| (), |stream, _ctx| echo(stream))?;
//! println!("serving on {}", server.addresses()[0]);
//! server.join(); // until something calls `stop`
//! # Ok::<(), corio::server::ServeError>(())
//! ```
//!
//! # Timeouts
//! A time limit cancels, and *waits*: when the result is there, the kernel has let go, the buffer is
//! back, and an operation that had succeeded in the last moment says so.
//! ```
//! use std::{io::ErrorKind, time::Duration};
//! # use corio::net::UnixStream;
//! # let mut context = corio::IoContext::new(8)?;
//! # context.block_on(async {
//! let (a, _b) = UnixStream::pair()?;
//! // One operation:
//! let (result, buf) = a.recv(vec![0; 64]).with_timeout(Duration::from_millis(1)).await;
//! assert_eq!(result.unwrap_err().kind(), ErrorKind::TimedOut);
//! // A whole block, with everything it has in flight:
//! let outcome = corio::timeout(Duration::from_millis(1), async {
//!     a.recv_exact(buf).await.0?;
//!     a.send_all("thank you").await.0
//! })
//! .await;
//! // The block ended by itself, with its operation's error; else it would have been `Elapsed`.
//! assert_eq!(outcome.unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
//! # Ok::<(), std::io::Error>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Race
//! The first one done wins; the other is cancelled and waited for. What it brought after all comes
//! along, so a connection accepted at the last moment is in your hands.
//! ```
//! # use std::time::Duration;
//! use corio::{RaceOutput, net::TcpListener, race, sleep};
//! # let mut context = corio::IoContext::new(8)?;
//! # context.block_on(async {
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! match race(listener.accept(), sleep(Duration::from_millis(1))).await {
//!     RaceOutput::First(accepted, _) | RaceOutput::Second(Some(accepted), ()) => match accepted {
//!         Ok((_stream, peer)) => println!("{peer} is here"),
//!         Err(error) => println!("nobody came: {error}"),
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
//! // A panic goes to whoever awaits the task, and to nobody else.
//! let failing = corio::spawn(async { panic!("oh") });
//! assert!(failing.await.unwrap_err().is_panic());
//! # });
//! # Ok::<(), corio::SetupError>(())
//! ```
//!
//! # Buffers
//! `Vec<u8>`, `Box<[u8]>`, arrays, static bytes and strings, [and more](buf). A part of a buffer is
//! taken by [`slice`](buf::IoBuf::slice), which is also how to append:
//! ```
//! use corio::buf::IoBuf;
//! # use corio::net::UnixStream;
//! # let mut context = corio::IoContext::new(8)?;
//! # context.block_on(async {
//! # let (a, b) = UnixStream::pair()?;
//! a.send_all("hello ").await.0?;
//! let (result, buf) = b.recv(Vec::with_capacity(64)).await;
//! let so_far = result?;
//! a.send_all("world").await.0?;
//! let (result, rest) = b.recv(buf.slice(so_far..)).await;
//! result?;
//! assert_eq!(rest.into_inner(), b"hello world");
//! # Ok::<(), std::io::Error>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The drop rule
//! This program is wrong, and is told so:
//! ```text
//! let mut recv = std::pin::pin!(stream.recv(vec![0; 64]));
//! assert!(futures_util::poll!(recv.as_mut()).is_pending()); // the kernel has the buffer now
//! return;                                                   // and the future is dropped:
//!
//! corio: aborting: a future was dropped while its operation was still in flight
//!   operation  recv on fd 5, 64 bytes, pending for 0 ms
//!   started at src/main.rs:12:40
//!   task       spawned at src/main.rs:9:13
//!   why        the kernel may still read or write the future's memory, which is about to be reused
//!   instead    end it first: `.with_timeout(d)`, `corio::timeout(d, ..)`, `corio::race(..)` or …
//! ```
//! With [`DropPolicy::CancelAndWait`] the drop cancels the operation and waits; ordinary `select!`
//! code works then. `docs/dropping.md` tells why there is such a rule, and shows both.
//!
//! # Errors
//! Operations give [`io::Error`](std::io::Error) with the system's error number. Whole transfers
//! tell by [`Incomplete`](op::Incomplete) how far they came. [`is_cancelled`](op::is_cancelled) tells a
//! cancellation from other errors. A context that can't be made says why,
//! and what to do, by [`SetupError`].
//!
//! # What runs where
//! On Linux 5.13 and newer, io_uring; where it is missing or forbidden, epoll, and
//! [`IoContext::fallback_reason`] says why. macOS and the BSDs (kqueue) compile; Windows runs under
//! Wine. [`Builder::driver`] and the environment variable `CORIO_DRIVER` overrule the choice.
//! `docs/platforms.md` has the details.

mod address;
pub mod blocking;
pub mod buf;
mod context;
mod driver;
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
pub use context::{Builder, Handle, IoContext, handle, in_flight, stats};
pub use driver::{DriverChoice, OpCode, ParseDriverError, SetupError};
pub use runtime::DropPolicy;
pub use runtime::report::InFlight;
pub use runtime::stall::Stall;
pub use runtime::stats::{OperationStats, Stats};
pub use sync::messages;
pub use task::{
    JoinError, JoinHandle, RaceOutput, RemoteTask, join_all, race, race_all, spawn, yield_now,
};
pub use time::{Elapsed, sleep, sleep_until, timeout, timeout_at};

/// The programs in the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
