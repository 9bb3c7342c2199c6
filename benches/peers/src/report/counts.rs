//! The tables of counts per operation: system calls, instructions, allocations.

use std::fmt::Write;

use anyhow::Result;

use super::metric::{Summary, grouped};
use super::table;
use crate::results::{Counted, Results, WorkloadResult};

const INTRODUCTION: &str = "\
System calls are counted by `perf stat`, instructions in user space by cachegrind, heap allocations
by the process itself. Each program runs twice, the second time for twice as many operations
(requests, connections, reads, tasks); a count is the difference, divided by the number of
additional operations. Under cachegrind a server is some 50 times slower, so more connections are
ready at once.
";

pub(super) fn write(out: &mut String, results: &Results) -> Result<()> {
    writeln!(out, "{INTRODUCTION}")?;
    let system_calls = |counted: &Counted| counted.system_calls;
    writeln!(out, "## System calls per operation\n")?;
    counted(out, "system calls", results, system_calls)?;
    let instructions = |counted: &Counted| counted.instructions;
    writeln!(out, "\n## Instructions in user space per operation\n")?;
    counted(out, "instructions", results, instructions)?;
    writeln!(out, "\n## Heap allocations per operation\n")?;
    allocations(out, results)
}

fn counted(
    out: &mut String,
    title: &str,
    results: &Results,
    pick: fn(&Counted) -> Option<f64>,
) -> Result<()> {
    let mut columns: Vec<String> = vec![title.to_owned()];
    let mut names: Vec<&str> = Vec::new();
    for counted in &results.counts {
        if !columns.contains(&counted.what) {
            columns.push(counted.what.clone());
        }
        if !names.contains(&counted.peer.as_str()) {
            names.push(&counted.peer);
        }
    }
    table::head(out, &columns)?;
    for name in names {
        write!(out, "| {name} |")?;
        for column in &columns[1..] {
            let is_this = |counted: &&Counted| counted.peer == name && counted.what == *column;
            let entry = match results.counts.iter().find(is_this) {
                Some(counted) => pick(counted).map_or("not counted".into(), grouped),
                // The peer does not have this program.
                None => String::new(),
            };
            write!(out, " {entry} |")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn allocations(out: &mut String, results: &Results) -> Result<()> {
    const GROUPS: [&str; 5] = ["echo-64", "http", "churn", "tasks", "disk"];
    let workloads: Vec<&WorkloadResult> = results
        .workloads
        .iter()
        .filter(|workload| GROUPS.contains(&workload.group.as_str()))
        .filter(|workload| !workload.name.contains("copy") && !workload.name.contains("epoll"))
        .collect();
    let title = |workload: &WorkloadResult| match workload.group.as_str() {
        "echo-64" => format!("echo, {}", workload.name),
        "http" => format!("HTTP, {}", workload.name),
        "churn" => "connection".to_owned(),
        _ => workload.name.clone(),
    };
    let titles = workloads.iter().map(|workload| title(workload));
    table::head(out, &std::iter::once("allocations".into()).chain(titles).collect::<Vec<_>>())?;
    // fio's allocations are not counted.
    for name in table::peers(&workloads).into_iter().filter(|name| *name != "fio") {
        write!(out, "| {name} |")?;
        for workload in &workloads {
            let rounds = workload.peer(name).into_iter().flat_map(|peer| peer.rounds.iter());
            let values = rounds.flatten().filter_map(|sample| sample.allocations).collect();
            let median = Summary::of(values).map(|summary| summary.median);
            write!(out, " {} |", median.map_or("".into(), |median| format!("{median:.2}")))?;
        }
        writeln!(out)?;
    }
    Ok(())
}
