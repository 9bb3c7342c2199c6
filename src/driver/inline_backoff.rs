//! Decides whether to try a call inline first; backs off exponentially after misses.
//!
//! A call that finds what it needs in memory (a cached page, a cached path) ends at once and is
//! cheaper than a submission; one that does not is a wasted system call.

/// The longest run of calls that are not tried, as a power of two.
const MAX_EXPONENT: u32 = 6;

/// An exponential backoff: after each miss in a row the next try is twice as far away.
#[derive(Default)]
pub(super) struct InlineBackoff {
    /// The number of misses in a row, at most [`MAX_EXPONENT`].
    misses: u32,
    /// The number of calls to skip before the next try.
    skip: u32,
}

impl InlineBackoff {
    /// Returns `true` if the next call is to be tried inline; otherwise counts it as skipped.
    #[inline(always)]
    pub(super) fn should_try(&mut self) -> bool {
        if self.skip == 0 {
            return true;
        }
        self.skip -= 1;
        false
    }

    /// Records the outcome of a try.
    pub(super) fn record(&mut self, hit: bool) {
        self.misses = if hit { 0 } else { (self.misses + 1).min(MAX_EXPONENT) };
        self.skip = (1 << self.misses) - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_become_rare_while_they_miss_and_common_again_after_a_hit() {
        let mut backoff = InlineBackoff::default();
        let mut tries = |reads: usize, hit: bool| {
            let tried = |backoff: &mut InlineBackoff| {
                backoff.should_try().then(|| backoff.record(hit)).is_some()
            };
            (0..reads).filter(|_| tried(&mut backoff)).count()
        };
        assert_eq!(tries(100, true), 100);
        // The first call, then one after 1, 3, 7, 15, 31 and 63 skipped calls, and so on.
        assert_eq!(tries(1 + 2 + 4 + 8 + 16 + 32 + 64 + 64, false), 8);
        // The next try comes after 63 skipped calls.
        assert_eq!(tries(64, true), 1);
        assert_eq!(tries(100, true), 100);
    }
}
