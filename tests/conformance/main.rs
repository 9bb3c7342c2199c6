//! The conformance suite: what operations and handles do, checked against what the system sees.
//!
//! Each test runs on each driver of [`drivers`], under a name that ends in the driver's, so
//! `cargo test --test conformance io_uring` runs them all on one of them.
//!
//! A test is a plain function that its file's `conformance!` lists. Most are `async fn() ->
//! Outcome` and get a fresh context. Those listed under `cases` take a [`harness::Case`] and make
//! contexts themselves, or go on in a process of their own.

// What only tests for Unix use.
#![cfg_attr(windows, allow(unused_imports, dead_code))]

#[macro_use]
#[path = "../support/drivers.rs"]
mod drivers;
#[macro_use]
mod harness;
#[path = "../support/errno.rs"]
mod errno;
#[path = "../support/noise.rs"]
mod noise;
#[path = "../support/pairs.rs"]
mod pairs;
#[cfg(target_os = "linux")]
#[path = "../support/seccomp.rs"]
mod seccomp;
mod support;

mod at_once;
mod buffers;
mod choice;
#[cfg(unix)]
mod contention;
mod exact;
mod files;
#[cfg(unix)]
mod fixed;
#[cfg(unix)]
mod huge;
#[cfg(unix)]
mod messages;
#[cfg(unix)]
mod nonblocking;
#[cfg(unix)]
mod opening;
mod options;
mod recv_stream;
mod sendfile;
mod setup;
mod sockets;
#[cfg(unix)]
mod sources;
#[cfg(target_os = "linux")]
mod splice;
#[cfg(unix)]
mod stats;
mod timeouts;
#[cfg(unix)]
mod udp;
#[cfg(unix)]
mod unix;
