//! What a server has done, counted per worker and added up when somebody asks.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// One worker's counters, in cache lines of their own: each has one writer.
        #[derive(Default)]
        #[repr(align(128))]
        pub(super) struct Counters {
            $(pub(super) $name: Counter,)+
        }

        impl Counters {
            pub(super) fn snapshot(&self) -> WorkerStats {
                WorkerStats { $($name: self.$name.get(),)+ }
            }
        }

        /// What one worker of a server, or all of them, have done so far.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct WorkerStats {
            $($(#[$doc])* pub $name: u64,)+
        }

        impl std::iter::Sum for WorkerStats {
            fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
                all.fold(Self::default(), |sum, one| WorkerStats {
                    $($name: sum.$name + one.$name,)+
                })
            }
        }
    };
}

counters! {
    /// Connections that were accepted, those that were refused then included.
    accepted,
    /// Connections that were given to the handler.
    started,
    /// Connections closed at once: the peer had too many, or the server was stopping.
    refused,
    /// Connections whose handler came to a good end.
    finished,
    /// Connections whose handler gave an error.
    failed,
    /// Connections whose handler panicked.
    panicked,
    /// Connections that took longer than they may, or were silent for longer.
    timed_out,
    /// Connections that were cancelled when the server stopped.
    cancelled,
    /// Accepts that failed because the process or the system had no room.
    exhausted,
}

impl WorkerStats {
    /// Connections that are being served.
    pub fn active(&self) -> u64 {
        let ended = self.finished + self.failed + self.panicked + self.timed_out + self.cancelled;
        self.started.saturating_sub(ended)
    }
}

impl fmt::Display for WorkerStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} accepted, {} active, {} finished, {} failed, {} refused",
            self.accepted,
            self.active(),
            self.finished,
            self.failed + self.panicked + self.timed_out + self.cancelled,
            self.refused
        )
    }
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}

/// A number that its one writer counts up.
#[derive(Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self) {
        self.0.store(self.0.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
