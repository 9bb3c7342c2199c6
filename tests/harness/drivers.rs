//! The drivers that every test runs on. **Adding a driver is one variant here**, with its builder.

use std::sync::OnceLock;

use corio::{Builder, DriverChoice, IoContext, SetupError};

/// A driver that carries operations out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    IoUring,
    Readiness,
}

impl Driver {
    /// A builder of contexts on this driver.
    pub(crate) fn builder(self) -> Builder {
        let builder = IoContext::builder().driver(match self {
            Driver::IoUring => DriverChoice::Uring,
            Driver::Readiness => DriverChoice::Readiness,
        });
        match std::env::var("CORIO_TEST_REFUSE") {
            Ok(opcode) => builder.refuse_opcode(opcode.parse().expect("the number of an opcode")),
            Err(_) => builder,
        }
    }

    /// Whether this host has the driver; if not, the reason is printed.
    pub(crate) fn is_here(self) -> bool {
        static REFUSAL: OnceLock<Option<SetupError>> = OnceLock::new();
        if self != Driver::IoUring {
            return true;
        }
        if cfg!(miri) {
            return false;
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

    /// Runs the test at `path`, if this host has the driver.
    pub(crate) fn test(self, path: &'static str, test: impl FnOnce()) {
        // The test harness omits the name of the crate.
        let name = path.split_once("::").map_or(path, |(_, rest)| rest);
        if self.is_here() {
            super::guard::guarded_as(name, test);
        }
    }
}

/// Makes a test function for each driver: `$run` is called with the driver.
macro_rules! on_every_driver {
    ($run:expr) => {
        #[test]
        fn io_uring() {
            let driver = $crate::harness::Driver::IoUring;
            driver.test(concat!(module_path!(), "::io_uring"), || $run(driver));
        }

        #[test]
        fn readiness() {
            let driver = $crate::harness::Driver::Readiness;
            driver.test(concat!(module_path!(), "::readiness"), || $run(driver));
        }
    };
}

/// Declares tests that run once per driver; see the harness's page.
macro_rules! every_driver {
    ($($(#[$attr:meta])* fn $name:ident($builder:ident) $body:block)+) => {$(
        $(#[$attr])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            fn on($builder: corio::Builder) $body

            on_every_driver!(|driver: $crate::harness::Driver| on(driver.builder()));
        }
    )+};
    (cases: $($case:ident),+ $(,)?) => {
        $(mod $case {
            on_every_driver!(|driver| $crate::harness::run_case(driver, super::$case));
        })+
    };
    ($($name:ident),+; cases: $($cases:tt)+) => {
        every_driver! { $($name),+ }
        every_driver! { cases: $($cases)+ }
    };
    ($($name:ident),+ $(,)?) => {
        $(mod $name {
            on_every_driver!(|driver| $crate::harness::run(driver, super::$name));
        })+
    };
}
