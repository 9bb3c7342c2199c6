//! Sleeps: their order, their cost, and extreme times.

#[macro_use]
#[path = "../harness/mod.rs"]
mod harness;

mod sleep;
