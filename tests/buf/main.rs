//! Buffers: how operations take them, fill them, and give them back.

// What only tests for Unix use.
#![cfg_attr(windows, allow(unused_imports, dead_code))]

#[macro_use]
#[path = "../harness/mod.rs"]
mod harness;

mod buffers;
