//! Sleeps: their order, their cost, and the edges of time.

#[macro_use]
#[path = "../harness/mod.rs"]
mod harness;

mod sleep;
