//! Selectors: the host's way to report which of many files are ready.
//!
//! `epoll` on Linux, and the `polling` crate everywhere else (kqueue on macOS and the BSDs, AFD on
//! Windows). The first keeps files registered and reports changes (edge-triggered), so that waiting
//! again costs nothing; the second is armed again for each wait (one-shot).

#[cfg(all(target_os = "linux", not(corio_polling)))]
mod epoll;
#[cfg(all(target_os = "linux", not(corio_polling)))]
pub(super) use epoll::Selector;

#[cfg(any(not(target_os = "linux"), corio_polling))]
mod polling;
#[cfg(any(not(target_os = "linux"), corio_polling))]
pub(super) use polling::Selector;

/// A change of a file's readiness.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub(super) key: usize,
    /// A read may succeed: there are bytes, or the peer has ended its side.
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// The peer has ended its side or is gone, or there is an error or urgent data: bytes that a
    /// short read leaves may cause no further event.
    pub(super) over: bool,
}

/// The kinds of readiness that operations wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Interest {
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// Any event.
    pub(super) other: bool,
}

impl Interest {
    pub(super) const NONE: Interest = Interest { readable: false, writable: false, other: false };
}
