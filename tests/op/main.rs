//! Operations: their results, checked with std and system calls.

// What only tests for Unix use.
#![cfg_attr(windows, allow(unused_imports, dead_code))]

#[macro_use]
#[path = "../harness/mod.rs"]
mod harness;

mod exact;
mod fixed;
#[cfg(unix)]
mod huge;
#[cfg(unix)]
mod message;
#[cfg(unix)]
mod nonblocking;
#[cfg(target_os = "linux")]
mod poll;
mod recv_stream;
#[cfg(target_os = "linux")]
mod regressions;
mod sendfile;
#[cfg(unix)]
mod source;
#[cfg(target_os = "linux")]
mod splice;
mod stats;
#[cfg(target_os = "linux")]
mod table;
mod timeout;
