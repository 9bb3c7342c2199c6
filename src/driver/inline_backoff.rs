//! Whether calls find in memory what they need, and end at once: what it was like last tells.

/// Longest run of calls that are not tried, as a power of two.
const MOST: u32 = 6;

/// After each miss in a row the next try is twice as far away.
#[derive(Default)]
pub(super) struct InlineBackoff {
    /// In a row.
    misses: u32,
    /// Calls to pass over before the next try.
    skip: u32,
}

impl InlineBackoff {
    /// Whether the next call is to be tried in place.
    #[inline(always)]
    pub(super) fn are_likely(&mut self) -> bool {
        if self.skip == 0 {
            return true;
        }
        self.skip -= 1;
        false
    }

    pub(super) fn note(&mut self, hit: bool) {
        self.misses = if hit { 0 } else { (self.misses + 1).min(MOST) };
        self.skip = (1 << self.misses) - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_become_rare_while_they_miss_and_common_again_after_a_hit() {
        let mut hits = InlineBackoff::default();
        let mut tries = |reads: usize, hit: bool| {
            let tried =
                |hits: &mut InlineBackoff| hits.are_likely().then(|| hits.note(hit)).is_some();
            (0..reads).filter(|_| tried(&mut hits)).count()
        };
        assert_eq!(tries(100, true), 100);
        // At once, then after 1, 3, 7, 15, 31 and 63 others, and so on.
        assert_eq!(tries(1 + 2 + 4 + 8 + 16 + 32 + 64 + 64, false), 8);
        // The next comes after 63 others.
        assert_eq!(tries(64, true), 1);
        assert_eq!(tries(100, true), 100);
    }
}
