//! The machine, and the versions of the measured programs.

use std::collections::BTreeMap;
use std::process::Command;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) processors: usize,
    pub(crate) kernel: String,
    pub(crate) compiler: String,
    pub(crate) date: String,
    /// Versions of the measured programs.
    pub(crate) versions: BTreeMap<String, String>,
}

fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let bytes = match &output {
        Ok(output) if output.stdout.is_empty() => &output.stderr,
        Ok(output) => &output.stdout,
        Err(_) => return "not installed".into(),
    };
    String::from_utf8_lossy(bytes).lines().next().unwrap_or_default().to_owned()
}

impl Machine {
    /// Collects the description of this machine.
    pub(crate) fn detect() -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = cpuinfo
            .lines()
            .find_map(|line| {
                line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name)
            })
            .unwrap_or("unknown");
        let mut versions = locked_versions(include_str!("../Cargo.lock"));
        let nginx = first_line("nginx", &["-v"]);
        let word = |text: &str, mark| text.split(mark).nth(1).unwrap_or("not installed").to_owned();
        versions.insert("nginx".into(), word(&nginx, '/'));
        versions.insert("fio".into(), word(&first_line("fio", &["--version"]), '-'));
        Machine {
            processor: processor.to_owned(),
            // All of them: this thread is pinned to one.
            processors: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
            kernel: first_line("uname", &["-r"]),
            compiler: first_line("rustc", &["--version"]),
            date: first_line("date", &["-u", "+%Y-%m-%d"]),
            versions,
        }
    }
}

/// Returns the versions of the peers in a lock file.
fn locked_versions(lock: &str) -> BTreeMap<String, String> {
    const PEERS: [&str; 6] = ["monoio", "compio", "tokio", "tokio-uring", "glommio", "io-uring"];
    let quoted = |line: &str, key: &str| {
        Some(line.strip_prefix(key)?.trim_start_matches([' ', '=']).trim_matches('"').to_owned())
    };
    let mut versions = BTreeMap::new();
    for package in lock.split("[[package]]") {
        let name = package.lines().find_map(|line| quoted(line, "name "));
        let version = package.lines().find_map(|line| quoted(line, "version "));
        if let (Some(name), Some(version)) = (name, version)
            && PEERS.contains(&name.as_str())
        {
            // If there are several, the newest comes last.
            versions.insert(name, version);
        }
    }
    versions
}
