//! Plots as SVG.

use std::path::Path;

use anyhow::Result;
use plotters::prelude::*;

use super::figures::{Measure, Spread, figure};
use super::table;
use crate::session::CellResult;

/// Bars by cell and peer, with a line from the least to the most; gives the file's name.
pub(super) fn bars(
    title: &str,
    measure: Measure,
    cells: &[&CellResult],
    path: &Path,
) -> Result<Option<String>> {
    let names = table::peers(cells);
    let mut drawn: Vec<(usize, usize, Spread)> = Vec::new();
    for (column, cell) in cells.iter().enumerate() {
        for (row, name) in names.iter().enumerate() {
            let peer = cell.peers.iter().find(|peer| peer.peer == *name);
            if let Some(spread) = peer.and_then(|peer| figure(measure, cell, peer)) {
                drawn.push((column, row, spread));
            }
        }
    }
    if drawn.is_empty() {
        return Ok(None);
    }
    let mut path = path.to_owned();
    path.set_extension("svg");
    draw(title, measure, cells, &names, &drawn, &path)?;
    Ok(path.file_name().and_then(|name| name.to_str()).map(str::to_owned))
}

fn draw(
    title: &str,
    measure: Measure,
    cells: &[&CellResult],
    names: &[&str],
    drawn: &[(usize, usize, Spread)],
    path: &Path,
) -> Result<()> {
    // One far off must not squeeze all the others: the axis ends at some multiple of the middle, and
    // bars that go beyond have their figure written on them.
    let middle = Spread::of(drawn.iter().map(|(_, _, spread)| spread.median).collect());
    let tallest = drawn.iter().map(|(_, _, spread)| spread.most).fold(0.0, f64::max);
    let top = middle.map_or(tallest, |middle| tallest.min(middle.median * 3.0)) * 1.08;
    let width = (names.len() + 2) as f64;
    let size = ((180 + 22 * names.len() * cells.len()).clamp(640, 1400) as u32, 420);
    let root = SVGBackend::new(path, size).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .margin_right(160)
        .build_cartesian_2d(0.0..width * cells.len() as f64, 0.0..top)?;
    let relative = if measure.is_relative() { ", peer : corio" } else { "" };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .y_desc(format!("{}{relative}", measure.title()))
        .y_label_formatter(&|value| table::grouped(*value))
        .light_line_style(WHITE)
        .draw()?;
    for (column, cell) in cells.iter().enumerate() {
        let x = (column as f64 + 0.5) * width;
        let place = chart.backend_coord(&(x, 0.0));
        let style = ("sans-serif", 13).into_font().into_text_style(&root);
        let centred = style.pos(plotters::style::text_anchor::Pos::new(
            plotters::style::text_anchor::HPos::Center,
            plotters::style::text_anchor::VPos::Top,
        ));
        root.draw_text(&cell.name, &centred, (place.0, place.1 + 6))?;
    }
    for (row, name) in names.iter().enumerate() {
        let color = color(row, names.len(), name);
        let bars = drawn.iter().filter(|(_, of, _)| *of == row).map(|(column, _, spread)| {
            let left = *column as f64 * width + 1.0 + row as f64;
            Rectangle::new(
                [(left + 0.06, 0.0), (left + 0.94, spread.median.min(top))],
                color.filled(),
            )
        });
        chart.draw_series(bars)?;
        let whiskers = drawn.iter().filter(|(_, of, _)| *of == row).map(|(column, _, spread)| {
            let x = *column as f64 * width + 1.5 + row as f64;
            PathElement::new(
                vec![(x, spread.least.min(top)), (x, spread.most.min(top))],
                BLACK.mix(0.6),
            )
        });
        chart.draw_series(whiskers)?;
        let beyond = drawn.iter().filter(|(_, of, spread)| *of == row && spread.median > top);
        chart.draw_series(beyond.map(|(column, _, spread)| {
            let x = *column as f64 * width + 1.1 + row as f64;
            let font = ("sans-serif", 11).into_font().transform(FontTransform::Rotate90);
            Text::new(table::grouped(spread.median), (x + 0.75, top * 0.98), font.color(&WHITE))
        }))?;
        let entry = (size.0 as i32 - 150, 44 + 20 * row as i32);
        root.draw(&Rectangle::new([entry, (entry.0 + 12, entry.1 + 12)], color.filled()))?;
        root.draw_text(
            name,
            &("sans-serif", 13).into_font().into_text_style(&root),
            (entry.0 + 18, entry.1),
        )?;
    }
    if measure.is_relative() {
        let end = width * cells.len() as f64;
        chart.draw_series([PathElement::new(vec![(0.0, 1.0), (end, 1.0)], BLACK.mix(0.5))])?;
    }
    root.present()?;
    Ok(())
}

/// Ours stands out; the bare loops are grey; the peers go round the wheel.
fn color(row: usize, rows: usize, name: &str) -> RGBColor {
    match name {
        "corio" => RGBColor(200, 30, 45),
        "corio-buffers" => RGBColor(220, 90, 80),
        "corio-epoll" => RGBColor(240, 140, 120),
        _ if name.starts_with("bare") => RGBColor(
            130 + 30 * (row % 3) as u8,
            130 + 30 * (row % 3) as u8,
            135 + 30 * (row % 3) as u8,
        ),
        _ => {
            let (r, g, b) = HSLColor(0.12 + 0.72 * row as f64 / rows as f64, 0.55, 0.5).rgb();
            RGBColor(r, g, b)
        }
    }
}
