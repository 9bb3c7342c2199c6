//! Looking for news for a while before sleeping.

use std::cell::Cell;
use std::time::Duration;

/// How long to look, which adapts: a look that was in vain halves the next, one that was not doubles it.
pub(super) struct Spin {
    longest: Duration,
    now: Cell<Duration>,
}

impl Spin {
    pub(super) fn new(longest: Duration) -> Self {
        Spin { longest, now: Cell::new(longest) }
    }

    #[inline(always)]
    pub(super) fn is_off(&self) -> bool {
        self.longest.is_zero()
    }

    pub(super) fn limit(&self) -> Duration {
        self.now.get()
    }

    pub(super) fn adapt(&self, in_vain: bool) {
        // Never so short that a change of the load would go unnoticed.
        let (least, now) = (self.longest / 64, self.now.get());
        let next =
            if in_vain { (now / 2).max(least) } else { now.saturating_mul(2).min(self.longest) };
        self.now.set(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spin_follows_the_load() {
        let spin = Spin::new(Duration::from_micros(64));
        for _ in 0..20 {
            spin.adapt(true);
        }
        assert_eq!(spin.limit(), Duration::from_micros(1));
        for _ in 0..20 {
            spin.adapt(false);
        }
        assert_eq!(spin.limit(), Duration::from_micros(64));
        assert!(Spin::new(Duration::ZERO).is_off());
    }
}
