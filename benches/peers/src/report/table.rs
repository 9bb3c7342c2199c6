//! Tables of one metric by peer and workload, in Markdown.

use std::fmt::Write;

use anyhow::Result;

use super::metric::{Metric, Summary, absolute, grouped, shown};
use crate::results::{OURS, PeerResult, WorkloadResult};

/// The names of all peers of some workloads, in their order.
pub(super) fn peers<'a>(workloads: &[&'a WorkloadResult]) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for peer in workloads.iter().flat_map(|workload| &workload.peers) {
        if !names.contains(&peer.peer.as_str()) {
            names.push(&peer.peer);
        }
    }
    names
}

/// A workload's column title.
pub(super) fn column(workload: &WorkloadResult) -> String {
    match workload.pace {
        Some(pace) => {
            let share: f64 = workload.name.parse().unwrap_or(1.0);
            format!("{} requests/s", grouped(pace * share))
        }
        None => workload.name.clone(),
    }
}

/// Writes a table's two head rows.
pub(super) fn head(out: &mut String, titles: &[String]) -> Result<()> {
    writeln!(out, "| {} |", titles.join(" | "))?;
    writeln!(out, "|{}", "---|".repeat(titles.len()))?;
    Ok(())
}

pub(super) fn write(out: &mut String, metric: Metric, workloads: &[&WorkloadResult]) -> Result<()> {
    let first = metric.title().to_owned();
    let titles = workloads.iter().map(|workload| column(workload));
    head(out, &std::iter::once(first).chain(titles).collect::<Vec<_>>())?;
    for name in peers(workloads) {
        write!(out, "| {name} |")?;
        for workload in workloads {
            let peer = workload.peer(name);
            write!(out, " {} |", peer.map_or("".into(), |peer| entry(metric, workload, peer)))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// A peer's entry for a workload.
pub(super) fn entry(metric: Metric, workload: &WorkloadResult, peer: &PeerResult) -> String {
    if metric == Metric::LatencyP99 {
        return latency(peer);
    }
    let Some(summary) = shown(metric, workload, peer) else { return "fails".into() };
    let Summary { median, min, max } = summary;
    if !metric.is_relative() {
        return format!("{} ({} to {})", grouped(median), grouped(min), grouped(max));
    }
    if peer.peer != OURS {
        return format!("{median:.2} ({min:.2} to {max:.2})");
    }
    absolute(metric, peer)
        .map_or("fails".into(), |ours| format!("1 ({})", metric.with_unit(ours.median)))
}

fn latency(peer: &PeerResult) -> String {
    let quantile = |index: usize| {
        let values = peer.rounds.iter().flatten().filter_map(|sample| sample.latency);
        Summary::of(values.map(|latency| latency[index]).collect())
    };
    match (quantile(0), quantile(1), quantile(2)) {
        (Some(p50), Some(p99), Some(p999)) => format!(
            "{}, {} ({} to {}), {}",
            grouped(p50.median),
            grouped(p99.median),
            grouped(p99.min),
            grouped(p99.max),
            grouped(p999.median)
        ),
        _ => "too slow for this rate".into(),
    }
}
