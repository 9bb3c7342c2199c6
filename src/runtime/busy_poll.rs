//! Adaptive busy-polling before the loop blocks.

use std::cell::Cell;
use std::time::Duration;

/// How long to busy-poll. The time adapts: each attempt that finds nothing halves it, each that
/// finds something doubles it.
pub(super) struct BusyPoll {
    longest: Duration,
    current: Cell<Duration>,
}

impl BusyPoll {
    /// Creates a limit of `longest`; zero turns busy-polling off.
    pub(super) fn new(longest: Duration) -> Self {
        BusyPoll { longest, current: Cell::new(longest) }
    }

    #[inline(always)]
    pub(super) fn is_off(&self) -> bool {
        self.longest.is_zero()
    }

    /// Returns how long the next attempt may take.
    pub(super) fn limit(&self) -> Duration {
        self.current.get()
    }

    /// Adapts the limit to an attempt that has `found` something, or has not.
    pub(super) fn adapt(&self, found: bool) {
        // At least 1/64, so that a change of the load is still noticed.
        let (shortest, current) = (self.longest / 64, self.current.get());
        let next = if found {
            current.saturating_mul(2).min(self.longest)
        } else {
            (current / 2).max(shortest)
        };
        self.current.set(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_follows_the_load() {
        let busy_poll = BusyPoll::new(Duration::from_micros(64));
        for _ in 0..20 {
            busy_poll.adapt(false);
        }
        assert_eq!(busy_poll.limit(), Duration::from_micros(1));
        for _ in 0..20 {
            busy_poll.adapt(true);
        }
        assert_eq!(busy_poll.limit(), Duration::from_micros(64));
        assert!(BusyPoll::new(Duration::ZERO).is_off());
    }
}
