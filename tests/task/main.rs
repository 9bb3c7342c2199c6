//! Tasks: their outputs, order and wakers; cancellation, races, and tasks on other contexts.

// What only tests for Unix use.
#![cfg_attr(windows, allow(unused_imports, dead_code))]

#[macro_use]
#[path = "../harness/mod.rs"]
mod harness;

mod cancelling;
mod cloning;
mod combining;
mod droppable;
mod executor;
mod moving;
mod panicking;
mod remote;
mod waking;
