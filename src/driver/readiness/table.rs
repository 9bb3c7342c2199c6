//! The state of each file: whether it is ready, and which operations wait for that.
//!
//! An entry is found by the number of its fd, and is valid for the one [identity](Target::id) that
//! it was created for: an fd that was closed elsewhere and reused gets a new entry.

use crate::os::RawFd;

use super::queue::Queue;
use super::selector::Interest;
use crate::driver::Target;
use crate::driver::sys::Kind;

/// The kind of readiness that an operation waits for; its tag while it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Side {
    Read = 1,
    Write = 2,
    /// Anything else, such as urgent data: tried again at each event.
    Other = 3,
}

#[derive(Debug, Default)]
pub(super) struct Entry {
    id: u64,
    pub(super) kind: Option<Kind>,
    /// The selector watches this file.
    pub(super) registered: bool,
    /// A read may succeed; always assumed while the selector does not watch.
    pub(super) readable: bool,
    /// A write may succeed; always assumed while the selector does not watch.
    pub(super) writable: bool,
    /// The peer has ended its side, or there is urgent data: bytes that a short read leaves may
    /// cause no further event.
    pub(super) over: bool,
    readers: Queue,
    writers: Queue,
    others: Queue,
}

impl Entry {
    #[inline(always)]
    pub(super) fn queue(&mut self, side: Side) -> &mut Queue {
        match side {
            Side::Read => &mut self.readers,
            Side::Write => &mut self.writers,
            Side::Other => &mut self.others,
        }
    }

    pub(super) fn interest(&self) -> Interest {
        Interest {
            readable: !self.readers.is_empty(),
            writable: !self.writers.is_empty(),
            other: !self.others.is_empty(),
        }
    }

    /// Returns `true` if a try would block, or take bytes from an operation that waits already.
    #[inline(always)]
    pub(super) fn must_wait(&mut self, side: Side) -> bool {
        match side {
            Side::Read => !self.readable || !self.readers.is_empty(),
            Side::Write => !self.writable || !self.writers.is_empty(),
            Side::Other => false,
        }
    }

    pub(super) fn set_ready(&mut self, side: Side, ready: bool) {
        match side {
            Side::Read => self.readable = ready,
            Side::Write => self.writable = ready,
            Side::Other => {}
        }
    }
}

/// All entries, indexed by fd: the kernel hands out the lowest numbers first.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: Vec<Entry>,
}

impl Table {
    #[inline(always)]
    pub(super) fn entry(&mut self, target: Target) -> &mut Entry {
        let index = target.fd as usize;
        if index >= self.entries.len() || self.entries[index].id != target.id {
            self.replace(index, target.id);
        }
        &mut self.entries[index]
    }

    #[cold]
    fn replace(&mut self, index: usize, id: u64) {
        if index >= self.entries.len() {
            self.entries.resize_with(index + 1, Entry::default);
        }
        let entry = &mut self.entries[index];
        debug_assert_eq!(entry.interest(), Interest::NONE, "an fd was closed under an operation");
        *entry = Entry { id, readable: true, writable: true, ..Entry::default() };
    }

    /// Returns the entry of an fd, if it has one.
    pub(super) fn get(&mut self, fd: RawFd) -> Option<&mut Entry> {
        self.entries.get_mut(usize::try_from(fd).ok()?).filter(|entry| entry.id != 0)
    }

    pub(super) fn remove(&mut self, fd: RawFd) -> Option<Entry> {
        self.get(fd).map(std::mem::take)
    }
}
