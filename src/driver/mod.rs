//! Drivers: how operations are carried out. This page is the contract between them and the rest.
//!
//! A driver is told *what* is wanted as a plain [`Request`] and knows *how*. Everything above this
//! module is the same on every driver; everything below belongs to one of them. A driver is one
//! folder with the same inner files: `mod.rs` (the [`Driver`] implementation), `submit.rs` (one arm
//! per [`Request`] variant), `complete.rs` (what becomes of an operation that did not end at once),
//! `queue.rs` (who waits), `setup.rs` (what this host offers) and `files.rs` (registered files).
//! `sys/` has system calls that any of them may make, `pool.rs` threads for those that block,
//! `hits.rs` tells whether a call is worth trying first, and `host.rs` chooses.
//!
//! # The contract
//! 1. An operation is known by the address of its [`Record`] record ([`Token`]). The record,
//!    and everything the request points to, stays in place until the driver delivers the token.
//! 2. [`Driver::submit`] either finishes at once (`Some(result)`, and the token is forgotten) or
//!    takes the operation (`None`) and delivers its token *exactly once*, from [`Driver::turn`]
//!    and from nowhere else, with the outcome in [`Record::result`]. Results are what the
//!    system call of that name returns: zero or more, or a negated error number.
//! 3. When the token is delivered, nothing touches the operation's memory any more.
//! 4. [`Driver::cancel`] asks for an early end. The operation still ends by delivery, with its true
//!    result: `-ECANCELED` if it was stopped, the real one if it was too late.
//! 5. A driver never runs foreign code: delivery only marks and queues.
//! 6. A full queue inside the driver is the driver's own business: `submit` and `cancel` always
//!    take what they are given, in order.
//! 7. [`Driver::turn`] submits everything, waits as told unless something is already there, and
//!    delivers everything that is ready. It may return early with nothing.
//! 8. A detached close ([`Driver::close`]) happens after everything submitted before it.
//! 9. What a host lacks, the driver does another way, with the same results and errors.

mod any_driver;
#[cfg(target_os = "linux")]
mod inline_backoff;
mod pool;
mod readiness;
mod record;
mod recv_queue;
mod request;
pub(crate) mod seams;
mod setup;
mod sys;
#[cfg(target_os = "linux")]
mod uring;

use crate::os::{OwnedFd, RawFd};
use std::io;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use any_driver::AnyDriver;
pub use any_driver::{DriverChoice, ParseDriverError};
pub(crate) use record::{Notes, Record, Token};
pub(crate) use recv_queue::{RecvQueue, Reservation};
pub use request::OpCode;
pub(crate) use request::{CURRENT_POSITION, Request, Target};
pub use setup::SetupError;
pub(crate) use setup::{Settings, Setup};

/// How long a turn may wait for something to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Not at all.
    No,
    /// At most this long. Never zero: that is what `No` is for.
    For(Duration),
    /// Until something happens.
    Forever,
}

/// How other threads end a driver's wait.
pub(crate) trait Notify: Send + Sync {
    /// Makes the current or else the next wait of the driver return; never blocks.
    fn notify(&self);

    /// The ring it waits in, if another ring may write to it; held on to, it stays open.
    #[cfg(target_os = "linux")]
    fn ring(&self) -> Option<Arc<OwnedFd>> {
        None
    }
}

/// Takes delivered tokens. (A trait and not a closure so that it can be inlined for sure.)
pub(crate) trait Sink {
    /// The operation has ended: its record and memory are its owner's again.
    fn deliver(&mut self, op: Token);
}

/// See the module's page.
pub(crate) trait Driver: Sized {
    /// Makes a driver for the calling thread.
    fn new(settings: &Settings) -> Result<Self, SetupError>;

    /// Starts an operation.
    ///
    /// # Safety
    /// `op` and all memory that `request` names stay in place and are not used otherwise until the
    /// token is delivered (or `Some` returned).
    unsafe fn submit(&mut self, op: Token, request: Request) -> Option<i32>;

    /// Asks for an early end of an operation.
    ///
    /// # Safety
    /// `op` was submitted and its token has not been delivered yet.
    unsafe fn cancel(&mut self, op: Token);

    /// Closes `fd`, which no operation uses. `socket`: there is nothing to flush, so it may be done here.
    fn close(&mut self, fd: OwnedFd, socket: bool);

    /// `fd`, which no operation in flight uses, goes out of this driver's sight.
    fn forget(&mut self, fd: RawFd);

    /// One turn: submit, wait, deliver. See the contract.
    fn turn(&mut self, wait: Wait, sink: &mut impl Sink) -> io::Result<()>;

    /// How many closes are still under way.
    fn closing(&self) -> usize;

    /// The way for other threads to end a wait; usable after the driver is gone.
    fn notifier(&self) -> Arc<dyn Notify>;

    /// Makes a table of `slots` empty registered files; fails with `EBUSY` if there is one.
    fn register_files(&mut self, slots: u32) -> io::Result<()>;

    /// Puts `fd` (or nothing: -1) into a slot, after everything submitted before.
    fn update_file(&mut self, slot: u32, fd: i32) -> io::Result<()>;

    /// Removes the table, after everything submitted before.
    fn unregister_files(&mut self) -> io::Result<()>;

    /// [Notifies](Notify::notify) another context's driver, in the best way that this one knows.
    fn notify_other(&mut self, other: &Arc<dyn Notify>) {
        other.notify();
    }

    /// How many system calls this driver has made.
    fn syscalls(&self) -> u64;

    /// A short name for people.
    fn name(&self) -> &'static str;

    /// What the host has granted.
    fn setup(&self) -> Setup;
}
