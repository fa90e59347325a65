//! `/console/dead/runs`: replays and discards of a week, and how far one is.

use super::planned::verb;
use crate::{
    config::parse_rate,
    console::{
        error::{Answer, ConsoleError, html},
        fields::link,
        form::OperatorForm,
        shell::{Part, Place, Shell},
        sight::Sight,
        state::ConsoleState,
        text::{clock, count_of, grouped, shown},
        visitor::Visitor,
    },
    operations::{
        age,
        dead_letters::runs::{self, RunCounts, RunName, RunReport, RunState, StartRequest, Work},
    },
};
use askama::Template;
use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Redirect},
};
use std::sync::Arc;

/// Runs of the page.
const PAGE: usize = 50;
/// Without the script, a run's page asks for itself again after this time, in seconds.
const AGAIN_S: u32 = 3;

#[derive(Template)]
#[template(path = "dead/runs.html")]
struct RunsPage {
    shell: Shell,
    title: String,
    rows: Vec<RunRow>,
}

#[derive(Template)]
#[template(path = "dead/run.html")]
struct RunPage {
    shell: Shell,
    title: String,
    parts: Vec<Part>,
}

/// How far the run is.
#[derive(Template)]
#[template(path = "parts/run.html")]
struct RunPart<'a> {
    row: &'a RunRow,
    title: &'a str,
    of: u64,
    /// How long it still takes; empty: it is not known.
    left: String,
}

/// What can be done with the run.
#[derive(Template)]
#[template(path = "parts/run_actions.html")]
struct ActionsPart<'a> {
    row: &'a RunRow,
    csrf: &'a str,
    may_stop: bool,
    may_continue: bool,
}

/// How its jobs ended, and what it was asked to do.
#[derive(Template)]
#[template(path = "parts/run_facts.html")]
struct FactsPart {
    facts: Vec<(&'static str, String)>,
    outcomes: Vec<(String, String)>,
}

/// A run in short.
struct RunRow {
    name: String,
    started_at: String,
    verb: &'static str,
    by: String,
    filter: String,
    done: u64,
    of: String,
    state: &'static str,
    tone: &'static str,
    symbol: &'static str,
}

impl RunRow {
    fn new(report: &RunReport, sight: Sight) -> Self {
        let (tone, symbol) = match report.state {
            RunState::Running => ("wait", "running"),
            RunState::Done => ("ok", "succeeded"),
            RunState::Stopped => ("idle", "cancelled"),
            RunState::Interrupted => ("warn", "warn"),
        };
        let filter = sight.audited(&report.filter);
        Self {
            name: shown(&report.run),
            started_at: shown(&report.started_at),
            verb: verb(report.kind),
            by: shown(&report.by),
            filter: if filter.is_empty() { "all dead letters".to_owned() } else { filter },
            done: done(report),
            of: grouped(report.of),
            state: report.state.as_str(),
            tone,
            symbol,
        }
    }

    fn figure(&self) -> String {
        grouped(self.done)
    }

    fn day(&self) -> &str {
        self.started_at.get(..10).unwrap_or_default()
    }

    fn clock(&self) -> &str {
        clock(&self.started_at)
    }
}

/// How many dead letters were moved or removed.
fn done(report: &RunReport) -> u64 {
    match report.counts {
        RunCounts::Replay { replayed, .. } => replayed,
        RunCounts::Discard { discarded } => discarded,
    }
}

/// The runs of a week.
pub(in crate::console) async fn list(State(state): State<Arc<ConsoleState>>, visitor: Visitor) -> Answer {
    let reports = runs::list(&mut state.shared.backend(), None, visitor.principal.merchants(), PAGE).await?;
    let sight = Sight::of(&visitor);
    let running = reports.iter().filter(|report| report.state == RunState::Running).count();
    let running = u64::try_from(running).unwrap_or(0);
    let title = match (reports.is_empty(), running) {
        (true, _) => {
            "No replay or discard was started here or over HTTP within a week. The audit has those of the command line."
                .to_owned()
        }
        (false, 0) => "No replay or discard goes on.".to_owned(),
        (false, running) => format!("{} on.", count_of(running, "run goes", "runs go")),
    };
    let rows = reports.iter().map(|report| RunRow::new(report, sight)).collect();
    let page = RunsPage { shell: Shell::new(&state, &visitor, Place::Dead), title, rows };
    Ok(html(StatusCode::OK, &page))
}

/// How far a run is.
pub(in crate::console) async fn one(
    State(state): State<Arc<ConsoleState>>,
    visitor: Visitor,
    Path(run): Path<String>,
) -> Answer {
    let name = name_of(&run)?;
    let report = runs::get(&mut state.shared.backend(), &name, visitor.principal.merchants()).await?;
    let row = RunRow::new(&report, Sight::of(&visitor));
    let mut shell = Shell::new(&state, &visitor, Place::Dead).at(&report.updated_at);
    if goes_on(&report) {
        shell.refresh_s = AGAIN_S;
        shell = shell.live(link("/console/live", &[("page", "run"), ("id", name.as_str())]));
    }
    let page = RunPage { shell, title: title_of(&report, &row), parts: parts(&report, &visitor)? };
    Ok(html(StatusCode::OK, &page))
}

/// Whether figures of a run still change.
fn goes_on(report: &RunReport) -> bool {
    matches!(report.state, RunState::Running | RunState::Interrupted) || outstanding(report) > 0
}

/// The parts that change, the time of their figures, and whether they change no more.
pub(in crate::console) async fn live_parts(
    state: &ConsoleState,
    visitor: &Visitor,
    name: &RunName,
) -> Result<(Vec<Part>, String, bool), ConsoleError> {
    let report = runs::get(&mut state.shared.backend(), name, visitor.principal.merchants()).await?;
    Ok((parts(&report, visitor)?, jiff::Timestamp::now().to_string(), !goes_on(&report)))
}

fn parts(report: &RunReport, visitor: &Visitor) -> Result<Vec<Part>, askama::Error> {
    let row = RunRow::new(report, Sight::of(visitor));
    let (title, may_operate) = (title_of(report, &row), visitor.may_operate());
    let left = if report.state == RunState::Running { left(report) } else { String::new() };
    let run = RunPart { title: &title, of: report.of, left, row: &row };
    let actions = ActionsPart {
        csrf: &visitor.csrf,
        may_stop: may_operate && matches!(report.state, RunState::Running | RunState::Interrupted),
        may_continue: may_operate && report.state == RunState::Interrupted,
        row: &row,
    };
    let facts = FactsPart { facts: facts(report, &row), outcomes: outcomes(report) };
    Ok(vec![
        Part { id: "run", html: run.render()? },
        Part { id: "run-actions", html: actions.render()? },
        Part { id: "run-facts", html: facts.render()? },
    ])
}

fn title_of(report: &RunReport, row: &RunRow) -> String {
    let moved = match report.counts {
        RunCounts::Replay { .. } => "moved",
        RunCounts::Discard { .. } => "removed",
    };
    let so_far = format!("{} of {} {moved}", row.figure(), row.of);
    match report.state {
        RunState::Running if report.stopped_by.is_some() => format!("{} stops: {so_far}.", row.verb),
        RunState::Running => format!("{} goes on: {so_far}.", row.verb),
        RunState::Done => format!("{} is done: {so_far}.", row.verb),
        RunState::Stopped => format!("{} was stopped: {so_far}.", row.verb),
        RunState::Interrupted => format!("{} was interrupted: {so_far}. It can be continued.", row.verb),
    }
}

/// At its rate.
fn left(report: &RunReport) -> String {
    let Some(rate) = report.rate.as_deref().and_then(|rate| parse_rate(rate).ok()) else { return String::new() };
    let rest = report.of.saturating_sub(done(report));
    format!("At its rate, {} are left.", age(rest.saturating_mul(rate.interval_us) / 1_000))
}

fn outstanding(report: &RunReport) -> u64 {
    match report.counts {
        RunCounts::Replay { outstanding, .. } => outstanding,
        RunCounts::Discard { .. } => 0,
    }
}

fn outcomes(report: &RunReport) -> Vec<(String, String)> {
    match &report.counts {
        RunCounts::Replay { outcomes, .. } => {
            outcomes.iter().map(|(outcome, count)| (shown(outcome), grouped(*count))).collect()
        }
        RunCounts::Discard { .. } => Vec::new(),
    }
}

fn facts(report: &RunReport, row: &RunRow) -> Vec<(&'static str, String)> {
    let text = |text: &Option<String>| text.as_deref().map(shown).unwrap_or_default();
    let mut facts = vec![
        ("By", row.by.clone()),
        ("Selected", row.filter.clone()),
        ("Written up to", shown(&report.up_to)),
        ("Rate", text(&report.rate)),
        ("Began", row.started_at.clone()),
        ("Ended", text(&report.ended_at)),
        ("Stopped by", text(&report.stopped_by)),
        ("Problem", text(&report.problem)),
    ];
    if let RunCounts::Replay { gone, superseded, outstanding, .. } = report.counts {
        let some = |count: u64, one: &str, many: &str| match count {
            0 => String::new(),
            count => count_of(count, one, many),
        };
        facts.push(("Under way", some(outstanding, "job has not ended", "jobs have not ended")));
        facts.push(("Gone", some(gone, "was not there any more", "were not there any more")));
        let stays = "stays: its id belongs to another job by now";
        facts.push(("Not moved", some(superseded, stays, "stay: their ids belong to other jobs by now")));
    }
    facts.retain(|(_, text)| !text.is_empty());
    facts
}

/// Stops a run, within about a second.
pub(in crate::console) async fn stop(
    State(state): State<Arc<ConsoleState>>,
    Path(run): Path<String>,
    OperatorForm { visitor, .. }: OperatorForm,
) -> Answer {
    let name = name_of(&run)?;
    runs::stop(&mut state.shared.backend(), &visitor.principal.actor(), &name, visitor.principal.merchants()).await?;
    Ok(Redirect::to(&address(&name)).into_response())
}

/// Continues an interrupted run, under its name.
pub(in crate::console) async fn go_on(
    State(state): State<Arc<ConsoleState>>,
    Path(run): Path<String>,
    OperatorForm { visitor, .. }: OperatorForm,
) -> Answer {
    let name = name_of(&run)?;
    let mut backend = state.shared.backend_for_scans();
    let kind = runs::get(&mut backend, &name, visitor.principal.merchants()).await?.kind;
    let to = address(&name);
    let request =
        StartRequest { work: Work::Rest(kind), name: Some(name), merchants: visitor.principal.merchants().clone() };
    state.runs.start(&mut backend, &visitor.principal.actor(), request).await?;
    Ok(Redirect::to(&to).into_response())
}

fn address(name: &RunName) -> String {
    format!("/console/dead/runs/{name}")
}

pub(in crate::console) fn name_of(run: &str) -> Result<RunName, ConsoleError> {
    run.parse().map_err(|_| ConsoleError::NotFound("no run has this name".to_owned()))
}
