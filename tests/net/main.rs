//! Sockets: connections, options, addresses, names, and TLS.

// What only tests for Unix use.
#![cfg_attr(windows, allow(unused_imports, dead_code))]

#[macro_use]
#[path = "../harness/mod.rs"]
mod harness;

mod names;
mod options;
mod polled;
mod sockets;
#[cfg(feature = "rustls")]
mod tls;
mod udp;
