//! Points in time of the monotonic clock.

use std::fmt;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::time::{Duration, Instant as StdInstant};

use crate::driver::seams::clock;

/// A point in time of the monotonic clock.
///
/// Like [`std::time::Instant`], to and from which it converts, except that arithmetic saturates
/// instead of panicking: a result later than the clock can represent is the last representable
/// instant, which no timer reaches, so `Instant::now() + Duration::MAX` means "never".
///
/// # Examples
/// ```
/// use corio::time::Instant;
/// use std::time::Duration;
///
/// let start = Instant::now();
/// let deadline = start + Duration::from_millis(250);
/// assert_eq!(deadline - start, Duration::from_millis(250));
/// assert!(start + Duration::MAX > deadline);
///
/// let theirs: std::time::Instant = deadline.into();
/// assert_eq!(Instant::from(theirs), deadline);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(StdInstant);

impl Instant {
    /// Returns the current time.
    ///
    /// # Examples
    /// ```
    /// use corio::time::Instant;
    /// assert!(Instant::now() <= Instant::now());
    /// ```
    #[inline]
    pub fn now() -> Self {
        Instant(clock::now())
    }

    /// Returns the time that has passed since this instant; zero if it lies in the future.
    ///
    /// # Examples
    /// ```
    /// use corio::time::Instant;
    /// use std::time::Duration;
    /// let start = Instant::now();
    /// std::thread::sleep(Duration::from_millis(1));
    /// assert!(start.elapsed() >= Duration::from_millis(1));
    /// assert_eq!((start + Duration::MAX).elapsed(), Duration::ZERO);
    /// ```
    pub fn elapsed(&self) -> Duration {
        Self::now() - *self
    }

    /// Returns the time from `earlier` to this instant; zero if `earlier` is later.
    ///
    /// # Examples
    /// ```
    /// use corio::time::Instant;
    /// use std::time::Duration;
    /// let (now, second) = (Instant::now(), Duration::from_secs(1));
    /// assert_eq!((now + second).duration_since(now), second);
    /// assert_eq!(now.duration_since(now + second), Duration::ZERO);
    /// ```
    #[doc(alias = "saturating_duration_since")]
    pub fn duration_since(&self, earlier: Instant) -> Duration {
        self.0.saturating_duration_since(earlier.0)
    }

    /// Returns the time from `earlier` to this instant; `None` if `earlier` is later.
    ///
    /// # Examples
    /// ```
    /// use corio::time::Instant;
    /// use std::time::Duration;
    /// let now = Instant::now();
    /// assert_eq!(now.checked_duration_since(now), Some(Duration::ZERO));
    /// assert_eq!(now.checked_duration_since(now + Duration::from_nanos(1)), None);
    /// ```
    pub fn checked_duration_since(&self, earlier: Instant) -> Option<Duration> {
        self.0.checked_duration_since(earlier.0)
    }

    /// Returns the instant `duration` later; `None` if the clock can't represent it.
    ///
    /// # Examples
    /// ```
    /// use corio::time::Instant;
    /// use std::time::Duration;
    /// let now = Instant::now();
    /// assert_eq!(now.checked_add(Duration::from_secs(1)), Some(now + Duration::from_secs(1)));
    /// assert_eq!(now.checked_add(Duration::MAX), None);
    /// ```
    pub fn checked_add(&self, duration: Duration) -> Option<Instant> {
        self.0.checked_add(duration).map(Instant)
    }

    /// Returns the instant `duration` earlier; `None` if the clock can't represent it.
    ///
    /// # Examples
    /// ```
    /// use corio::time::Instant;
    /// use std::time::Duration;
    /// let later = Instant::now() + Duration::from_secs(1);
    /// assert!(later.checked_sub(Duration::from_secs(1)).is_some());
    /// assert_eq!(later.checked_sub(Duration::MAX), None);
    /// ```
    pub fn checked_sub(&self, duration: Duration) -> Option<Instant> {
        self.0.checked_sub(duration).map(Instant)
    }

    /// Returns the instant `duration` later, or the last one that the clock can represent. The
    /// operator `+` does the same.
    ///
    /// # Examples
    /// ```
    /// use corio::time::Instant;
    /// use std::time::Duration;
    /// let now = Instant::now();
    /// assert_eq!(now.saturating_add(Duration::from_secs(1)), now + Duration::from_secs(1));
    /// assert_eq!(now.saturating_add(Duration::MAX), now + Duration::MAX);
    /// ```
    pub fn saturating_add(&self, duration: Duration) -> Instant {
        let last = || furthest(self.0, StdInstant::checked_add);
        Instant(self.0.checked_add(duration).unwrap_or_else(last))
    }

    /// Returns the instant `duration` earlier, or the first one that the clock can represent. The
    /// operator `-` does the same.
    ///
    /// # Examples
    /// ```
    /// use corio::time::Instant;
    /// use std::time::Duration;
    /// let now = Instant::now();
    /// assert!(now.saturating_sub(Duration::MAX) <= now.saturating_sub(Duration::from_secs(1)));
    /// ```
    pub fn saturating_sub(&self, duration: Duration) -> Instant {
        let first = || furthest(self.0, StdInstant::checked_sub);
        Instant(self.0.checked_sub(duration).unwrap_or_else(first))
    }
}

/// Goes from `start` as far as `step` leads, by powers of two, the largest first: std names
/// neither the first nor the last instant.
#[cold]
fn furthest(
    start: StdInstant,
    step: impl Fn(&StdInstant, Duration) -> Option<StdInstant>,
) -> StdInstant {
    let seconds = (0..u64::BITS).rev().map(|bit| Duration::from_secs(1 << bit));
    let nanoseconds = (0..30).rev().map(|bit| Duration::from_nanos(1 << bit));
    let all = seconds.chain(nanoseconds);
    all.fold(start, |at, duration| step(&at, duration).unwrap_or(at))
}

impl From<StdInstant> for Instant {
    #[inline]
    fn from(instant: StdInstant) -> Self {
        Instant(instant)
    }
}

impl From<Instant> for StdInstant {
    #[inline]
    fn from(instant: Instant) -> Self {
        instant.0
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, duration: Duration) -> Instant {
        self.saturating_add(duration)
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;

    fn sub(self, duration: Duration) -> Instant {
        self.saturating_sub(duration)
    }
}

impl SubAssign<Duration> for Instant {
    fn sub_assign(&mut self, duration: Duration) {
        *self = *self - duration;
    }
}

impl Sub<Instant> for Instant {
    type Output = Duration;

    /// Returns the time between the two; zero if `earlier` is later.
    fn sub(self, earlier: Instant) -> Duration {
        self.duration_since(earlier)
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_the_last_and_the_first_instant() {
        let now = Instant::now();
        let (last, first) = (now + Duration::MAX, now - Duration::MAX);
        assert_eq!(last.checked_add(Duration::from_nanos(1)), None);
        assert_eq!(first.checked_sub(Duration::from_nanos(1)), None);
        assert_eq!(last + Duration::from_secs(1), last);
        assert_eq!(first - Duration::from_secs(1), first);
        assert!(first <= now && now < last);
        assert_eq!(first - last, Duration::ZERO);
        let mut moved = now;
        moved += Duration::from_millis(3);
        moved -= Duration::from_millis(1);
        assert_eq!(moved - now, Duration::from_millis(2));
    }
}
