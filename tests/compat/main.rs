//! What other libraries see of corio: values that stay on their thread, connections by the traits
//! of each feature, and hyper's timer.

// What only tests with a feature use.
#![allow(unused_imports)]

#[macro_use]
#[path = "../harness/mod.rs"]
mod harness;

mod handlers;
#[cfg(any(feature = "tokio-io", feature = "futures-io"))]
mod io;
mod local;
#[cfg(feature = "hyper")]
mod timer;
