//! Blocking work on a pool of threads.

#[macro_use]
#[path = "../harness/mod.rs"]
mod harness;

mod pool;
