//! Faults that users of comparable software reported, as this crate showed them: one test each,
//! in a file a kind.

// What only tests for Unix use.
#![cfg_attr(windows, allow(unused_imports, dead_code))]

#[macro_use]
#[path = "../harness/mod.rs"]
mod harness;

#[cfg(unix)]
mod across_contexts;
mod always_ready;
mod assigned_room;
#[cfg(target_os = "linux")]
mod blocking_mode;
#[cfg(target_os = "linux")]
mod closing;
#[cfg(target_os = "linux")]
mod cold_files;
#[cfg(target_os = "linux")]
mod denied_calls;
#[cfg(target_os = "linux")]
mod fork;
#[cfg(unix)]
mod inline;
#[cfg(unix)]
mod inline_operations;
mod leftovers;
#[cfg(target_os = "linux")]
mod messages;
#[cfg(target_os = "linux")]
mod no_threads;
#[cfg(target_os = "linux")]
mod numbers;
#[cfg(target_os = "linux")]
mod order;
#[cfg(target_os = "linux")]
mod relaying;
#[cfg(target_os = "linux")]
mod several_addresses;
#[cfg(target_os = "linux")]
mod sigpipe;
#[cfg(target_os = "linux")]
mod streams;
#[cfg(unix)]
mod task_scopes;
