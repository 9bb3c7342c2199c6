//! The harness that all test binaries share.
//!
//! Each test runs on each driver of [`Driver`] that this host has, under a name that ends in the
//! driver's: `cargo test --test op readiness` runs the operations' tests on one of them.
//!
//! [`every_driver!`](crate::every_driver) declares tests, in one of two forms:
//!
//! - `fn name(builder) { … }` defines a test that makes its contexts from a [`corio::Builder`].
//! - `name, …; cases: name, …` lists functions of the file. Those before the semicolon are
//!   `async fn() -> Outcome`; each runs in a fresh context, which must have nothing in flight
//!   afterwards. Those under `cases` take a [`Case`] and make contexts themselves. A function
//!   that is not listed is dead code, about which the compiler warns.
//!
//! Every such test has a [time limit](guarded), and can run its body in a [child
//! process](alone): for process-wide state, such as limits, or to see it abort.

// Each test binary uses a part of it, and Windows another part than Unix.
#![allow(dead_code, unused_imports, unused_macros)]

#[macro_use]
mod drivers;
mod case;
mod child;
pub(crate) mod errno;
mod futures;
mod guard;
mod io;
mod noise;
mod pairs;
#[cfg(target_os = "linux")]
pub(crate) mod seccomp;
mod servers;
#[cfg(unix)]
mod unix;
pub(crate) mod wakers;

use std::time::Duration;

pub(crate) use case::{Case, Outcome, assert_at_rest, assert_errno, assert_kind, run, run_case};
pub(crate) use child::*;
pub(crate) use drivers::Driver;
pub(crate) use futures::*;
pub(crate) use guard::{guarded, start};
pub(crate) use io::*;
pub(crate) use noise::noise;
pub(crate) use pairs::{LocalStream, local_pair, refusing, std_pair};
pub(crate) use servers::*;
#[cfg(unix)]
pub(crate) use unix::*;

/// A duration so long that a test which waits for it exceeds its time limit.
pub(crate) const LONG: Duration = Duration::from_secs(3600);

/// Returns `number`, or a hundredth of it under Miri, which takes as much longer.
pub(crate) const fn many(number: u64) -> u64 {
    if cfg!(miri) { number / 100 } else { number }
}

/// A duration after which something may have happened; no test depends on which.
pub(crate) const SHORT: Duration = Duration::from_millis(1);
