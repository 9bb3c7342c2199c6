//! Draws a plot as SVG: horizontal bars that bear their names and values, best first.
//!
//! The sizes are for a phone: at a width of 360 pixels the names are still legible. Nothing depends
//! on colours: corio's bars are dark and their names bold, the other runtimes' bars are light,
//! those of bare loops and other programs are white.

use std::cmp::Ordering;
use std::path::Path;

use anyhow::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::metric::{Metric, Summary, absolute, shown};
use super::questions::Question;
use crate::results::{OURS, PeerResult, WorkloadResult};

const WIDTH: i32 = 680;
const MARGIN: i32 = 16;
/// Where bars start, and where the longest one ends.
const BARS: (i32, i32) = (232, 524);
const ROW: i32 = 40;
const BAR: i32 = 26;
const TITLE_LINE: i32 = 36;
const NOTE_LINE: i32 = 28;
/// Where shorter is better, a bar that is longer than this multiple of the median bar is cut off.
const CUT: f64 = 3.0;

const DARK: RGBColor = RGBColor(130, 20, 40);
const LIGHT: RGBColor = RGBColor(190, 205, 225);
const EDGE: RGBColor = RGBColor(60, 60, 60);

/// What kind of program a bar is of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ours,
    Runtime,
    /// A bare loop, or a program that is not written on a runtime.
    Native,
}

struct Bar {
    label: String,
    value: String,
    kind: Kind,
    summary: Summary,
}

/// Draws the plot; returns `false` if the workload has no figures.
pub(super) fn draw(question: &Question, workload: &WorkloadResult, path: &Path) -> Result<bool> {
    let bars = bars(question, workload);
    if bars.is_empty() {
        return Ok(false);
    }
    let rounds = workload.peers.iter().map(|peer| peer.rounds.len()).max().unwrap_or(0);
    let notes = notes(question, workload, rounds);
    let top = MARGIN
        + TITLE_LINE * question.title.len() as i32
        + NOTE_LINE * notes.len() as i32
        + MARGIN / 2;
    let height = top + ROW * bars.len() as i32 + MARGIN;
    let root = SVGBackend::new(path, (WIDTH as u32, height as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    let text = |text: &str, (x, y): (i32, i32), size: i32, bold: bool, right: bool| {
        let style = if bold { FontStyle::Bold } else { FontStyle::Normal };
        let horizontal = if right { HPos::Right } else { HPos::Left };
        let style = ("sans-serif", size).into_font().style(style).into_text_style(&root);
        root.draw_text(text, &style.pos(Pos::new(horizontal, VPos::Center)), (x, y))
    };
    let mut y = MARGIN + TITLE_LINE / 2;
    for line in question.title {
        text(line, (MARGIN, y), 30, true, false)?;
        y += TITLE_LINE;
    }
    for line in &notes {
        text(line, (MARGIN, y), 22, false, false)?;
        y += NOTE_LINE;
    }

    let longest = bars.iter().map(|bar| bar.summary.max).fold(0.0, f64::max);
    let middle = Summary::of(bars.iter().map(|bar| bar.summary.median).collect());
    let end = match middle {
        Some(middle) if !question.metric.larger_is_better() => longest.min(middle.median * CUT),
        _ => longest,
    };
    let x = |value: f64| BARS.0 + ((BARS.1 - BARS.0) as f64 * (value / end).min(1.0)) as i32;
    for (row, bar) in bars.iter().enumerate() {
        let y = top + ROW * row as i32 + ROW / 2;
        let corners = [(BARS.0, y - BAR / 2), (x(bar.summary.median), y + BAR / 2)];
        let fill = match bar.kind {
            Kind::Ours => DARK,
            Kind::Runtime => LIGHT,
            Kind::Native => WHITE,
        };
        root.draw(&Rectangle::new(corners, fill.filled()))?;
        root.draw(&Rectangle::new(corners, EDGE.stroke_width(2)))?;
        if bar.summary.median > end {
            cut(&root, y)?;
        }
        // From the minimum to the maximum.
        let line = vec![(x(bar.summary.min), y), (x(bar.summary.max), y)];
        let color = if bar.kind == Kind::Ours { WHITE } else { EDGE };
        root.draw(&PathElement::new(line.clone(), EDGE.stroke_width(2)))?;
        let inside = vec![line[0], (line[1].0.min(corners[1].0), y)];
        root.draw(&PathElement::new(inside, color.stroke_width(2)))?;
        if bar.summary.max > end && bar.summary.median <= end {
            let arrow = vec![(BARS.1 - 8, y - 7), (BARS.1, y), (BARS.1 - 8, y + 7)];
            root.draw(&PathElement::new(arrow, EDGE.stroke_width(2)))?;
        }
        let bold = bar.kind == Kind::Ours;
        text(&bar.label, (MARGIN, y), 22, bold, false)?;
        text(&bar.value, (WIDTH - MARGIN, y), 22, bold, true)?;
    }
    if question.metric.is_relative() {
        // corio is 1: for comparison along all rows.
        for row in 0..=bars.len() as i32 {
            let y = top + ROW * row - (ROW - BAR) / 2;
            root.draw(&PathElement::new(vec![(x(1.0), y), (x(1.0), y + ROW - BAR)], DARK))?;
        }
    }
    root.present()?;
    Ok(true)
}

/// Marks a bar that is cut off.
fn cut<B: DrawingBackend>(root: &DrawingArea<B, plotters::coord::Shift>, y: i32) -> Result<()>
where
    B::ErrorType: 'static,
{
    let at = BARS.1 - 40;
    let (low, high) = (y + BAR / 2 + 3, y - BAR / 2 - 3);
    let gap = vec![(at, low), (at + 10, high), (at + 22, high), (at + 12, low)];
    root.draw(&Polygon::new(gap, WHITE.filled()))?;
    for side in [0, 12] {
        let edge = vec![(at + side, low), (at + side + 10, high)];
        root.draw(&PathElement::new(edge, EDGE.stroke_width(2)))?;
    }
    Ok(())
}

fn notes(question: &Question, workload: &WorkloadResult, rounds: usize) -> Vec<String> {
    let metric = question.metric;
    let better = if metric.larger_is_better() { "longer" } else { "shorter" };
    let ours = workload.peer(OURS).and_then(|peer| absolute(metric, peer));
    let scale = match ours {
        Some(ours) if metric.is_relative() => {
            format!("corio = 1 ({}); ", metric.with_unit(ours.median))
        }
        _ => String::new(),
    };
    vec![
        question.note.to_owned(),
        format!("{scale}{better} is better"),
        format!("thin line: range of {rounds} rounds"),
    ]
}

/// One bar per shown variant of corio, and per other peer with the settings that are best for it.
fn bars(question: &Question, workload: &WorkloadResult) -> Vec<Bar> {
    let metric = question.metric;
    let better = |a: &Summary, b: &Summary| {
        let order = a.median.total_cmp(&b.median);
        if metric.larger_is_better() { order.reverse() } else { order }
    };
    let mut bars: Vec<(&str, Bar)> = Vec::new();
    for peer in &workload.peers {
        let (family, variant) = family(&peer.peer);
        if family == OURS && !question.ours.contains(&peer.peer.as_str()) {
            continue;
        }
        let Some(summary) = shown(metric, workload, peer) else { continue };
        let bar = bar(metric, peer, (family, variant), summary);
        let same = bars.iter_mut().find(|(of, _)| *of == family && family != OURS);
        match same {
            Some((_, best)) if better(&bar.summary, &best.summary) == Ordering::Less => *best = bar,
            Some(_) => {}
            None => bars.push((family, bar)),
        }
    }
    let mut bars: Vec<Bar> = bars.into_iter().map(|(_, bar)| bar).collect();
    bars.sort_by(|a, b| better(&a.summary, &b.summary));
    bars
}

/// Splits a peer's name into the program and its variant.
fn family(name: &str) -> (&str, Option<&str>) {
    for variant in ["tuned", "epoll", "buffers"] {
        let program = name.strip_suffix(variant).and_then(|name| name.strip_suffix('-'));
        if let Some(program) = program {
            return (program, Some(variant));
        }
    }
    (name, None)
}

fn bar(
    metric: Metric,
    peer: &PeerResult,
    (family, variant): (&str, Option<&str>),
    summary: Summary,
) -> Bar {
    let kind = match family {
        OURS => Kind::Ours,
        "bare io_uring" | "bare epoll" | "nginx" | "fio" => Kind::Native,
        _ => Kind::Runtime,
    };
    let label = match variant {
        Some("epoll") => format!("{family} on epoll"),
        Some("buffers") => format!("{family}, buffers"),
        Some(variant) => format!("{family}, {variant}"),
        None => family.to_owned(),
    };
    let value = match absolute(metric, peer) {
        Some(absolute) if !metric.is_relative() => metric.with_unit(absolute.median),
        _ => format!("{:.2}", summary.median),
    };
    Bar { label, value, kind, summary }
}
