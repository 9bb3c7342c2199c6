//! The readiness driver: for hosts that tell when a file is ready, and leave the call to the program.
//!
//! An operation is tried at once. If it would have to wait, it is queued at its file (`table.rs`), the
//! host's selector (`selector/`) watches that, and when an event comes it is tried again
//! (`complete.rs`). Operations on files of a disk, which are never "not ready", and others that take
//! their time go to a few threads (`driver/pool.rs`).
//!
//! Where the selector tells changes (epoll's edges), a file is registered once, when the first
//! operation on it has to wait; a read that comes short says that the next has to. So a request and
//! its answer are two system calls, and one wait serves all that have become ready meanwhile.
//!
//! # Why this file has `unsafe`
//! It implements the contract, whose promises its parts rely on.

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
use super::sys::{Kind, SigPipe};
use super::{Driver, Notify, Request, Settings, Setup, SetupError, Sink, Token, Wait};
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
    /// Operations that have ended, to be delivered by the next turn.
    ended: Queue,
    /// Operations that are tried again after a while.
    paused: Queue,
    paused_until: Option<Instant>,
    /// Operations that wait for a file.
    waiting: usize,
    /// Operations that are with the threads.
    away: usize,
    closing: usize,
    /// How many registered files there are.
    slots: Option<u32>,
    #[cfg(target_os = "linux")]
    opens: Opens,
    sigpipe: SigPipe,
    chunks: Filler,
    queue_sizes: (u32, u32),
    syscalls: u64,
}

impl Readiness {
    /// Whether anything can come of asking the host without waiting.
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

impl Driver for Readiness {
    fn new(settings: &Settings) -> Result<Self, SetupError> {
        setup::build(settings)
    }

    #[inline(always)]
    unsafe fn submit(&mut self, op: Token, request: Request) -> Option<i32> {
        self.start(op, request)
    }

    unsafe fn cancel(&mut self, op: Token) {
        self.stop(op);
    }

    fn close(&mut self, fd: OwnedFd, _socket: bool) {
        let entry = self.table.remove(fd.as_raw_fd());
        if entry.as_ref().is_some_and(|entry| entry.registered) {
            self.selector.forget(fd.as_raw_fd());
            self.syscalls += 1;
        }
        let disk = entry.is_some_and(|entry| entry.kind == Some(Kind::Disk));
        if disk && !self.closes_at_once(fd.as_raw_fd()) {
            // The end of a file may mean work for its file system.
            self.closing += 1;
            self.pool.close(fd);
            return;
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
        let wait = if self.ended.is_empty() && !self.pool.has_news() { wait } else { Wait::No };
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
        if self.pool.has_news() {
            self.take_done(sink);
        }
        if self.paused_until.is_some() {
            self.resume();
        }
        self.deliver_ended(sink);
        waited
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
