//! How long a relay waits while nothing moves.

use std::time::Duration;

/// How long [`relay_with`](super::relay_with) waits while nothing moves.
///
/// Bytes that a peer acknowledges late count as moving (on Linux), so that a slow reader is not
/// taken for an idle one. A limit is checked four times while it runs, and so exceeded by up to a
/// quarter; [`Duration::MAX`] means no limit.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use corio::RaceOutput;
/// use corio::net::{RelayLimits, UnixStream, relay_with};
///
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let ((client, a), (b, server)) = (UnixStream::pair()?, UnixStream::pair()?);
/// drop(server);
/// // The server is gone, and the client has nothing more to say.
/// let limits = RelayLimits::new().half_closed(Duration::from_millis(10));
/// let error = relay_with(&a, &b, limits).await.unwrap_err();
/// assert_eq!(error.to_string(), "time limit of 10 ms reached");
/// # drop(client);
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "timeout")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayLimits {
    pub(super) open: Duration,
    pub(super) after_first: Duration,
    pub(super) after_second: Duration,
}

impl RelayLimits {
    /// Creates the limits of [`relay`](super::relay): 60 s after one side has ended, and none while
    /// both are open.
    ///
    /// # Examples
    /// See [`RelayLimits`].
    pub const fn new() -> Self {
        let half_closed = Duration::from_secs(60);
        let (after_first, after_second) = (half_closed, half_closed);
        RelayLimits { open: Duration::MAX, after_first, after_second }
    }

    /// Sets how long nothing may move while both directions are open; default: no limit.
    ///
    /// # Examples
    /// See [`relay_with`](super::relay_with).
    pub const fn idle(mut self, limit: Duration) -> Self {
        self.open = limit;
        self
    }

    /// Sets how long nothing may move after either side has ended; default 60 s.
    ///
    /// # Examples
    /// See [`RelayLimits`].
    pub const fn half_closed(self, limit: Duration) -> Self {
        self.after_first(limit).after_second(limit)
    }

    /// Sets how long the second side may be silent after the first has ended; default 60 s.
    ///
    /// Where the first is a client, that is the time in which a server has to answer.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use corio::net::RelayLimits;
    /// let limits = RelayLimits::new()
    ///     .after_first(Duration::from_secs(300))
    ///     .after_second(Duration::from_secs(3));
    /// ```
    pub const fn after_first(mut self, limit: Duration) -> Self {
        self.after_first = limit;
        self
    }

    /// Sets how long the first side may be silent after the second has ended; default 60 s.
    ///
    /// # Examples
    /// See [`after_first`](Self::after_first).
    pub const fn after_second(mut self, limit: Duration) -> Self {
        self.after_second = limit;
        self
    }
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self::new()
    }
}
