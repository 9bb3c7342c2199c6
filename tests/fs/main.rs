//! Files: opening, reading, writing, metadata.

// What only tests for Unix use.
#![cfg_attr(windows, allow(unused_imports, dead_code))]

#[macro_use]
#[path = "../harness/mod.rs"]
mod harness;

mod directories;
mod files;
#[cfg(unix)]
mod opening;
