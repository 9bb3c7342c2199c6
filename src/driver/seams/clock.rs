//! The monotonic clock. A simulated world has a clock of its own, which starts at one real instant.

use std::time::{Duration, Instant};

/// Returns the current time of the monotonic clock, to the nanosecond.
#[inline(always)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Returns the time since an arbitrary beginning, by a clock that is cheap to read (a few
/// nanoseconds) and accurate to a few milliseconds.
#[inline(always)]
pub(crate) fn coarse_now() -> Duration {
    crate::os::coarse_now()
}
