//! Drivers: their choice and set-up, full queues, operations that complete inline, and files that
//! others use at the same time.

// What only tests for Unix use.
#![cfg_attr(windows, allow(unused_imports, dead_code))]

#[macro_use]
#[path = "../harness/mod.rs"]
mod harness;

mod choice;
#[cfg(unix)]
mod contention;
#[cfg(target_os = "linux")]
mod denied;
mod inline;
mod queues;
#[cfg(target_os = "linux")]
mod refused;
mod setup;
