//! `/console`: how the queue is, in one sentence and five boxes.

use crate::{
    console::{
        error::{Answer, html},
        fields::{Fields, link},
        shell::{Part, Place, Shell},
        sight::Sight,
        state::ConsoleState,
        visitor::Visitor,
    },
    operations::{
        board::Look,
        history::{self, Point, Range},
        verdict::{self, Severity},
    },
};
use askama::Template;
use axum::{
    extract::{RawQuery, State},
    http::StatusCode,
};
use std::sync::Arc;

mod boxes;
mod charts;
mod rest;

/// Seconds after which the page asks for itself again, where there is no script.
const REFRESH_S: u32 = 30;

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    shell: Shell,
    title: String,
    parts: Vec<Part>,
    charts: Vec<Part>,
    below: Vec<Part>,
    /// The range of the charts, by its name in the address.
    range: &'static str,
    ranges: [(&'static str, &'static str); 3],
}

#[derive(Template)]
#[template(path = "parts/verdict.html")]
struct VerdictPart<'a> {
    tone: &'static str,
    sentence: String,
    advice: &'a str,
    link: &'static str,
    link_text: &'static str,
}

const RANGES: [(&str, &str, Range); 3] =
    [("1h", "1 h", Range::Hour), ("12h", "12 h", Range::HalfDay), ("7d", "7 d", Range::Week)];

/// The page.
pub(in crate::console) async fn page(
    State(state): State<Arc<ConsoleState>>,
    visitor: Visitor,
    RawQuery(query): RawQuery,
) -> Answer {
    visitor.principal.require_all_merchants()?;
    let fields = Fields::parse(query.unwrap_or_default().as_bytes());
    let wanted = fields.get("range").unwrap_or("1h");
    let (name, _, range) = RANGES.into_iter().find(|(name, ..)| *name == wanted).unwrap_or(RANGES[0]);
    let look = state.look().await?;
    let charts = if range == Range::Hour {
        charts_of_hour(&look)?
    } else {
        let points = history::read(&mut state.shared.backend(), range).await?;
        chart_parts(&points, range)?
    };
    let mut shell = Shell::new(&state, &visitor, Place::Overview)
        .at(&look.snapshot.at)
        .live(link("/console/live", &[("page", "overview"), ("range", name)]));
    shell.refresh_s = REFRESH_S;
    let page = OverviewPage { charts, range: name, ..OverviewPage::new(shell, &look, Sight::of(&visitor))? };
    Ok(html(StatusCode::OK, &page))
}

impl OverviewPage {
    /// The page with the charts of the last hour.
    fn new(shell: Shell, look: &Look, sight: Sight) -> Result<Self, askama::Error> {
        Ok(Self {
            shell,
            title: crate::console::text::shown(look.verdict.sentence.trim_end_matches('.')),
            parts: parts(look)?,
            charts: charts_of_hour(look)?,
            below: below(look, sight)?,
            range: RANGES[0].0,
            ranges: RANGES.map(|(name, label, _)| (name, label)),
        })
    }
}

/// The page of this look.
#[cfg(test)]
pub(in crate::console) fn rendered(shell: Shell, look: &Look, sight: Sight) -> Result<String, askama::Error> {
    OverviewPage::new(shell, look, sight)?.render()
}

/// The first parts of the page, in the order in which they stand there.
pub(in crate::console) fn parts(look: &Look) -> Result<Vec<Part>, askama::Error> {
    Ok(vec![
        Part { id: "verdict", html: verdict(look).render()? },
        Part { id: "boxes", html: boxes::of(look).render()? },
    ])
}

/// The charts of the last hour.
pub(in crate::console) fn charts_of_hour(look: &Look) -> Result<Vec<Part>, askama::Error> {
    chart_parts(&look.hour, Range::Hour)
}

/// The parts below the charts.
pub(in crate::console) fn below(look: &Look, sight: Sight) -> Result<Vec<Part>, askama::Error> {
    Ok(vec![
        Part { id: "rules", html: rest::rules(look, sight).render()? },
        Part { id: "workers", html: rest::workers(look).render()? },
    ])
}

/// The verdict while Redis cannot be reached.
pub(in crate::console) fn verdict_without_redis(reason: &str) -> Result<Part, askama::Error> {
    let verdict = verdict::without_redis(reason);
    let sentence = crate::console::text::shown(&verdict.sentence);
    let part = VerdictPart { tone: "bad", sentence, advice: verdict.advice, link: "", link_text: "" };
    Ok(Part { id: "verdict", html: part.render()? })
}

fn chart_parts(points: &[Point], range: Range) -> Result<Vec<Part>, askama::Error> {
    charts::charts(points, range).iter().map(|chart| Ok(Part { id: chart.id, html: chart.render()? })).collect()
}

fn verdict(look: &Look) -> VerdictPart<'_> {
    use crate::operations::verdict::Page;
    let verdict = &look.verdict;
    let (link, link_text) = match verdict.link {
        None => ("", ""),
        Some(Page::Jobs) => ("/console/jobs?q=state:waiting", "The jobs that wait"),
        Some(Page::DeadLetters) => (Place::Dead.path(), "The dead letters"),
        Some(Page::Rules) => (Place::Rules.path(), "The rules"),
        Some(Page::Workers) => ("#workers", "The workers"),
    };
    VerdictPart {
        tone: tone(verdict.severity),
        sentence: crate::console::text::shown(&verdict.sentence),
        advice: verdict.advice,
        link,
        link_text,
    }
}

const fn tone(severity: Severity) -> &'static str {
    match severity {
        Severity::Ok => "ok",
        Severity::Warn => "warn",
        Severity::Bad => "bad",
    }
}
