//! Declares tests that are given a context's builder, and run once per driver; the driver is the last
//! part of a test's name.

macro_rules! every_driver {
    ($($(#[$attr:meta])* fn $name:ident($builder:ident) $body:block)+) => {$(
        $(#[$attr])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            fn on($builder: corio::Builder) $body

            on_every_driver!(|driver: $crate::drivers::Driver, _| {
                $crate::support::guarded(|| on(driver.builder()))
            });
        }
    )+};
}
pub(crate) use every_driver;
