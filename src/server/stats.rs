//! A server's counters: one set per worker, added up when they are read.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// One worker's counters, in cache lines of their own, as each worker writes its own.
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

        /// The counters of one worker of a server, or of all of them.
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
    /// Connections that were accepted, including those that were refused afterwards.
    accepted,
    /// Connections that were passed to the handler.
    started,
    /// Connections that were closed at once: the peer had too many, or the server was stopping.
    refused,
    /// Connections whose handler returned `Ok`.
    finished,
    /// Connections whose handler returned an error; see
    /// [`on_error`](super::ServerBuilder::on_error).
    failed,
    /// Connections whose handler panicked.
    panicked,
    /// Connections that reached their total or idle time limit.
    timed_out,
    /// Connections that were cancelled when the server stopped.
    cancelled,
    /// Accepts that failed because the process or the system lacked resources, such as descriptors.
    exhausted,
}

impl WorkerStats {
    /// Returns the number of connections that are being served.
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

/// A counter with one writer, and any number of readers.
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
