//! Charts of the history, as SVG from the server: one path a series, and the same figures as a table.

use crate::{
    console::text::{clock, grouped},
    contract::format_ms,
    operations::{
        age,
        history::{Point, Range},
    },
};
use askama::Template;
use std::fmt::Write;

/// Maximum number of points of a path.
const POINTS: usize = 120;
const WIDTH: usize = 240;
const HEIGHT: f64 = 72.0;
/// Rows of the table under a chart.
const NUMBERS: usize = 12;

#[derive(Template)]
#[template(path = "parts/chart.html")]
pub(super) struct Chart {
    pub(super) id: &'static str,
    title: &'static str,
    /// The chart in words.
    words: String,
    series: Vec<Series>,
    highest: String,
    first: String,
    last: String,
    rows: Vec<(String, Vec<String>)>,
}

struct Series {
    name: &'static str,
    /// How the line is drawn: `a` full, `b` dashed, `c` dotted.
    class: &'static str,
    path: String,
    now: String,
}

/// What a chart shows of a point. `None`: it is not known.
type Value = fn(&Point) -> Option<f64>;

struct Plan {
    id: &'static str,
    title: &'static str,
    series: &'static [(&'static str, Value)],
    /// How a value is written.
    text: fn(f64) -> String,
    is_logarithmic: bool,
}

const PLANS: [Plan; 4] = [
    Plan {
        id: "chart-waiting",
        title: "Waiting",
        series: &[("people", |p| waiting(p, "interactive")), ("bulk", |p| waiting(p, "bulk"))],
        text: count,
        is_logarithmic: false,
    },
    Plan {
        id: "chart-ended",
        title: "Ended a second",
        series: &[("all", |p| ended(p, None)), ("failed", |p| ended(p, Some("failed")))],
        text: crate::console::text::rate,
        is_logarithmic: false,
    },
    Plan {
        id: "chart-latency",
        title: "Waiting time of people (log)",
        series: &[
            ("p50", |p| quantile(p).map(|q| q.0)),
            ("p95", |p| quantile(p).map(|q| q.1)),
            ("oldest waiting", |p| p.lanes.get("interactive").map(|lane| f64::from(lane.oldest_ms))),
        ],
        text: milliseconds,
        is_logarithmic: true,
    },
    Plan {
        id: "chart-calls",
        title: "Calls a minute",
        series: &[
            ("all", |p| Some(f64::from(p.calls_last_minute))),
            ("failed", |p| Some(f64::from(p.failures_last_minute))),
        ],
        text: count,
        is_logarithmic: false,
    },
];

fn waiting(point: &Point, lane: &str) -> Option<f64> {
    point.lanes.get(lane).map(|lane| f64::from(lane.waiting))
}

fn ended(point: &Point, status: Option<&str>) -> Option<f64> {
    let ended = &point.since.as_ref()?.ended_per_second;
    Some(match status {
        Some(status) => ended.get(status).copied().unwrap_or(0.0),
        None => ended.values().sum(),
    })
}

/// The two quantiles of how long people waited, in milliseconds.
fn quantile(point: &Point) -> Option<(f64, f64)> {
    let people = point.since.as_ref()?.people?;
    let float = |ms: u64| f64::from(u32::try_from(ms).unwrap_or(u32::MAX));
    Some((float(people.p50_ms), float(people.p95_ms)))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Not negative, and far below 2^53.
fn count(value: f64) -> String {
    grouped(value.max(0.0).round() as u64)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Not negative, and far below 2^53.
fn milliseconds(value: f64) -> String {
    age(value.max(0.0).round() as u64)
}

/// The four charts of a range, whose points are in order of time.
pub(super) fn charts(points: &[Point], range: Range) -> Vec<Chart> {
    PLANS.iter().map(|plan| chart(plan, points, range)).collect()
}

/// The time that one of the [`POINTS`] stands for, in milliseconds.
const fn span_ms(range: Range) -> u64 {
    let steps = match range {
        Range::Hour => 3,
        Range::HalfDay => 6,
        Range::Week => 9,
    };
    steps * range.step_ms()
}

/// The points in at most [`POINTS`] equal spans of time. A span without a point stays empty: it is a gap.
fn spans(points: &[Point], range: Range) -> Vec<Vec<&Point>> {
    let per_span = span_ms(range);
    let mut spans = vec![Vec::new(); POINTS];
    let Some(last) = points.last() else { return spans };
    for point in points {
        let back = usize::try_from((last.at_ms - point.at_ms.min(last.at_ms)) / per_span).unwrap_or(POINTS);
        if let Some(span) = POINTS.checked_sub(back + 1).and_then(|at| spans.get_mut(at)) {
            span.push(point);
        }
    }
    spans
}

fn chart(plan: &Plan, points: &[Point], range: Range) -> Chart {
    let spans = spans(points, range);
    let values: Vec<Vec<Option<f64>>> = plan
        .series
        .iter()
        .map(|(_, value)| spans.iter().map(|span| span.iter().filter_map(|p| value(p)).reduce(f64::max)).collect())
        .collect();
    let highest = values.iter().flatten().flatten().copied().fold(0.0, f64::max);
    let scale = |value: f64| if plan.is_logarithmic { (value + 1.0).ln() } else { value };
    let top = scale(highest).max(f64::MIN_POSITIVE);
    let series: Vec<_> = plan
        .series
        .iter()
        .zip(&values)
        .zip(["a", "b", "c"])
        .map(|(((name, _), values), class)| Series {
            name,
            class,
            path: path(values, |value| HEIGHT - scale(value) / top * HEIGHT),
            now: values
                .iter()
                .rev()
                .flatten()
                .next()
                .map_or_else(|| "not known".to_owned(), |value| (plan.text)(*value)),
        })
        .collect();
    let words: Vec<_> = series.iter().map(|series| format!("{}: {} now", series.name, series.now)).collect();
    let every = (POINTS / NUMBERS).max(1);
    let known = spans.iter().enumerate().skip(every - 1).step_by(every).filter(|(_, span)| !span.is_empty());
    let rows = known.map(|(at, span)| {
        let values = values.iter().map(|values| values[at].map_or_else(|| "–".to_owned(), plan.text));
        (span.first().map_or("", |point| clock(&point.at)).to_owned(), values.collect())
    });
    let ends = ends(points, range);
    Chart {
        id: plan.id,
        title: plan.title,
        words: format!("{}; highest {}.", words.join(", "), (plan.text)(highest)),
        highest: (plan.text)(highest),
        first: ends.0,
        last: ends.1,
        rows: rows.collect(),
        series,
    }
}

/// When a chart begins and ends. A week needs its days.
fn ends(points: &[Point], range: Range) -> (String, String) {
    let text = |at: &str| match range {
        Range::Week => at.get(5..16).unwrap_or_default().replace('T', " "),
        Range::Hour | Range::HalfDay => clock(at).to_owned(),
    };
    let Some(last) = points.last() else { return <(String, String)>::default() };
    let spans = u64::try_from(POINTS - 1).unwrap_or(0);
    (text(&format_ms(last.at_ms.saturating_sub(spans * span_ms(range)))), text(&last.at))
}

/// The line through the values that are known. It is broken at a gap.
fn path(values: &[Option<f64>], y: impl Fn(f64) -> f64) -> String {
    let mut path = String::new();
    let mut is_open = false;
    for (at, value) in values.iter().enumerate() {
        let Some(value) = value else {
            is_open = false;
            continue;
        };
        let (command, x) = (if is_open { 'L' } else { 'M' }, at * WIDTH / (POINTS - 1));
        // Writing to a string cannot fail. A point of its own is drawn as a short line.
        let _ = write!(path, "{command}{x} {:.0}", y(*value));
        if !is_open {
            path.push_str("h1");
        }
        is_open = true;
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_breaks_the_line() {
        let mut values = vec![None; POINTS];
        assert_eq!(path(&values, |value| value), "");
        (values[0], values[1], values[119]) = (Some(1.0), Some(2.0), Some(3.0));
        assert_eq!(path(&values, |value| value), "M0 1h1L2 2M240 3h1");
        let long = path(&vec![Some(72.0); POINTS], |value| value);
        assert!(long.len() < 1_024, "{}", long.len());
    }
}
