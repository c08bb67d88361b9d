//! Accounts disclosed over simulated time, as one SVG or HTML file that needs no other.

use std::fmt::Write;

use super::engine::Run;
use super::report::short;
use super::scenario::Scenario;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 470.0;
const LEFT: f64 = 70.0;
/// Where the curves end and their names begin.
const RIGHT: f64 = 690.0;
const TOP: f64 = 70.0;
const BOTTOM: f64 = 420.0;
/// Least distance of two names.
const LABEL_GAP: f64 = 17.0;
/// The axis has at most so many powers of ten.
const DECADES: u32 = 6;

/// The colour of a protection.
fn colour(protection: &str) -> &'static str {
    match protection {
        "none" => "#111827",
        "signal" => "#c2410c",
        "default" => "#7c3aed",
        "strict" => "#047857",
        "messenger" => "#1d4ed8",
        _ => "#be185d",
    }
}

/// The plane of the curves: days to the right, powers of ten upwards.
struct Plane {
    days: u64,
    least: u32,
    most: u32,
}

impl Plane {
    fn of(days: u64, runs: &[Run]) -> Self {
        let most = runs.iter().map(Run::total).max().unwrap_or_default().max(10);
        // The power of ten that is not below it.
        let most = most.ilog10() + u32::from(!most.is_power_of_ten());
        Self { days, least: most.saturating_sub(DECADES), most }
    }

    fn x(&self, day: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * day / self.days as f64
    }

    fn y(&self, count: u64) -> f64 {
        let height = (count.max(1) as f64).log10().max(f64::from(self.least)) - f64::from(self.least);
        BOTTOM - (BOTTOM - TOP) * height / f64::from(self.most - self.least)
    }
}

trait PowerOfTen {
    fn is_power_of_ten(self) -> bool;
}

impl PowerOfTen for u64 {
    fn is_power_of_ten(self) -> bool {
        self > 0 && 10_u64.checked_pow(self.ilog10()) == Some(self)
    }
}

/// The plot as SVG.
pub fn svg(scenario: &Scenario, runs: &[Run]) -> String {
    let plane = Plane::of(scenario.days, runs);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
         height=\"{HEIGHT}\" font-family=\"system-ui, sans-serif\" font-size=\"13\" role=\"img\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    let title = format!("{}: accounts disclosed", scenario.name);
    text(&mut svg, (LEFT, 28.0), "font-size=\"18\" font-weight=\"600\" fill=\"#111827\"", &title);
    text(&mut svg, (LEFT, 50.0), "fill=\"#4b5563\"", scenario.what);
    axes(&mut svg, &plane);
    for run in runs {
        curve(&mut svg, &plane, run);
    }
    labels(&mut svg, &plane, runs);
    svg.push_str("</svg>\n");
    svg
}

/// The plot in a page, with the table.
pub fn html(scenario: &Scenario, runs: &[Run], table: &[String]) -> String {
    let (svg, table) = (svg(scenario, runs), escaped(&table.join("\n")));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{}</title>\n<body \
         style=\"margin:2em;background:#fff;color:#111827\">\n{svg}<pre>{table}</pre>\n</body>\n</html>\n",
        scenario.name
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn text(svg: &mut String, (x, y): (f64, f64), style: &str, content: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{}</text>", escaped(content));
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64), colour: &str) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let ends = format!("x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"");
    let _ = writeln!(svg, "<line {ends} stroke=\"{colour}\"/>");
}

fn axes(svg: &mut String, plane: &Plane) {
    for power in plane.least..=plane.most {
        let count = 10_u64.saturating_pow(power);
        let y = plane.y(count);
        line(svg, (LEFT, y), (RIGHT, y), "#e5e7eb");
        let name = short(count).replace(".00", "").replace(".0", "");
        text(svg, (LEFT - 8.0, y + 4.0), "text-anchor=\"end\" fill=\"#4b5563\"", &name);
    }
    let step = plane.days.div_ceil(6).max(1);
    for day in (0..=plane.days).step_by(step as usize) {
        let x = plane.x(day as f64);
        line(svg, (x, BOTTOM), (x, BOTTOM + 5.0), "#9ca3af");
        text(svg, (x, BOTTOM + 20.0), "text-anchor=\"middle\" fill=\"#4b5563\"", &day.to_string());
    }
    line(svg, (LEFT, BOTTOM), (RIGHT, BOTTOM), "#9ca3af");
    let middle = (LEFT + RIGHT) / 2.0;
    text(svg, (middle, BOTTOM + 40.0), "text-anchor=\"middle\" fill=\"#4b5563\"", "days of simulated time");
}

/// A point for every few hours, from the first disclosure on.
fn curve(svg: &mut String, plane: &Plane, run: &Run) {
    let every = (run.disclosed.len() / 180).max(1);
    let last = run.disclosed.len().saturating_sub(1);
    let mut points = String::new();
    for (hour, disclosed) in run.disclosed.iter().enumerate() {
        let is_first = points.is_empty();
        if *disclosed > 0 && (is_first || hour % every == 0 || hour == last) {
            let (x, y) = (plane.x((hour + 1) as f64 / 24.0), plane.y(*disclosed));
            let _ = write!(points, "{x:.1},{y:.1} ");
        }
    }
    let (points, colour) = (points.trim_end(), colour(run.plan.protection));
    let style = "fill=\"none\" stroke-width=\"2\" stroke-linejoin=\"round\"";
    let _ = writeln!(svg, "<polyline points=\"{points}\" stroke=\"{colour}\" {style}/>");
}

/// The name and the end of each curve, moved apart where they would meet.
fn labels(svg: &mut String, plane: &Plane, runs: &[Run]) {
    let mut ends: Vec<(f64, &Run)> = runs.iter().map(|run| (plane.y(run.total()), run)).collect();
    ends.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    // Upwards from below, so that none leaves the plot at its foot.
    let mut limit = BOTTOM + LABEL_GAP;
    let mut places = Vec::with_capacity(ends.len());
    for (end, run) in ends.iter().rev() {
        limit = end.min(limit - LABEL_GAP);
        places.push((limit, *end, *run));
    }
    for (place, end, run) in places {
        let colour = colour(run.plan.protection);
        line(svg, (RIGHT, end), (RIGHT + 10.0, place), colour);
        let name = format!("{} {}", run.plan.protection, short(run.total()));
        text(svg, (RIGHT + 14.0, place + 4.0), &format!("fill=\"{colour}\" font-weight=\"600\""), &name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plane_holds_what_is_drawn() {
        let plane = Plane { days: 60, least: 2, most: 8 };
        assert_eq!((plane.x(0.0), plane.x(60.0)), (LEFT, RIGHT));
        assert_eq!((plane.y(100_000_000), plane.y(100), plane.y(0)), (TOP, BOTTOM, BOTTOM));
        assert_eq!((plane.y(10), escaped("< 1 & 2")), (BOTTOM, "&lt; 1 &amp; 2".to_owned()));
        assert!(10_000_u64.is_power_of_ten() && !17_000_000_u64.is_power_of_ten() && 1_u64.is_power_of_ten());
    }
}
