//! What is known of each file: whether it is ready, and who waits for that.
//!
//! Found by the number of its fd, and good for the one [identity](Target::id) it was made for: an fd
//! that was closed somewhere else and reused starts afresh.

use crate::os::RawFd;

use super::queue::Queue;
use super::selector::Interest;
use crate::driver::Target;
use crate::driver::sys::Kind;

/// What an operation waits for; the operation's mark while it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Side {
    Read = 1,
    Write = 2,
    /// Anything else, such as urgent data: tried again whatever happens.
    Other = 3,
}

#[derive(Debug, Default)]
pub(super) struct Entry {
    id: u64,
    pub(super) kind: Option<Kind>,
    /// The selector knows this file.
    pub(super) registered: bool,
    /// A try may succeed: always assumed while the selector does not watch.
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// The other side has finished, or there is urgent data: no event may follow on what is left.
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

    /// Whether a try is known to be in vain.
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

/// All entries, by fd: the kernel hands out the lowest numbers first.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: Vec<Entry>,
}

impl Table {
    #[inline(always)]
    pub(super) fn entry(&mut self, target: Target) -> &mut Entry {
        let index = target.fd as usize;
        if index >= self.entries.len() || self.entries[index].id != target.id {
            self.renew(index, target.id);
        }
        &mut self.entries[index]
    }

    #[cold]
    fn renew(&mut self, index: usize, id: u64) {
        if index >= self.entries.len() {
            self.entries.resize_with(index + 1, Entry::default);
        }
        let entry = &mut self.entries[index];
        debug_assert_eq!(entry.interest(), Interest::NONE, "an fd was closed under an operation");
        *entry = Entry { id, readable: true, writable: true, ..Entry::default() };
    }

    /// What is known of an fd, if anything is.
    pub(super) fn get(&mut self, fd: RawFd) -> Option<&mut Entry> {
        self.entries.get_mut(usize::try_from(fd).ok()?).filter(|entry| entry.id != 0)
    }

    pub(super) fn remove(&mut self, fd: RawFd) -> Option<Entry> {
        self.get(fd).map(std::mem::take)
    }
}
