//! The drivers that every test runs on. Another driver is one more line in `every_driver!`.

use corio::{Builder, IoContext};

/// The ring, whatever else there is.
pub(crate) fn io_uring() -> Builder {
    IoContext::builder()
}

/// Declares tests that are given a context's builder, and run once per driver; the driver is the
/// last part of a test's name.
macro_rules! every_driver {
    ($($(#[$attr:meta])* fn $name:ident($builder:ident) $body:block)+) => {$(
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            $(#[$attr])*
            fn on($builder: corio::Builder) $body

            #[test]
            fn io_uring() { $crate::support::guarded(|| on($crate::drivers::io_uring())) }
        }
    )+};
}
pub(crate) use every_driver;
