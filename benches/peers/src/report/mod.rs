//! The report: tables in `docs/performance.md`, plots beside it.

mod figures;
mod plot;
mod table;

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::machine::Machine;
use crate::session::{CellResult, Results};
use figures::Measure;

#[derive(clap::Args)]
pub(crate) struct Paths {
    /// Where the figures are kept.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/results.json"))]
    pub(crate) results: PathBuf,
    /// The page whose part between the two marks is written anew.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/performance.md"))]
    page: PathBuf,
    /// The directory for plots.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/plots"))]
    plots: PathBuf,
}

/// A table, or several of the same cells.
struct Group {
    id: &'static str,
    title: &'static str,
    /// What the columns are.
    text: &'static str,
    measures: &'static [Measure],
}

const GROUPS: &[Group] = &[
    Group {
        id: "echo-64",
        title: "Echo, messages of 64 bytes",
        text: "By the number of connections. Buffers of 4 KiB; corio and corio-epoll receive chunks, into the context's memory.",
        measures: &[Measure::Throughput, Measure::Cpu],
    },
    Group {
        id: "echo-64-epoll",
        title: "Echo, messages of 64 bytes, asked by an epoll loop",
        text: "The same, but the load is not on a ring, which sends all that is due together: it reads, and at once sends the next, on \
               one connection after the other, as `epoll_wait` tells them. Who is ahead depends on who asks.",
        measures: &[Measure::Throughput, Measure::Cpu],
    },
    Group {
        id: "echo-1k",
        title: "Echo, messages of 1 KiB",
        text: "By the number of connections. Buffers of 4 KiB; corio and corio-epoll receive chunks, into the context's memory.",
        measures: &[Measure::Throughput, Measure::Cpu],
    },
    Group {
        id: "echo-16k",
        title: "Echo, messages of 16 KiB through buffers of 4 KiB",
        text: "By the number of connections. corio and corio-epoll receive chunks of up to 64 KiB, into the context's memory: for like with like see corio-buffers.",
        measures: &[Measure::Throughput, Measure::Cpu],
    },
    Group {
        id: "echo-16k-large",
        title: "Echo, messages of 16 KiB through buffers of 16 KiB",
        text: "By the number of connections. corio and corio-epoll receive chunks of up to 64 KiB, into the context's memory: for like with like see corio-buffers.",
        measures: &[Measure::Throughput, Measure::Cpu],
    },
    Group {
        id: "http",
        title: "HTTP, a few bytes",
        text: "By the number of connections; once asked by an epoll loop. All parse with `httparse` and answer with the same bytes.",
        measures: &[Measure::Throughput, Measure::Cpu],
    },
    Group {
        id: "files",
        title: "HTTP, files",
        text: "By size; 50, 10, 10 and 1 connections. Page-cached. Who has a way to send a file takes it (corio: \
               `send_file`, nginx and bare epoll: `sendfile(2)`); the others read and send pieces of 64 KiB.",
        measures: &[Measure::Throughput, Measure::Cpu],
    },
    Group {
        id: "churn",
        title: "Connections that live for one exchange",
        text: "Connect, 64 bytes there and back, close; 50 at a time.",
        measures: &[Measure::Throughput, Measure::Cpu],
    },
    Group {
        id: "latency",
        title: "Latency at a fixed rate",
        text: "64-byte echoes over 50 connections, at 0.5 and 0.8 of what the bare ring loop can do: an open loop, so each answer \
               counts from when its request was due. In microseconds.",
        measures: &[Measure::Latency],
    },
    Group {
        id: "disk",
        title: "Files",
        text: "Reads by how many are under way; tokio's are made on its threads for blocking calls.",
        measures: &[Measure::Throughput, Measure::Cpu],
    },
    Group {
        id: "tasks",
        title: "Tasks and timers",
        text: "Nanoseconds for each. Timers: tasks that each sleep for up to 100 ms, CPU time of spawning, firing and joining.",
        measures: &[Measure::Nanoseconds, Measure::CpuNanoseconds],
    },
    Group {
        id: "sleep",
        title: "How late a sleep ends",
        text: "Microseconds beyond what was asked, on average.",
        measures: &[Measure::Late],
    },
    Group {
        id: "threads",
        title: "Between threads",
        text: "Numbers sent through a channel with 1024 places, and one number there and back. monoio and compio have no channel \
               between threads: there it is that of the `futures` crate.",
        measures: &[Measure::Throughput, Measure::Cpu],
    },
    Group {
        id: "idle",
        title: "Connections that wait",
        text: "Memory of the process for each, with a buffer of 4 KiB; corio and corio-epoll have none while nothing comes.",
        measures: &[Measure::Memory],
    },
];

const BEGIN: &str = "<!-- peers: begin -->";
const END: &str = "<!-- peers: end -->";

pub(crate) fn write(paths: &Paths) -> Result<()> {
    let results = Results::load(&paths.results)?;
    std::fs::create_dir_all(&paths.plots)?;
    let mut text = String::new();
    intro(&mut text, &results)?;
    for group in GROUPS {
        let cells: Vec<&CellResult> =
            results.cells.iter().filter(|cell| cell.group == group.id).collect();
        if cells.is_empty() {
            continue;
        }
        writeln!(text, "### {}\n\n{}", group.title, group.text)?;
        for &measure in group.measures {
            writeln!(text)?;
            table::write(&mut text, measure, &cells)?;
        }
        if let Some(svg) =
            plot::bars(group.title, group.measures[0], &cells, &paths.plots.join(group.id))?
        {
            writeln!(text, "\n![{}](plots/{svg})", group.title)?;
        }
        writeln!(text)?;
    }
    table::counts(&mut text, &results)?;
    let page = std::fs::read_to_string(&paths.page)
        .with_context(|| format!("reading {}", paths.page.display()))?;
    let (before, rest) =
        page.split_once(BEGIN).with_context(|| format!("no `{BEGIN}` in the page"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("no `{END}` in the page"))?;
    std::fs::write(&paths.page, format!("{before}{BEGIN}\n{text}{END}{after}"))?;
    println!("{} and {} written", paths.page.display(), paths.plots.display());
    Ok(())
}

fn intro(out: &mut String, results: &Results) -> Result<()> {
    let Machine { processor, processors, kernel, compiler, date, versions } = &results.machine;
    let versions: Vec<String> =
        versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let command = if results.quick { "quick" } else { "all" };
    writeln!(
        out,
        "Written by `cargo run --release --manifest-path benches/peers/Cargo.toml -- {command}`. {processors} processors of {processor} \
         (a virtual machine), Linux {kernel}, {compiler}, {date}. {}.\n\n\
         The measured process has one processor, the load the other; the load is on a ring where nothing else is said. {} rounds; in each, every program is measured once, in turn, in a \
         process of its own. Unless a unit is told, a figure is the peer's divided by corio's **of the same round**: the median, and the least \
         and the most of all rounds. So corio is 1; in *per second* a figure below 1 is slower than corio, in *CPU* one above 1 costs more. \
         Every answer was compared, byte by byte.\n",
        versions.join(", "),
        results.rounds,
    )?;
    Ok(())
}

/// What a cell gave, for whoever watches.
pub(crate) fn print_cell(cell: &CellResult) {
    for &measure in
        GROUPS.iter().find(|group| group.id == cell.group).map_or(&[][..], |group| group.measures)
    {
        let shown: Vec<String> = table::entries(measure, cell)
            .into_iter()
            .map(|(peer, entry)| format!("{peer} {entry}"))
            .collect();
        println!("        {}: {}", measure.title(), shown.join(" | "));
    }
}
