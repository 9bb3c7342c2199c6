//! Contexts that work together: offloaded work, names, channels, locks, tasks on other contexts, workers, servers. On every driver.

#[macro_use]
#[path = "../support/drivers.rs"]
mod drivers;

mod blocking;
mod channels;
mod health;
mod local;
mod messages;
mod names;
mod remote;
mod serving;
mod sharing;
mod stopping;
mod support;
mod workers;
