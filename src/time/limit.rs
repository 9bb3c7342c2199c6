//! The error of a time limit that was reached.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::time::Duration;

/// A time limit was reached: the error of [`timeout`](crate::timeout()), and, within an
/// [`io::Error`] of the kind `TimedOut`, of operations that a limit has ended.
///
/// TCP's own time-outs (`ETIMEDOUT`, which a peer that does not answer causes) are of the same
/// kind; [`Elapsed::of`] distinguishes the two, and so do their texts.
///
/// # Examples
/// ```
/// use corio::{Elapsed, net::UnixStream};
/// use std::{io::ErrorKind, time::Duration};
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let limit = Duration::from_millis(2);
/// let (a, _b) = UnixStream::pair()?;
/// let (result, _buf) = a.recv(vec![0; 64]).with_timeout(limit).await;
/// let error = result.unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::TimedOut);
/// assert_eq!(error.to_string(), "time limit of 2 ms reached");
/// assert_eq!(Elapsed::of(&error).unwrap().limit(), Some(limit));
/// // One of TCP's own:
/// assert!(Elapsed::of(&ErrorKind::TimedOut.into()).is_none());
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Elapsed {
    limit: Option<Duration>,
}

impl Elapsed {
    pub(crate) fn new(limit: Duration) -> Self {
        Elapsed { limit: Some(limit) }
    }

    /// Returns the limit that was reached. For [`timeout_at`](super::timeout_at) that is the time
    /// from the first poll to the deadline. `None` for an operation that is polled outside of the
    /// block whose limit has ended it.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let limit = Duration::from_millis(2);
    /// let elapsed = corio::timeout(limit, std::future::pending::<()>()).await.unwrap_err();
    /// assert_eq!(elapsed.limit(), Some(limit));
    /// # });
    /// # Ok::<(), corio::SetupError>(())
    /// ```
    pub fn limit(&self) -> Option<Duration> {
        self.limit
    }

    /// Returns the time limit that caused `error`, also where a whole transfer reports it by
    /// [`Incomplete`](crate::op::Incomplete); `None` for an error with another cause.
    ///
    /// # Examples
    /// ```
    /// use corio::{Elapsed, net::UnixStream};
    /// use std::time::Duration;
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let (a, _b) = UnixStream::pair()?;
    /// let (result, _buf) = a.recv_exact([0; 64]).with_timeout(Duration::from_millis(2)).await;
    /// assert!(Elapsed::of(&result.unwrap_err()).is_some());
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn of(error: &io::Error) -> Option<Elapsed> {
        let cause = crate::op::Incomplete::of(error).and_then(|whole| whole.cause.as_ref());
        cause.unwrap_or(error).get_ref()?.downcast_ref().copied()
    }
}

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(limit) = self.limit else { return f.write_str("time limit reached") };
        let text = format!("{limit:?}");
        let unit = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        write!(f, "time limit of {} {} reached", &text[..unit], &text[unit..])
    }
}

/// As `Display`, since this is what `main` and `unwrap` print.
impl fmt::Debug for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Elapsed {}

impl From<Elapsed> for io::Error {
    fn from(error: Elapsed) -> Self {
        io::Error::new(io::ErrorKind::TimedOut, error)
    }
}

thread_local! {
    /// The limit of the innermost block that is polled after its limit was reached.
    ///
    /// Operations end with a bare number, so the limit has to come from their surroundings.
    static REACHED: Cell<Option<Duration>> = const { Cell::new(None) };
}

/// Makes a limit the reached one until dropped.
pub(crate) struct Reached {
    outer: Option<Duration>,
}

impl Reached {
    pub(crate) fn new(limit: Duration) -> Self {
        Reached { outer: REACHED.replace(Some(limit)) }
    }
}

impl Drop for Reached {
    fn drop(&mut self) {
        REACHED.set(self.outer);
    }
}

/// Makes the error of an operation that ended with [`TIME_LIMIT`](crate::os::TIME_LIMIT).
#[cold]
pub(crate) fn limit_error() -> io::Error {
    Elapsed { limit: REACHED.get() }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_the_limit_and_its_unit() {
        let text = |limit| Elapsed::new(limit).to_string();
        assert_eq!(text(Duration::from_millis(250)), "time limit of 250 ms reached");
        assert_eq!(text(Duration::from_secs(90)), "time limit of 90 s reached");
        assert_eq!(text(Duration::from_micros(1500)), "time limit of 1.5 ms reached");
        assert_eq!(text(Duration::ZERO), "time limit of 0 ns reached");
        assert_eq!(limit_error().to_string(), "time limit reached");
    }

    #[test]
    fn an_inner_limit_hides_the_outer_one() {
        let limit = || Elapsed::of(&limit_error()).unwrap().limit();
        let (one, other) = (Duration::from_secs(1), Duration::from_secs(2));
        let outer = Reached::new(one);
        let inner = Reached::new(other);
        assert_eq!(limit(), Some(other));
        drop(inner);
        assert_eq!(limit(), Some(one));
        drop(outer);
        assert_eq!(limit(), None);
    }
}
