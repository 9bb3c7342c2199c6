//! Memory of many connections, which goes back to the system when most of them have ended.
//!
//! What is freed goes back to the allocator. glibc's keeps it, as soon as one block behind it is in
//! use, until it is asked to give back whole free pages: `malloc_trim(3)`. That is for a program to
//! decide, not for a library.

// # Why this file has `unsafe`
// The call is one of C.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Fewer connections are not worth it.
const MANY: usize = 1000;

/// How long after that: the contexts give the memory of ended tasks back within some seconds.
const PAUSE: Duration = Duration::from_secs(8);

/// Watches for the end of a burst of connections.
#[derive(Default)]
pub(crate) struct Bursts {
    /// The most connections since the last burst has ended.
    peak: AtomicUsize,
    /// Memory is about to be given back.
    pending: AtomicBool,
}

impl Bursts {
    /// Notes that there are `count` connections, as one has begun.
    pub(crate) fn began(&self, count: usize) {
        self.peak.fetch_max(count, Ordering::Relaxed);
    }

    /// Notes that there are `count` connections, as one has ended. If these are few beside those
    /// that there were, starts a task that gives memory back.
    pub(crate) fn ended(self: &Arc<Self>, count: usize) {
        let peak = self.peak.load(Ordering::Relaxed);
        if peak < MANY || count > peak / 4 || self.pending.swap(true, Ordering::Relaxed) {
            return;
        }
        let this = self.clone();
        corio::spawn(async move {
            corio::sleep(PAUSE).await;
            this.peak.store(count, Ordering::Relaxed);
            this.pending.store(false, Ordering::Relaxed);
            // It takes the allocator's locks, and as long as there is memory to look at. An error
            // is one of a pool that has no thread: then the memory stays.
            let _ = corio::spawn_blocking(give_back).await;
        });
    }
}

fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it has no requirements, and may be called on any thread (`malloc_trim(3)`).
    unsafe {
        libc::malloc_trim(0);
    }
}
