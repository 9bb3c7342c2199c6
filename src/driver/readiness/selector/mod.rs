//! Selectors: which of many files are ready, as the host tells it.
//!
//! `epoll` on Linux, and the `polling` crate everywhere else (kqueue on macOS and the BSDs, AFD on
//! Windows). The first keeps files registered and tells of changes (edge-triggered), so that waiting
//! again costs nothing; the second is armed anew for each wait (one-shot).

#[cfg(all(target_os = "linux", not(corio_polling)))]
mod epoll;
#[cfg(all(target_os = "linux", not(corio_polling)))]
pub(super) use epoll::Selector;

#[cfg(any(not(target_os = "linux"), corio_polling))]
mod polling;
#[cfg(any(not(target_os = "linux"), corio_polling))]
pub(super) use polling::Selector;

/// What has happened to a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub(super) key: usize,
    /// Something to read, or the other side has finished.
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// The other side has finished or gone, an error is waiting, or urgent data: no further event
    /// may come on what a short read leaves.
    pub(super) over: bool,
}

/// What operations wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Interest {
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// Whatever happens.
    pub(super) other: bool,
}

impl Interest {
    pub(super) const NONE: Interest = Interest { readable: false, writable: false, other: false };
}
