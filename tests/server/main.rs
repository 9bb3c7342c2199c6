//! Servers: their workers, connections, limits, jobs, and their stop.

#[macro_use]
#[path = "../harness/mod.rs"]
mod harness;

mod balancing;
mod jobs;
#[cfg(target_os = "linux")]
mod leaks;
mod serving;
mod stopping;
mod workers;
