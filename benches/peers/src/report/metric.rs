//! Metrics, and their summary over the rounds.

use crate::results::{OURS, PeerResult, Sample, WorkloadResult};

/// What a table or a plot shows of a workload.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Metric {
    Throughput,
    Cpu,
    LatencyP50,
    LatencyP99,
    Nanoseconds,
    CpuNanoseconds,
    Late,
    Memory,
}

impl Metric {
    /// The head of a table's first column.
    pub(super) fn title(self) -> &'static str {
        match self {
            Metric::Throughput => "operations per second",
            Metric::Cpu => "CPU time per operation",
            Metric::LatencyP50 => "p50 in µs",
            Metric::LatencyP99 => "p50, p99, p99.9 in µs",
            Metric::Nanoseconds => "ns per operation",
            Metric::CpuNanoseconds => "CPU ns per operation",
            Metric::Late => "µs late",
            Metric::Memory => "bytes per connection",
        }
    }

    /// Returns `true` if a peer's figure is shown as a ratio to corio's of the same round.
    pub(super) fn is_relative(self) -> bool {
        matches!(self, Metric::Throughput | Metric::Cpu)
    }

    /// Returns `true` if the larger of two figures is the better one.
    pub(super) fn larger_is_better(self) -> bool {
        self == Metric::Throughput
    }

    pub(super) fn of(self, sample: &Sample) -> Option<f64> {
        match self {
            Metric::Throughput => Some(sample.per_second),
            Metric::Cpu | Metric::CpuNanoseconds => Some(sample.cpu_ns),
            Metric::Nanoseconds => Some(1e9 / sample.per_second),
            Metric::LatencyP50 => sample.latency.map(|latency| latency[0]),
            Metric::LatencyP99 => sample.latency.map(|latency| latency[1]),
            Metric::Late => sample.late,
            Metric::Memory => sample.memory,
        }
    }

    /// Formats an absolute figure with its unit.
    pub(super) fn with_unit(self, value: f64) -> String {
        match self {
            Metric::Throughput => format!("{}/s", grouped(value)),
            Metric::Cpu | Metric::Nanoseconds | Metric::CpuNanoseconds => {
                format!("{} ns", grouped(value))
            }
            Metric::LatencyP50 | Metric::LatencyP99 | Metric::Late => {
                format!("{} µs", grouped(value))
            }
            Metric::Memory => format!("{} bytes", grouped(value)),
        }
    }
}

/// Median, minimum and maximum of the rounds.
#[derive(Clone, Copy)]
pub(super) struct Summary {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Summary {
    /// Summarizes `values`; `None` if there are none.
    pub(super) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            (values[middle - 1] + values[middle]) / 2.0
        };
        Some(Summary { median, min, max })
    }
}

/// Summarizes a peer's own figures.
pub(super) fn absolute(metric: Metric, peer: &PeerResult) -> Option<Summary> {
    Summary::of(peer.rounds.iter().flatten().filter_map(|sample| metric.of(sample)).collect())
}

/// Each round's figure of a peer, divided by corio's of the same round.
pub(super) fn ratios(metric: Metric, workload: &WorkloadResult, peer: &PeerResult) -> Vec<f64> {
    let Some(ours) = workload.peer(OURS) else { return Vec::new() };
    let rounds = peer.rounds.iter().zip(&ours.rounds);
    let ratio = |(theirs, ours): (&Option<Sample>, &Option<Sample>)| {
        Some(metric.of(theirs.as_ref()?)? / metric.of(ours.as_ref()?)?)
    };
    rounds.filter_map(ratio).collect()
}

/// Summarizes a peer's figures as the tables show them: as ratios, or absolute.
pub(super) fn shown(
    metric: Metric,
    workload: &WorkloadResult,
    peer: &PeerResult,
) -> Option<Summary> {
    if metric.is_relative() {
        Summary::of(ratios(metric, workload, peer))
    } else {
        absolute(metric, peer)
    }
}

/// Formats a number with three significant digits or more, and with commas between thousands.
pub(super) fn grouped(value: f64) -> String {
    if value.abs() < 10.0 {
        return format!("{value:.2}");
    }
    if value.abs() < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    if value < 0.0 { format!("-{out}") } else { out }
}
