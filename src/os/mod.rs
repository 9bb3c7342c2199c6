//! The host's own types and constants, where hosts differ, each under one name.

#[cfg(unix)]
mod unix;

#[cfg(unix)]
pub(crate) use unix::*;
