//! The report: generated pages in `docs/measurements/`, plots in `docs/plots/`.

mod counts;
mod metric;
mod pages;
mod plot;
mod questions;
mod summary;
mod table;

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::machine::Machine;
use crate::results::{Results, WorkloadResult};
use metric::Metric;
use pages::{Group, PAGES};
use questions::QUESTIONS;

#[derive(clap::Args)]
pub(crate) struct Paths {
    /// The file that stores the figures.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/results.json"))]
    pub(crate) results: PathBuf,
    /// The directory for the pages with tables.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/measurements"))]
    pages: PathBuf,
    /// The directory for the plots.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/plots"))]
    plots: PathBuf,
}

/// Writes all pages and plots from the stored figures.
pub(crate) fn write(paths: &Paths) -> Result<()> {
    let results = Results::load(&paths.results)?;
    for directory in [&paths.pages, &paths.plots] {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("creating {}", directory.display()))?;
    }
    let save = |name: &str, text: String| {
        let path = paths.pages.join(name).with_extension("md");
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    };
    let drawn = draw(&results, paths)?;
    for page in PAGES {
        let mut text = head(page.title, &results);
        for group in page.groups {
            write_group(&mut text, group, &results, &drawn)?;
        }
        save(page.name, text)?;
    }
    let mut text = head("All workloads: who is ahead", &results);
    writeln!(text)?;
    summary::write(&mut text, &results)?;
    save("summary", text)?;
    if !results.counts.is_empty() {
        let mut text = head("Counts per operation", &results);
        writeln!(text)?;
        counts::write(&mut text, &results)?;
        save("counts", text)?;
    }
    println!("wrote {} and {}", paths.pages.display(), paths.plots.display());
    Ok(())
}

/// Draws the plots; returns those whose workloads have figures, as a group and a line of Markdown.
fn draw(results: &Results, paths: &Paths) -> Result<Vec<(&'static str, String)>> {
    let mut drawn = Vec::new();
    for question in QUESTIONS {
        let is_wanted = |workload: &&WorkloadResult| {
            workload.group == question.group && workload.name == question.workload
        };
        let Some(workload) = results.workloads.iter().find(is_wanted) else { continue };
        let file = format!("{}.svg", question.id);
        if plot::draw(question, workload, &paths.plots.join(&file))? {
            let alt = format!("{} {}", question.title.join(" "), question.note);
            drawn.push((question.group, format!("![{alt}](../plots/{file})")));
        }
    }
    Ok(drawn)
}

fn write_group(
    out: &mut String,
    group: &Group,
    results: &Results,
    drawn: &[(&str, String)],
) -> Result<()> {
    let workloads: Vec<&WorkloadResult> =
        results.workloads.iter().filter(|workload| workload.group == group.id).collect();
    if workloads.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n## {}\n\n{}", group.title, group.text)?;
    for &metric in group.metrics {
        writeln!(out)?;
        table::write(out, metric, &workloads)?;
    }
    for (_, image) in drawn.iter().filter(|(of, _)| *of == group.id) {
        writeln!(out, "\n{image}")?;
    }
    Ok(())
}

/// A page's head: where its figures come from, and how they are to be read.
fn head(title: &str, results: &Results) -> String {
    let Machine { processor, processors, kernel, compiler, date, versions } = &results.machine;
    let command = if results.quick { "quick" } else { "all" };
    let rounds = results.rounds;
    let versions = versions.iter().map(|(name, version)| format!("{name} {version}"));
    let versions: Vec<String> = versions.collect();
    let (first, last) = versions.split_at(versions.len() / 2);
    let (first, last) = (first.join(", "), last.join(", "));
    format!(
        "\
# {title}

Generated from `benches/peers/results.json`; do not edit. The figures are measured by
`cargo run --release --manifest-path benches/peers/Cargo.toml -- {command}`,
the page is rendered by the same with `report`. [performance.md](../performance.md) says what is
measured and how.

- {processors} processors of {processor} (a virtual machine), Linux {kernel},
  {compiler}, {date}
- {first},
  {last}
- {rounds} rounds. Unless there is a unit, a figure is the peer's divided by corio's **of the same
  round**: the median, then minimum and maximum of all rounds. For throughput more is better, for
  all else less.
"
    )
}

/// Prints a workload's figures as soon as they are measured.
pub(crate) fn print(workload: &WorkloadResult) {
    let metrics: &[Metric] = pages::group(&workload.group).map_or(&[], |group| group.metrics);
    for &metric in metrics {
        let entry = |peer| table::entry(metric, workload, peer);
        let peers = workload.peers.iter();
        let shown: Vec<String> =
            peers.map(|peer| format!("{} {}", peer.peer, entry(peer))).collect();
        println!("        {}: {}", metric.title(), shown.join(" | "));
    }
}
