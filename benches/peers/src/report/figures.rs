//! What a table's entry is made of.

use crate::measure::Sample;
use crate::session::{CellResult, OURS, PeerResult};

/// What is told of a cell.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Measure {
    Throughput,
    Cpu,
    Latency,
    Nanoseconds,
    CpuNanoseconds,
    Late,
    Memory,
}

impl Measure {
    pub(super) fn title(self) -> &'static str {
        match self {
            Measure::Throughput => "per second",
            Measure::Cpu => "CPU for each",
            Measure::Latency => "p50, p99, p99.9 in µs",
            Measure::Nanoseconds => "ns for each",
            Measure::CpuNanoseconds => "CPU ns for each",
            Measure::Late => "µs too late",
            Measure::Memory => "bytes for each",
        }
    }

    /// As ratios to ours.
    pub(super) fn is_relative(self) -> bool {
        matches!(self, Measure::Throughput | Measure::Cpu)
    }

    pub(super) fn of(self, sample: &Sample) -> Option<f64> {
        match self {
            Measure::Throughput => Some(sample.per_second),
            Measure::Cpu | Measure::CpuNanoseconds => Some(sample.cpu_ns),
            Measure::Nanoseconds => Some(1e9 / sample.per_second),
            Measure::Latency => sample.latency.map(|latency| latency[1]),
            Measure::Late => sample.late,
            Measure::Memory => sample.memory,
        }
    }
}

/// Median, least and most.
#[derive(Clone, Copy)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) least: f64,
    pub(super) most: f64,
}

impl Spread {
    pub(super) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (&least, &most) = (values.first()?, values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            (values[middle - 1] + values[middle]) / 2.0
        };
        Some(Spread { median, least, most })
    }
}

/// A peer's figure in a cell: as it is, or each round's divided by ours.
pub(super) fn figure(measure: Measure, cell: &CellResult, peer: &PeerResult) -> Option<Spread> {
    let ours = cell.peers.iter().find(|other| other.peer == OURS)?;
    let values = peer.rounds.iter().zip(&ours.rounds).filter_map(|(theirs, ours)| {
        let theirs = measure.of(theirs.as_ref()?)?;
        Some(if measure.is_relative() { theirs / measure.of(ours.as_ref()?)? } else { theirs })
    });
    Spread::of(values.collect())
}
