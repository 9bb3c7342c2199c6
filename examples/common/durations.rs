//! Durations as command line arguments.

#![allow(dead_code)] // Each example uses a part.

use std::time::Duration;

/// Parses a time limit: a number of seconds above zero, or `never`.
///
/// A number that is too large for a [`Duration`] means `never`, which is [`Duration::MAX`].
pub(crate) fn limit(text: &str) -> Result<Duration, String> {
    match seconds(text) {
        Some(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("must be a number of seconds above zero, or `never`".into()),
    }
}

/// Parses a number of seconds that may be zero, or `never`.
pub(crate) fn limit_or_zero(text: &str) -> Result<Duration, String> {
    seconds(text).ok_or_else(|| "must be a number of seconds, or `never`".into())
}

/// Parses `never`, or a number that is not negative, with or without an `s` behind it.
fn seconds(text: &str) -> Option<Duration> {
    if text == "never" {
        return Some(Duration::MAX);
    }
    let seconds: f64 = text.strip_suffix('s').unwrap_or(text).parse().ok()?;
    // Not a number, or less than none.
    if seconds.is_nan() || seconds.is_sign_negative() {
        return None;
    }
    Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}
