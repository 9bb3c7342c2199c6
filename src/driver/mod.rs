//! Drivers, which carry operations out. This page is the contract between a driver and the rest of
//! the crate.
//!
//! A driver gets a plain value, a [`Request`], that says *what* to do, and knows *how* the host
//! does it. Everything above this module is the same on every driver; everything below belongs to
//! one of them. Each driver is one folder with the same inner files: `mod.rs` (the [`Driver`]
//! implementation), `submit.rs` (one arm per [`Request`] variant), `complete.rs` (operations that
//! did not end inside `submit`), `queue.rs` (operations or entries that wait), `setup.rs` (which
//! features the host offers) and `files.rs` (registered files). Shared by all drivers are `sys/`
//! (system calls made directly), `pool.rs` (threads for calls that block), `recv_queue.rs`
//! (received memory), `inline_backoff.rs` (when to try a call inline first) and `any_driver.rs`
//! (which driver a context gets).
//!
//! # The contract
//! An operation is identified by the address of its [`Record`], its [`Token`]. It is **in flight**
//! from the call of [`Driver::submit`] until that call returns `Some`, or until the token is
//! delivered.
//!
//! The submitter (the runtime) ensures, by the `# Safety` lists of [`Driver`]'s methods:
//! 1. **Place.** While the operation is in flight, its record and all memory that the request
//!    points to are neither moved nor freed.
//! 2. **Access.** Meanwhile nothing but the driver accesses that memory, nor the record's fields
//!    other than `request`. Where the request lends memory for reading only, others may read it
//!    too. Each call of [`Record::request`] describes the same operation.
//!
//! A driver ensures, argued at each `unsafe impl Driver`:
//!
//! 3. **One end.** `submit` either returns the result and keeps no copy of the token (`Some`), or
//!    takes the operation (`None`) and delivers its token *exactly once*, from [`Driver::turn`] and
//!    from nowhere else, with the result in [`Record::result`].
//! 4. **Release.** After that end, neither the driver nor its threads nor the kernel access the
//!    operation's memory.
//! 5. **True results.** A result is what the system call of that name returns: zero or more, or a
//!    negated error number. As many bytes as it counts have been written or read, and a file
//!    descriptor that it names is open and belongs to the operation alone.
//! 6. **Cancellation.** [`Driver::cancel`] only asks for an early end. The operation still ends by
//!    delivery, with its true result: `-ECANCELED` if it was stopped, any other if it was too late.
//! 7. **No foreign code.** A driver calls nothing that a program has written: no waker, no
//!    destructor. [`Record::request`] calls buffer methods, which [`IoBuf`](crate::buf::IoBuf)
//!    forbids to use this crate. So no call of a driver leads to a second call of the same driver.
//!
//! A sink ensures, argued at each `unsafe impl Sink`:
//!
//! 8. **Delivery.** [`Sink::deliver`] only marks the operation as ended and queues its task: it
//!    calls no driver, polls no task, runs no foreign code, and does not free the record.
//!
//! Not memory safety, but the same on every driver:
//!
//! 9. **Full queues** inside a driver are its own concern: `submit` and `cancel` accept every
//!    operation, in order.
//! 10. **A turn** ([`Driver::turn`]) submits everything, waits as asked unless something has ended
//!     already, and delivers everything that has ended. It may return early with nothing.
//! 11. **Order.** A detached close ([`Driver::close`]) and a change of the table of registered
//!     files take effect after everything submitted before them.
//! 12. **Equal behaviour.** What a host lacks, the driver does another way, with the same results
//!     and errors.

mod any_driver;
mod call;
pub(crate) mod calls;
#[cfg(unix)]
mod forked;
#[cfg(target_os = "linux")]
mod inline_backoff;
mod op_code;
mod pool;
mod readiness;
mod record;
mod recv_queue;
mod request;
pub(crate) mod seams;
mod setup;
mod sys;
#[cfg(corio_uring)]
mod uring;
mod whole;

use crate::os::{OwnedFd, RawFd};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use any_driver::AnyDriver;
pub use any_driver::{DriverChoice, ParseDriverError};
pub(crate) use call::{Args, Call};
pub use op_code::OpCode;
pub(crate) use record::{Notes, Record, Token};
pub(crate) use recv_queue::{RecvQueue, Reservation};
pub(crate) use request::{CURRENT_POSITION, Ending, Pages, Request, Target};
pub use setup::SetupError;
pub(crate) use setup::{Settings, Setup};

/// The longest read or write of a file's cached contents, in bytes, that is made on the loop's
/// thread. A longer one holds up the loop for more time than it takes to hand it over: 1 MiB is
/// copied in some 0.1 ms.
const INLINE_LEN: u32 = 1 << 20;

/// How long a turn may wait for something to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Does not wait.
    No,
    /// Waits at most this long. Never zero: that is `No`.
    For(Duration),
    /// Waits until something happens.
    Forever,
}

/// Ends a driver's wait, from any thread.
pub(crate) trait Notify: Send + Sync {
    /// Makes the driver's current wait return, or else its next one; never blocks.
    fn notify(&self);

    /// Returns the ring that the driver waits in, if other rings may write to it. The ring stays
    /// open for as long as the returned handle lives.
    #[cfg(corio_uring)]
    fn ring(&self) -> Option<Arc<OwnedFd>> {
        None
    }
}

/// Takes delivered tokens. (A trait and not a closure, so that it is always inlined.)
///
/// # Safety
/// [`deliver`](Self::deliver) keeps clause 8 of the [contract](self).
pub(crate) unsafe trait Sink {
    /// Marks an operation as ended, and queues what waits for it.
    ///
    /// # Safety
    /// - `op` was submitted to the driver that calls this, from within [`Driver::turn`], and has
    ///   not been delivered before (clause 3);
    /// - [`Record::result`] holds its result (clause 5), and nothing accesses its memory any more
    ///   (clause 4).
    unsafe fn deliver(&mut self, op: Token);
}

/// A way to carry operations out, for one thread. See the [module's page](self).
///
/// # Safety
/// The implementation keeps clauses 3 to 7 of the [contract](self).
pub(crate) unsafe trait Driver: Sized {
    /// Creates a driver for the calling thread.
    fn new(settings: &Settings) -> Result<Self, SetupError>;

    /// Starts an operation.
    ///
    /// # Safety
    /// - `op` is not in flight;
    /// - until its token is delivered, or this returns `Some`, the caller keeps clauses 1 and 2 for
    ///   `op` and for everything that `request` points to;
    /// - `request` is what [`Record::request`] of `op` describes.
    unsafe fn submit(&mut self, op: Token, request: Request) -> Option<i32>;

    /// Has the next turn deliver an operation that [`submit`](Self::submit) has just ended with
    /// `result`, as if it had taken it; returns `false`, and does not, if it cannot.
    ///
    /// # Safety
    /// - `submit` has returned `Some(result)` for `op`, and `op` has not been submitted since;
    /// - until its token is delivered, the caller keeps clauses 1 and 2 for `op`.
    unsafe fn deliver_later(&mut self, op: Token, result: i32) -> bool;

    /// Asks for an early end of an operation (clause 6).
    ///
    /// # Safety
    /// `op` is in flight in this driver.
    unsafe fn cancel(&mut self, op: Token);

    /// Asks for an early end of a close that waits; its file is closed all the same.
    ///
    /// # Safety
    /// `op` is a [`Request::Close`] in flight in this driver.
    unsafe fn leave_close(&mut self, op: Token);

    /// Closes `fd`, which no operation in flight uses, without waiting for anything. `socket`: it
    /// is a socket's that does not linger, so that the close does not block.
    fn close(&mut self, fd: OwnedFd, socket: bool);

    /// Forgets what the driver knows of `fd`, which no operation in flight uses: it leaves this
    /// context.
    fn forget(&mut self, fd: RawFd);

    /// Ends the driver's own receive into a queue that no operation waits at, if it has one: what
    /// it has taken from the socket is in the queue then. Where that cannot be had, the queue stays
    /// [active](RecvQueue::is_active).
    fn stop_receive(&mut self, _queue: &Rc<RecvQueue>) {}

    /// Submits, waits and delivers (clause 10).
    fn turn(&mut self, wait: Wait, sink: &mut impl Sink) -> io::Result<()>;

    /// Returns `true` if a turn would deliver something, as far as can be seen without a system
    /// call.
    fn has_ended(&mut self) -> bool;

    /// Returns the number of closes and cancelled streams that the driver has not finished.
    fn closing(&self) -> usize;

    /// Returns the handle by which other threads end a wait; usable after the driver is gone.
    fn notifier(&self) -> Arc<dyn Notify>;

    /// Creates a table of `slots` empty registered files; fails with `EBUSY` if there is one.
    fn register_files(&mut self, slots: u32) -> io::Result<()>;

    /// Puts `fd` (-1: nothing) into a slot of that table.
    fn update_file(&mut self, slot: u32, fd: i32) -> io::Result<()>;

    /// Removes the table.
    fn unregister_files(&mut self) -> io::Result<()>;

    /// [Notifies](Notify::notify) another context's driver, by the cheapest way that this one has.
    fn notify_other(&mut self, other: &Arc<dyn Notify>) {
        other.notify();
    }

    /// Returns the number of system calls that this driver has made.
    fn syscalls(&self) -> u64;

    /// Returns the driver's short name, for reports.
    fn name(&self) -> &'static str;

    /// Returns what the host has granted.
    fn setup(&self) -> Setup;
}
