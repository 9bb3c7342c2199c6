//! Contexts that work together: channels, locks, tasks on other contexts, workers, servers. On every driver.

#[macro_use]
#[path = "../support/drivers.rs"]
mod drivers;

mod channels;
mod local;
mod remote;
mod serving;
mod stopping;
mod support;
mod workers;
