//! What the tests of other libraries share.

use corio::{Builder, DriverChoice, IoContext};

/// The result of a test.
pub type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Runs a test with contexts of each driver.
pub fn on_each_driver(test: impl Fn(Builder) -> Outcome) -> Outcome {
    for driver in [DriverChoice::Uring, DriverChoice::Readiness] {
        test(IoContext::builder().driver(driver))?;
    }
    Ok(())
}
