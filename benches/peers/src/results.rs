//! The figures of a run, as `results.json` stores them.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::machine::Machine;

/// The peer that all others are compared with.
pub(crate) const OURS: &str = "corio";

/// All figures of a run.
#[derive(Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) quick: bool,
    pub(crate) rounds: usize,
    #[serde(rename = "cells")]
    pub(crate) workloads: Vec<WorkloadResult>,
    pub(crate) counts: Vec<Counted>,
}

/// The figures of all peers for one workload.
#[derive(Serialize, Deserialize)]
pub(crate) struct WorkloadResult {
    /// The table that the workload is part of.
    pub(crate) group: String,
    /// The workload's column in that table.
    pub(crate) name: String,
    /// Requests per second of the bare loop, of which an open loop sends a share.
    pub(crate) pace: Option<f64>,
    pub(crate) peers: Vec<PeerResult>,
}

/// The figures of one peer for one workload.
#[derive(Serialize, Deserialize)]
pub(crate) struct PeerResult {
    pub(crate) peer: String,
    /// One sample per round; `None` if the peer failed in that round.
    pub(crate) rounds: Vec<Option<Sample>>,
}

/// The figures of one peer for one workload in one round. What does not apply is absent.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Operations (requests, bytes, tasks, …) per second.
    pub(crate) per_second: f64,
    /// CPU time of the measured process per operation, in nanoseconds.
    pub(crate) cpu_ns: f64,
    /// In microseconds: p50, p99, p99.9.
    pub(crate) latency: Option<[f64; 3]>,
    /// Heap allocations per operation; absent for programs that are not part of this package.
    pub(crate) allocations: Option<f64>,
    /// Bytes per connection.
    pub(crate) memory: Option<f64>,
    /// By how many microseconds a sleep exceeded its duration, on average.
    pub(crate) late: Option<f64>,
}

/// System calls and instructions per operation.
#[derive(Serialize, Deserialize)]
pub(crate) struct Counted {
    pub(crate) what: String,
    pub(crate) peer: String,
    /// Per operation; `None` if counting failed.
    pub(crate) system_calls: Option<f64>,
    /// In user space, per operation; `None` if counting failed.
    pub(crate) instructions: Option<f64>,
}

impl Results {
    /// Adds the figures of an earlier run for the workloads that this run did not measure, and
    /// keeps the order of the earlier run.
    pub(crate) fn merge(&mut self, earlier: Results) {
        let mut new = std::mem::take(&mut self.workloads);
        for old in earlier.workloads {
            let same = |new: &WorkloadResult| (&new.group, &new.name) == (&old.group, &old.name);
            let position = new.iter().position(same);
            self.workloads.push(position.map_or(old, |index| new.remove(index)));
        }
        self.workloads.append(&mut new);
        if self.counts.is_empty() {
            self.counts = earlier.counts;
        }
    }

    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string(self)?;
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
    }

    pub(crate) fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("reading {}; `all` writes it", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("parsing {}", path.display()))
    }
}

impl WorkloadResult {
    pub(crate) fn peer(&self, name: &str) -> Option<&PeerResult> {
        self.peers.iter().find(|peer| peer.peer == name)
    }
}
