//! Advice: what to change on this host.

use serde::Serialize;

use crate::report::Report;

/// One piece of advice.
#[derive(Debug, Serialize)]
pub(crate) struct Advice {
    pub(crate) why: String,
    pub(crate) what: &'static str,
}

/// A server should be able to open this many files.
const FILES: u64 = 4096;

pub(crate) fn advice(report: &Report) -> Vec<Advice> {
    let mut all = Vec::new();
    let mut add = |why: String, what| all.push(Advice { why, what });
    if let Some(error) = &report.driver.io_uring_error
        && report.kernel.system == "linux"
    {
        let what = match report.kernel.io_uring_disabled {
            Some(1..) => "sysctl -w kernel.io_uring_disabled=0",
            _ => "allow io_uring to this process, or run it on Linux 5.13 or newer",
        };
        add(error.clone(), what);
    } else if report.driver.environment.is_some() && report.driver.name != Some("io_uring") {
        add("CORIO_DRIVER keeps io_uring from being used".into(), "unset CORIO_DRIVER");
    }
    if report.driver.name == Some("io_uring") && !report.driver.flags.contains(&"DEFER_TASKRUN") {
        let why = "the kernel interrupts the thread for each completion";
        add(why.into(), "run it on Linux 6.1 or newer");
    }
    if let Some(soft) = report.limits.open_files.and_then(|limit| limit.soft)
        && soft < FILES
    {
        add(format!("no more than {soft} files and connections can be open"), "ulimit -n 65536");
    }
    if let Some(queue) = report.limits.somaxconn
        && queue < 1024
    {
        let why = format!("no more than {queue} connections can wait to be accepted");
        add(why, "sysctl -w net.core.somaxconn=4096");
    }
    if let Some(governor) = &report.cores.governor
        && governor != "performance"
    {
        let why = format!("the frequency governor is {governor}: latencies vary");
        add(why, "cpupower frequency-set -g performance");
    }
    all
}
