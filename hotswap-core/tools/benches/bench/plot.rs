//! Plots calls per second against threads, as an SVG.
//!
//! The grey is readable on white and on black. The SVG has no background, no script and no font of its own, because
//! it is part of a page that has a light and a dark theme.

use std::fmt::Write as _;

use crate::{
    Result,
    alternatives::{FUNCTION_POINTER, WITH},
    rows::Rows,
};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 440.0;
/// The left edge of the plot itself. The names of the lines stand to its right.
const LEFT: f64 = 70.0;
const RIGHT: f64 = 540.0;
const TOP: f64 = 36.0;
const BOTTOM: f64 = 390.0;
/// The smallest distance between two names.
const LINE: f64 = 17.0;

const GREY: &str = "#808080";
/// Colours of medium brightness that can be told apart without telling red from green.
const COLOURS: [&str; 6] = [
    "#0b84d8", "#e07b00", "#b05fc0", "#1b9e77", "#d0487a", "#8c7a2b",
];

/// The ways that can be told apart in a plot. A way that costs as much as a function pointer would lie on its line.
const WAYS: [&str; 9] = [
    FUNCTION_POINTER,
    WITH,
    "lease taken",
    "arc-swap load",
    "crossbeam-epoch pin",
    "RwLock<Arc> locked",
    "RwLock<Arc> cloned",
    "dlsym each call",
    "hot-lib-reloader",
];

/// Draws the plot from the measured rows.
pub(crate) fn calls_per_second(rows: &Rows) -> Result<String> {
    // Calls per second for each number of threads.
    let lines = WAYS.map(|way| (way, points(rows, way)));
    if let Some((way, _)) = lines.iter().find(|(_, points)| points.is_empty()) {
        return Err(format!("{way} was not measured").into());
    }
    let all = || lines.iter().flat_map(|(_, points)| points);
    let threads_max = all().map(|point| point.0).fold(1.0, f64::max);
    let least = all().map(|point| point.1).fold(f64::INFINITY, f64::min);
    let most = all().map(|point| point.1).fold(0.0, f64::max);
    let (low, high) = (least.log10().floor(), most.log10().ceil());
    let x = |threads: f64| LEFT + (threads - 1.0) / (threads_max - 1.0).max(1.0) * (RIGHT - LEFT);
    let y = |speed: f64| BOTTOM - (speed.log10() - low) / (high - low) * (BOTTOM - TOP);

    let mut svg = String::new();
    writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" style="max-width:100%;height:auto" font-family="sans-serif" font-size="13" role="img" aria-label="Calls per second against threads">"#
    )?;
    let text = |svg: &mut String, x: f64, y: f64, anchor: &str, colour: &str, text: &str| {
        writeln!(
            svg,
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" fill="{colour}">{text}</text>"#
        )
    };
    text(
        &mut svg,
        LEFT,
        TOP - 16.0,
        "start",
        GREY,
        "calls per second, all threads together (log scale)",
    )?;
    text(
        &mut svg,
        f64::midpoint(LEFT, RIGHT),
        HEIGHT - 8.0,
        "middle",
        GREY,
        "threads",
    )?;
    for exponent in low as i32..=high as i32 {
        let speed = 10f64.powi(exponent);
        let y = y(speed);
        writeln!(
            svg,
            r#"<line x1="{LEFT}" y1="{y:.1}" x2="{RIGHT}" y2="{y:.1}" stroke="{GREY}" stroke-opacity="0.35"/>"#
        )?;
        text(&mut svg, LEFT - 8.0, y + 4.0, "end", GREY, &millions(speed))?;
    }
    for threads in 1..=threads_max as u32 {
        let threads = f64::from(threads);
        text(
            &mut svg,
            x(threads),
            BOTTOM + 20.0,
            "middle",
            GREY,
            &threads.to_string(),
        )?;
    }
    let ends = lines
        .iter()
        .filter_map(|(_, points)| Some(y(points.last()?.1)));
    let names = apart(ends.collect());
    for (place, ((name, points), name_y)) in lines.iter().zip(names).enumerate() {
        let colour = COLOURS[place % COLOURS.len()];
        let width = if *name == WITH { 4 } else { 2 };
        // The seventh way and later ones reuse the colours, dashed.
        let dashes = if place < COLOURS.len() { "none" } else { "5 4" };
        let path: Vec<String> = points
            .iter()
            .map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1)))
            .collect();
        writeln!(
            svg,
            r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-dasharray="{dashes}"/>"#,
            path.join(" ")
        )?;
        let end = points.last().map_or(BOTTOM, |point| y(point.1));
        writeln!(
            svg,
            r#"<line x1="{:.1}" y1="{end:.1}" x2="{:.1}" y2="{name_y:.1}" stroke="{colour}" stroke-opacity="0.6"/>"#,
            RIGHT + 3.0,
            RIGHT + 22.0
        )?;
        let name = name
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;");
        text(&mut svg, RIGHT + 26.0, name_y + 4.0, "start", colour, &name)?;
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

fn points(rows: &Rows, way: &str) -> Vec<(f64, f64)> {
    let of_way = rows
        .of("call")
        .filter(|row| row.case == way && row.measure == "calls/s");
    of_way.map(|row| (row.count as f64, row.value)).collect()
}

/// Moves positions apart that are too close for names, and keeps their order.
fn apart(places: Vec<f64>) -> Vec<f64> {
    let mut order: Vec<usize> = (0..places.len()).collect();
    order.sort_by(|&a, &b| places[a].total_cmp(&places[b]));
    let mut moved = places;
    for pair in 1..order.len() {
        let above = moved[order[pair - 1]];
        let place = &mut moved[order[pair]];
        *place = place.max(above + LINE);
    }
    // Positions beyond the bottom move up, and push those above them.
    let mut below = BOTTOM + LINE;
    for &it in order.iter().rev() {
        moved[it] = moved[it].min(below - LINE);
        below = moved[it];
    }
    moved
}

fn millions(speed: f64) -> String {
    match speed {
        1e9.. => format!("{} G", speed / 1e9),
        1e6.. => format!("{} M", speed / 1e6),
        1e3.. => format!("{} k", speed / 1e3),
        _ => speed.to_string(),
    }
}
