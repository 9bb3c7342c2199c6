//! Tables in Markdown.

use std::fmt::Write;

use anyhow::Result;

use super::figures::{Measure, Spread, figure};
use crate::session::{CellResult, OURS, PeerResult, Results};

/// All peers of some cells, in their order.
pub(super) fn peers<'a>(cells: &[&'a CellResult]) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for peer in cells.iter().flat_map(|cell| &cell.peers) {
        if !names.contains(&peer.peer.as_str()) {
            names.push(&peer.peer);
        }
    }
    names
}

pub(super) fn write(out: &mut String, measure: Measure, cells: &[&CellResult]) -> Result<()> {
    let titles: Vec<String> = cells
        .iter()
        .map(|cell| match cell.pace {
            Some(pace) => {
                let share: f64 = cell.name.parse().unwrap_or(1.0);
                format!("{:.0} requests/s", pace * share)
            }
            None => cell.name.clone(),
        })
        .collect();
    writeln!(out, "| {} | {} |", measure.title(), titles.join(" | "))?;
    writeln!(out, "|---|{}", "---|".repeat(cells.len()))?;
    for name in peers(cells) {
        write!(out, "| {name} |")?;
        for cell in cells {
            let peer = cell.peers.iter().find(|peer| peer.peer == name);
            write!(out, " {} |", peer.map_or("".into(), |peer| entry(measure, cell, peer)))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// Each peer's entry in a cell.
pub(super) fn entries(measure: Measure, cell: &CellResult) -> Vec<(&str, String)> {
    cell.peers.iter().map(|peer| (peer.peer.as_str(), entry(measure, cell, peer))).collect()
}

fn entry(measure: Measure, cell: &CellResult, peer: &PeerResult) -> String {
    if measure == Measure::Latency {
        return latency(peer);
    }
    let Some(spread) = figure(measure, cell, peer) else { return "fails".into() };
    if measure.is_relative() {
        if peer.peer == OURS {
            let ours = peer.rounds.iter().flatten().filter_map(|sample| measure.of(sample));
            return Spread::of(ours.collect()).map_or("fails".into(), |ours| {
                let unit = if measure == Measure::Cpu { " ns" } else { "/s" };
                format!("1 ({}{unit})", grouped(ours.median))
            });
        }
        return format!("{:.2} ({:.2} to {:.2})", spread.median, spread.least, spread.most);
    }
    format!("{} ({} to {})", grouped(spread.median), grouped(spread.least), grouped(spread.most))
}

fn latency(peer: &PeerResult) -> String {
    let quantile = |index: usize| {
        let values = peer.rounds.iter().flatten().filter_map(|sample| sample.latency);
        Spread::of(values.map(|latency| latency[index]).collect())
    };
    match (quantile(0), quantile(1), quantile(2)) {
        (Some(p50), Some(p99), Some(p999)) => format!(
            "{}, {} ({} to {}), {}",
            grouped(p50.median),
            grouped(p99.median),
            grouped(p99.least),
            grouped(p99.most),
            grouped(p999.median)
        ),
        _ => "can't keep up".into(),
    }
}

/// Three digits that count, thousands apart.
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

/// Counts per operation: the table that noise does not reach.
pub(super) fn counts(out: &mut String, results: &Results) -> Result<()> {
    if results.counts.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "### Counts per operation\n\nSystem calls (`perf stat`), instructions in user space (cachegrind), heap allocations. \
         Each is the difference of a run and one with twice as many operations (requests, connections, reads, tasks), divided by how many more they were. Under cachegrind a server is some \
         50 times slower, so that more connections are ready at once.\n"
    )?;
    let mut rows: Vec<&str> = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    for counted in &results.counts {
        if !rows.contains(&counted.what.as_str()) {
            rows.push(&counted.what);
        }
        if !names.contains(&counted.peer.as_str()) {
            names.push(&counted.peer);
        }
    }
    for (title, pick) in [("system calls", 0), ("instructions", 1)] {
        writeln!(out, "| {title} | {} |", rows.join(" | "))?;
        writeln!(out, "|---|{}", "---|".repeat(rows.len()))?;
        for name in &names {
            write!(out, "| {name} |")?;
            for row in &rows {
                let counted = results
                    .counts
                    .iter()
                    .find(|counted| counted.peer == *name && counted.what == *row);
                let value = counted.and_then(|counted| match pick {
                    0 => counted.system_calls,
                    _ => counted.instructions,
                });
                let entry = match (counted, value) {
                    (_, Some(value)) => grouped(value),
                    (Some(_), None) => "not counted".into(),
                    // It has no such program.
                    (None, None) => String::new(),
                };
                write!(out, " {entry} |")?;
            }
            writeln!(out)?;
        }
        writeln!(out)?;
    }
    allocations(out, results)
}

fn allocations(out: &mut String, results: &Results) -> Result<()> {
    let cells: Vec<&CellResult> = results
        .cells
        .iter()
        .filter(|cell| ["echo-64", "http", "churn", "tasks", "disk"].contains(&cell.group.as_str()))
        .filter(|cell| !cell.name.contains("copy") && !cell.name.contains("epoll"))
        .collect();
    let title = |cell: &CellResult| match cell.group.as_str() {
        "echo-64" => format!("echo, {}", cell.name),
        "http" => format!("HTTP, {}", cell.name),
        "churn" => "connection".to_owned(),
        _ => cell.name.clone(),
    };
    let titles: Vec<String> = cells.iter().map(|cell| title(cell)).collect();
    writeln!(out, "| allocations | {} |", titles.join(" | "))?;
    writeln!(out, "|---|{}", "---|".repeat(cells.len()))?;
    for name in peers(&cells) {
        write!(out, "| {name} |")?;
        for cell in &cells {
            let peer = cell.peers.iter().find(|peer| peer.peer == name);
            let values = peer.into_iter().flat_map(|peer| peer.rounds.iter().flatten());
            let spread = Spread::of(values.filter_map(|sample| sample.allocations).collect());
            write!(
                out,
                " {} |",
                spread.map_or("".into(), |spread| format!("{:.2}", spread.median))
            )?;
        }
        writeln!(out)?;
    }
    writeln!(out)?;
    Ok(())
}
