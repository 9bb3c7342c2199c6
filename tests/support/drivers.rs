//! The drivers that every test runs on. **Adding a driver is one variant here**, with its builder.

use std::sync::OnceLock;

use corio::{Builder, DriverChoice, IoContext, SetupError};

/// One way of carrying operations out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    IoUring,
    Readiness,
}

impl Driver {
    /// A builder of contexts on this driver.
    pub(crate) fn builder(self) -> Builder {
        IoContext::builder().driver(match self {
            Driver::IoUring => DriverChoice::Uring,
            Driver::Readiness => DriverChoice::Readiness,
        })
    }

    /// Whether this host has the driver; a test that is left out says so.
    pub(crate) fn is_here(self) -> bool {
        static REFUSAL: OnceLock<Option<SetupError>> = OnceLock::new();
        if self != Driver::IoUring {
            return true;
        }
        let probe = || std::thread::spawn(|| Driver::IoUring.builder().build().err()).join();
        match REFUSAL.get_or_init(|| probe().expect("no panic")) {
            None => true,
            Some(reason) => {
                eprintln!("left out: {reason}");
                false
            }
        }
    }
}

/// Makes a test function for each driver: `$run` is called with the driver.
macro_rules! on_every_driver {
    ($run:expr) => {
        #[test]
        fn io_uring() {
            if $crate::drivers::Driver::IoUring.is_here() {
                $run($crate::drivers::Driver::IoUring, concat!(module_path!(), "::io_uring"));
            }
        }

        #[test]
        fn readiness() {
            $run($crate::drivers::Driver::Readiness, concat!(module_path!(), "::readiness"));
        }
    };
}
