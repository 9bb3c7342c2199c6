//! Lifecycle: what happens to tasks, scopes, wakers and operations from their start to their end,
//! on every driver. What single operations do is the conformance suite's part.

// What only tests for Unix use.
#![cfg_attr(windows, allow(unused_imports, dead_code))]

#[macro_use]
#[path = "../support/drivers.rs"]
mod drivers;
#[path = "../support/errno.rs"]
mod errno;
mod every;
#[path = "../support/pairs.rs"]
mod pairs;
mod support;

mod cancelling;
mod cloning;
mod combining;
mod dropping;
mod everywhere;
mod executor;
mod leaking;
mod moving;
mod panicking;
mod queues;
mod running;
mod teardown;
mod threads;
mod timing;
mod waking;
