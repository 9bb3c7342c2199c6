//! The table of all workloads: corio, the best of the others, and which of them is ahead.

use std::fmt::Write;

use anyhow::Result;

use super::metric::{Metric, Summary, absolute, ratios};
use super::pages::{Group, PAGES};
use super::table;
use crate::results::{OURS, PeerResult, Results, WorkloadResult};

const INTRODUCTION: &str = "\
Each line compares corio on io_uring with the best other runtime, whatever its settings, and with
the best of the bare loops, nginx and fio. \"Best\" is the best median of all, so chance works
against corio. `n of m` is the number of rounds in which corio was ahead.

\"ahead\" is corio only if it was ahead of every other program in every round. If another program
was ahead of corio in every round, it is that one (the best of several), even if the median of a
third is better. Otherwise it is \"even\": within the noise of the rounds.
";

/// Another peer beside corio, for one workload and metric.
struct Rival<'a> {
    peer: &'a PeerResult,
    ratio: Summary,
    /// In how many rounds corio was ahead, of how many.
    won: usize,
    rounds: usize,
}

pub(super) fn write(out: &mut String, results: &Results) -> Result<()> {
    writeln!(out, "{INTRODUCTION}")?;
    let columns = ["workload", "corio", "best other runtime", "best bare loop or program", "ahead"];
    for (title, larger_is_better) in [
        ("Throughput (a ratio above 1: more than corio)", true),
        ("CPU time, latency, memory (a ratio below 1: less than corio)", false),
    ] {
        writeln!(out, "## {title}\n")?;
        table::head(out, &columns.map(str::to_owned))?;
        for group in PAGES.iter().flat_map(|page| page.groups) {
            let workloads = results.workloads.iter().filter(|workload| workload.group == group.id);
            for workload in workloads {
                for metric in metrics(group) {
                    if metric.larger_is_better() == larger_is_better {
                        row(out, group, metric, workload)?;
                    }
                }
            }
        }
        writeln!(out)?;
    }
    // One empty line less at the end of the page.
    out.pop();
    Ok(())
}

/// The metrics of a group's tables; a table of latencies has two.
fn metrics(group: &Group) -> Vec<Metric> {
    let mut metrics = group.metrics.to_vec();
    if metrics.contains(&Metric::LatencyP99) {
        metrics.insert(0, Metric::LatencyP50);
    }
    metrics
}

fn row(out: &mut String, group: &Group, metric: Metric, workload: &WorkloadResult) -> Result<()> {
    let Some(ours) = workload.peer(OURS).and_then(|peer| absolute(metric, peer)) else {
        return Ok(());
    };
    let rivals = rivals(metric, workload);
    let best = |is_wanted: &dyn Fn(&Rival) -> bool| {
        let wanted = rivals.iter().filter(|rival| is_wanted(rival));
        wanted.min_by(|a, b| order(metric, a, b))
    };
    let runtime = best(&|rival| !is_native(&rival.peer.peer));
    let native = best(&|rival| is_native(&rival.peer.peer));
    let winner = best(&|rival| rival.won == 0);
    let ahead = match winner {
        Some(winner) => &winner.peer.peer,
        None if rivals.iter().all(|rival| rival.won == rival.rounds) => OURS,
        None => "even",
    };
    let show = |rival: Option<&Rival>| {
        rival.map_or(String::new(), |Rival { peer, ratio, won, rounds }| {
            let Summary { median, min, max } = ratio;
            let name = &peer.peer;
            format!("{name} {median:.2} ({min:.2} to {max:.2}), {won} of {rounds}")
        })
    };
    let what = match metric {
        Metric::LatencyP50 => ", p50",
        Metric::LatencyP99 => ", p99",
        Metric::CpuNanoseconds => ", CPU",
        _ => "",
    };
    writeln!(
        out,
        "| {}: {}{what} | {} | {} | {} | {ahead} |",
        group.title,
        table::column(workload),
        metric.with_unit(ours.median),
        show(runtime),
        show(native)
    )?;
    Ok(())
}

fn is_native(name: &str) -> bool {
    name.starts_with("bare") || name == "nginx" || name == "fio"
}

/// The better of two rivals is `Less`.
fn order(metric: Metric, a: &Rival, b: &Rival) -> std::cmp::Ordering {
    let order = a.ratio.median.total_cmp(&b.ratio.median);
    if metric.larger_is_better() { order.reverse() } else { order }
}

/// All peers but corio and its variants.
fn rivals(metric: Metric, workload: &WorkloadResult) -> Vec<Rival<'_>> {
    let rival = |peer| {
        let ratios = ratios(metric, workload, peer);
        let is_won = |ratio: &&f64| match metric.larger_is_better() {
            true => **ratio < 1.0,
            false => **ratio > 1.0,
        };
        let (won, rounds) = (ratios.iter().filter(is_won).count(), ratios.len());
        Some(Rival { peer, ratio: Summary::of(ratios)?, won, rounds })
    };
    workload.peers.iter().filter(|peer| !peer.peer.starts_with(OURS)).filter_map(rival).collect()
}
