//! Contexts: how they run and end, and what happens to operations that are dropped or leaked in
//! flight.

// What only tests for Unix use.
#![cfg_attr(windows, allow(unused_imports, dead_code))]

#[macro_use]
#[path = "../harness/mod.rs"]
mod harness;

mod dropping;
mod everywhere;
mod health;
mod leaking;
mod running;
mod send;
mod teardown;
