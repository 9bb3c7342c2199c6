//! The readiness driver, for hosts that report when a file is ready, and leave the call to the
//! program.
//!
//! An operation is tried at once. If it would block, it is queued at its file (`table.rs`), the
//! host's selector (`selector/`) watches that file, and when an event comes the operation is tried
//! again (`complete.rs`). Operations on files of a disk, which are always ready, and other calls
//! that block go to a few threads (`driver/pool.rs`).
//!
//! Where the selector reports changes (epoll, edge-triggered), a file is registered once, when the
//! first operation on it has to wait; a short read shows that the next one would block. So a
//! request and its answer are two system calls, and one wait serves all files that have become
//! ready.

// # Why this file has `unsafe`
// It implements the contract: its parts use the operations' memory.

mod complete;
mod disk;
mod files;
mod queue;
mod selector;
mod setup;
mod submit;
mod table;

use crate::os::{AsRawFd, OwnedFd, RawFd};
use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::pool::Pool;
use super::recv_queue::Filler;
use super::sys::SigPipeBlock;
use super::{Driver, Ending, Notify, Request, Settings, Setup, SetupError, Sink, Token, Wait};
#[cfg(target_os = "linux")]
use disk::Opens;
use queue::Queue;
use selector::Selector;
use table::Table;

/// The readiness driver.
pub(crate) struct Readiness {
    selector: Selector,
    pool: Pool,
    table: Table,
    /// Operations that have ended, for the next turn to deliver.
    ended: Queue,
    /// Operations that are tried again after a pause.
    paused: Queue,
    paused_until: Option<Instant>,
    /// The number of operations that wait for a file.
    waiting: usize,
    /// The number of operations that threads have.
    away: usize,
    closing: usize,
    /// The size of the table of registered files, if there is one.
    slots: Option<u32>,
    #[cfg(target_os = "linux")]
    opens: Opens,
    sigpipe: SigPipeBlock,
    /// Receives into the driver's own memory.
    filler: Filler,
    queue_sizes: (u32, u32),
    syscalls: u64,
}

impl Readiness {
    /// Returns `true` if asking the selector without waiting can report anything of use.
    fn may_have_events(&self) -> bool {
        self.waiting > 0
    }

    fn wait(&mut self, wait: Wait) -> io::Result<()> {
        let timeout = match wait {
            Wait::No => Some(std::time::Duration::ZERO),
            Wait::For(limit) => Some(limit),
            Wait::Forever => None,
        };
        let pause = self.paused_until.map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = match (timeout, pause) {
            (Some(timeout), Some(pause)) => Some(timeout.min(pause)),
            (timeout, pause) => timeout.or(pause),
        };
        self.syscalls += 1;
        self.selector.wait(timeout)
    }
}

// SAFETY: by the clauses of the contract:
// 3. An operation is at one place at a time, which its tag names: the queue of its file, `paused`,
//    `ended`, or a thread. `retry` and `deliver_ended` take it out of its queue and deliver it in
//    one go; the pool returns it once (`take_done`), or gives it up (`stop`). All of these run in
//    `turn`. `submit` returns `Some` only where it has put the operation nowhere, or removed it
//    (`wait_for`); `deliver_later` then puts it in `ended`.
// 4. This thread accesses the memory during its own calls alone, all of which end before the
//    delivery; a thread of the pool is done with an operation before it reports it (`Pool`). The
//    kernel keeps no pointer after a system call has returned.
// 5. Results are those of `sys`, and of a transfer in parts the sum. A new descriptor is passed on
//    unchanged; one that a given-up open returns is closed by the pool.
// 6. `stop` ends an operation only after it has taken it from its place; what a thread is working
//    on is left to end by itself, unless the pool can give it up.
// 7. What is called: the system, this crate's pool and notifiers, `Record::request`, and the sink.
unsafe impl Driver for Readiness {
    fn new(settings: &Settings) -> Result<Self, SetupError> {
        setup::build(settings)
    }

    #[inline(always)]
    unsafe fn submit(&mut self, op: Token, request: Request) -> Option<i32> {
        // SAFETY: items 2 and 3 of `Driver::submit` are items 1 and 2; by its item 1 the operation
        // is not in flight yet, so that it is in no queue, and no thread has it.
        unsafe { self.start(op, request) }
    }

    unsafe fn deliver_later(&mut self, op: Token, result: i32) -> bool {
        // SAFETY: item 2, and `submit` has put it nowhere.
        unsafe { self.end(op, result) };
        true
    }

    unsafe fn cancel(&mut self, op: Token) {
        // SAFETY: in flight, the only item of both.
        unsafe { self.stop(op) };
    }

    unsafe fn leave_close(&mut self, op: Token) {
        // SAFETY: in flight, the only item of `Driver::leave_close`.
        unsafe { self.stop(op) };
    }

    fn close(&mut self, fd: OwnedFd, socket: bool) {
        let entry = self.table.remove(fd.as_raw_fd());
        if entry.as_ref().is_some_and(|entry| entry.registered) {
            self.selector.forget(fd.as_raw_fd());
            self.syscalls += 1;
        }
        if !socket {
            let ending = self.ending(fd.as_raw_fd(), Ending::Unknown);
            if ending != Ending::AtOnce {
                self.closing += usize::from(self.pool.close(fd, ending));
                return;
            }
        }
        self.syscalls += 1;
        drop(fd);
    }

    fn forget(&mut self, fd: RawFd) {
        if self.table.remove(fd).is_some_and(|entry| entry.registered) {
            self.selector.forget(fd);
            self.syscalls += 1;
        }
    }

    fn turn(&mut self, wait: Wait, sink: &mut impl Sink) -> io::Result<()> {
        let wait = if self.ended.is_empty() && !self.pool.has_done() { wait } else { Wait::No };
        let waited = if wait != Wait::No || self.may_have_events() {
            self.wait(wait)
        } else {
            self.selector.clear();
            Ok(())
        };
        for index in 0..self.selector.count() {
            if let Some(event) = self.selector.event(index) {
                self.complete(event, sink);
            }
        }
        if self.pool.has_done() {
            self.take_done(sink);
        }
        if self.paused_until.is_some() {
            self.resume();
        }
        self.deliver_ended(sink);
        waited
    }

    fn has_ended(&mut self) -> bool {
        !self.ended.is_empty() || self.pool.has_done()
    }

    fn closing(&self) -> usize {
        self.closing
    }

    fn notifier(&self) -> Arc<dyn Notify> {
        self.selector.notifier()
    }

    fn register_files(&mut self, slots: u32) -> io::Result<()> {
        files::register(self, slots)
    }

    fn update_file(&mut self, slot: u32, fd: i32) -> io::Result<()> {
        files::update(self, slot, fd)
    }

    fn unregister_files(&mut self) -> io::Result<()> {
        files::unregister(self)
    }

    fn syscalls(&self) -> u64 {
        self.syscalls + self.pool.jobs()
    }

    fn name(&self) -> &'static str {
        "readiness"
    }

    fn setup(&self) -> Setup {
        Setup { flags: self.selector.names(), queue_sizes: self.queue_sizes, queue_fd: None }
    }
}
