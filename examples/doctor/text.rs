//! The report as text.

use std::fmt;

use crate::host::Limit;
use crate::report::Report;

/// Returns a fact as text, or `unknown`.
fn known<T: fmt::Display>(fact: &Option<T>) -> String {
    fact.as_ref().map_or("unknown".into(), T::to_string)
}

fn limit(limit: Option<Limit>) -> String {
    let bound = |value: Option<u64>| value.map_or("unlimited".into(), |value| value.to_string());
    match limit {
        Some(Limit { soft, hard }) => format!("{} (can be raised to {})", bound(soft), bound(hard)),
        None => "unknown".into(),
    }
}

fn list(items: &[&str]) -> String {
    if items.is_empty() { "none".into() } else { items.join(", ") }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, value: String| writeln!(f, "{name:<22}{value}");
        let kernel = &self.kernel;
        line("corio", self.corio.into())?;
        let release = known(&kernel.release);
        line("system", format!("{} {release} on {}", kernel.system, kernel.processor))?;
        match &self.io_uring {
            Some(ring) => {
                line("io_uring operations", ring.operations.to_string())?;
                line("  missing", list(&ring.missing))?;
            }
            None => line("io_uring", "none".into())?,
        }
        line("  io_uring_disabled", known(&kernel.io_uring_disabled))?;
        line("open files", limit(self.limits.open_files))?;
        line("locked memory, bytes", limit(self.limits.locked_memory))?;
        line("accept queue", known(&self.limits.somaxconn))?;
        let cores = &self.cores;
        line("cores", format!("{} usable, {} online", known(&cores.usable), known(&cores.online)))?;
        line("  quota", known(&cores.quota))?;
        line("  governor", known(&cores.governor))?;
        let driver = &self.driver;
        match (driver.name, &driver.error) {
            (Some(name), _) => line("corio will use", name.into())?,
            (None, error) => line("corio can't run", known(error))?,
        }
        line("  granted", list(&driver.flags))?;
        let why = match (&driver.environment, &driver.fallback_reason) {
            (Some(choice), _) if driver.error.is_none() && choice != "auto" => {
                format!("CORIO_DRIVER={choice}")
            }
            (_, Some(reason)) => reason.clone(),
            _ => "it is the default on this host".into(),
        };
        if driver.error.is_none() {
            line("  because", why)?;
        }
        for advice in &self.advice {
            writeln!(f, "\n{}\n  to change that: {}", advice.why, advice.what)?;
        }
        Ok(())
    }
}
