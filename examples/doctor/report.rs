//! The report: facts, the driver that corio will use, and advice.

use corio::{DriverChoice, IoContext};
use serde::Serialize;

use crate::advice::{Advice, advice};
use crate::host::{Cores, Kernel, Limits, Ring};

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) corio: &'static str,
    pub(crate) kernel: Kernel,
    /// What io_uring offers; absent where there is none.
    pub(crate) io_uring: Option<Ring>,
    pub(crate) limits: Limits,
    pub(crate) cores: Cores,
    pub(crate) driver: Driver,
    pub(crate) advice: Vec<Advice>,
}

/// The driver of a context with default options.
#[derive(Debug, Serialize)]
pub(crate) struct Driver {
    /// `CORIO_DRIVER`, if it is set.
    pub(crate) environment: Option<String>,
    pub(crate) name: Option<&'static str>,
    /// Set-up flags that the kernel granted.
    pub(crate) flags: Vec<&'static str>,
    /// Why the driver is not io_uring.
    pub(crate) fallback_reason: Option<String>,
    /// Why no context can be made.
    pub(crate) error: Option<String>,
    /// Why io_uring is not available, whatever the choice.
    pub(crate) io_uring_error: Option<String>,
}

impl Driver {
    fn probe() -> Self {
        let io_uring = IoContext::builder().driver(DriverChoice::Uring).build();
        let io_uring_error = io_uring.err().map(|error| error.to_string());
        let environment =
            std::env::var_os("CORIO_DRIVER").map(|name| name.to_string_lossy().into_owned());
        match IoContext::new(256) {
            Ok(context) => Driver {
                environment,
                name: Some(context.driver_name()),
                flags: context.setup_flags(),
                fallback_reason: context.fallback_reason().map(ToString::to_string),
                error: None,
                io_uring_error,
            },
            Err(error) => Driver {
                environment,
                name: None,
                flags: Vec::new(),
                fallback_reason: None,
                error: Some(error.to_string()),
                io_uring_error,
            },
        }
    }
}

impl Report {
    pub(crate) fn new() -> Self {
        let mut report = Report {
            corio: env!("CARGO_PKG_VERSION"),
            kernel: Kernel::read(),
            io_uring: Ring::probe(),
            limits: Limits::read(),
            cores: Cores::read(),
            driver: Driver::probe(),
            advice: Vec::new(),
        };
        report.advice = advice(&report);
        report
    }
}
