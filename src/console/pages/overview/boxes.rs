//! The five boxes: people, bulk, delayed jobs, dead letters, XCO.

use crate::{
    console::text::grouped,
    contract::Lane,
    operations::{
        age,
        board::{Look, at_ms},
        status::LaneFigures,
        verdict::LATELY_MS,
    },
};
use askama::Template;

#[derive(Template)]
#[template(path = "parts/boxes.html")]
pub(super) struct BoxesPart {
    boxes: Vec<FigureBox>,
}

/// A box: a figure, and two or three lines about it.
struct FigureBox {
    name: &'static str,
    /// A link to the jobs that it counts; empty: none.
    href: &'static str,
    tone: &'static str,
    figure: String,
    unit: String,
    lines: Vec<String>,
}

pub(super) fn of(look: &Look) -> BoxesPart {
    BoxesPart { boxes: vec![people(look), bulk(look), delayed(look), dead(look), xco(look)] }
}

fn lane(look: &Look, lane: Lane) -> LaneFigures {
    look.snapshot.lanes.get(lane.as_str()).copied().unwrap_or_default()
}

fn lane_box(name: &'static str, figures: LaneFigures, href: &'static str) -> FigureBox {
    let oldest = if figures.waiting + figures.in_flight > 0 {
        format!("oldest {}", age(figures.oldest_ms))
    } else {
        "nothing to do".to_owned()
    };
    let mut lines = vec![format!("{} in flight", grouped(figures.in_flight)), oldest];
    if figures.paused {
        lines.push("paused".to_owned());
    }
    let tone = if figures.paused { "warn" } else { "" };
    let unit = if figures.waiting == 1 { "waits" } else { "wait" };
    FigureBox { name, href, tone, figure: grouped(figures.waiting), unit: unit.to_owned(), lines }
}

fn people(look: &Look) -> FigureBox {
    lane_box("People (interactive)", lane(look, Lane::Interactive), "/console/jobs?q=lane:interactive")
}

fn bulk(look: &Look) -> FigureBox {
    lane_box("Bulk", lane(look, Lane::Bulk), "/console/jobs?q=lane:bulk")
}

fn delayed(look: &Look) -> FigureBox {
    let delayed = &look.snapshot.delayed;
    let about = if delayed.exact { "" } else { "about " };
    let by_reason = delayed.by_reason.iter().filter(|(_, count)| **count > 0);
    let mut lines: Vec<_> =
        by_reason.map(|(reason, count)| format!("{} {about}{}", reason.as_str(), grouped(*count))).collect();
    if lines.is_empty() {
        lines.push("no job waits for a time".to_owned());
    }
    FigureBox {
        name: "Delayed",
        href: "/console/jobs?q=state:delayed",
        tone: "",
        figure: grouped(delayed.total),
        unit: "come back later".to_owned(),
        lines,
    }
}

fn dead(look: &Look) -> FigureBox {
    let dead = &look.snapshot.dead_letters;
    let now_ms = at_ms(&look.snapshot.at);
    let before = look.hour.iter().find(|point| now_ms.saturating_sub(point.at_ms) <= LATELY_MS);
    let more = before.map_or(0, |point| dead.total.saturating_sub(u64::from(point.dead_letters)));
    let mut kinds: Vec<_> = dead.by_kind.iter().collect();
    kinds.sort_by(|a, b| b.1.cmp(a.1));
    let mut lines = Vec::new();
    if more > 0 {
        lines.push(format!("+{} in 10 min", grouped(more)));
    }
    for (kind, count) in kinds.into_iter().take(2) {
        lines.push(format!("{} {}", crate::console::text::shown(kind), grouped(*count)));
    }
    if dead.looked_at < dead.total {
        lines.push(format!("of the last {}", grouped(dead.looked_at)));
    }
    if lines.is_empty() {
        lines.push("nothing failed for good".to_owned());
    }
    let tone = if more > 0 { "warn" } else { "" };
    FigureBox {
        name: "Dead letters",
        href: "/console/dead",
        tone,
        figure: grouped(dead.total),
        unit: "kept".to_owned(),
        lines,
    }
}

fn xco(look: &Look) -> FigureBox {
    let breaker = &look.snapshot.breaker;
    let workers = look.snapshot.workers.iter().filter(|worker| !worker.is_silent());
    let (mut calls, mut failed) = (0, 0);
    for worker in workers {
        calls += worker.heartbeat.calls_last_minute;
        failed += worker.heartbeat.failures_last_minute;
    }
    let mut lines = Vec::new();
    let failures = format!("{} failed", grouped(failed));
    let tone = if breaker.open {
        let again = breaker.open_for_ms.map_or_else(String::new, |ms| format!(", again in {}", age(ms)));
        lines.extend([format!("breaker open{again}"), failures]);
        "bad"
    } else if !breaker.routes.is_empty() {
        lines.push(failures);
        "bad"
    } else if failed > 0 {
        // The first line has the colour of the box.
        lines.extend([failures, "breaker closed".to_owned()]);
        "warn"
    } else {
        lines.extend(["breaker closed".to_owned(), failures]);
        ""
    };
    for (route, state) in &breaker.routes {
        let state =
            state.open_for_ms.map_or_else(|| "tried one at a time".to_owned(), |ms| format!("open {}", age(ms)));
        lines.push(format!("{route}: {state}"));
    }
    let since = look.hour.iter().rev().find_map(|point| point.since.as_ref());
    if let Some(since) = since {
        let p95 = |name: &str, ms: Option<u64>| ms.map(|ms| format!("{name} {}", age(ms)));
        let people = p95("people", since.people.map(|people| people.p95_ms));
        let xco = p95("XCO", since.xco.map(|xco| xco.p95_ms));
        let both: Vec<_> = [people, xco].into_iter().flatten().collect();
        if !both.is_empty() {
            lines.push(format!("p95: {}", both.join(", ")));
        }
    }
    FigureBox { name: "XCO", href: "#workers", tone, figure: grouped(calls), unit: "calls/min".to_owned(), lines }
}
