//! `/console/jobs`: one field that finds jobs.
//!
//! What is typed is posted, because it may name a person: an address ends in the logs of every proxy. The answer leads to an address
//! that can be kept and shared: it has a seal in place of each person.

mod query;

use crate::{
    console::{
        error::{Answer, ConsoleError, html},
        fields::{Fields, link},
        form::VisitorForm,
        selection::fields_of,
        shell::{Place, Shell},
        state::ConsoleState,
        text::{clock, count_of, grouped, shown},
        visitor::Visitor,
    },
    contract::Status,
    operations::{
        NoProgress, age,
        jobs::{self, JobFilter, JobListRequest, JobSummary, ListCursor, Stage},
    },
};
use askama::Template;
use axum::{
    extract::{RawQuery, State},
    http::StatusCode,
    response::{IntoResponse, Redirect},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use query::Search;
use std::sync::Arc;

/// Jobs of one page.
const PAGE: usize = 50;
/// Maximum number of jobs that are read for one page.
const LOOK_AT_MOST: u64 = 20_000;

#[derive(Template)]
#[template(path = "jobs.html")]
struct JobsPage {
    shell: Shell,
    title: String,
    /// What was typed.
    q: String,
    rows: Vec<Row>,
    looked_at: String,
    took: String,
    /// The next page; empty: the search is complete.
    next: String,
    /// The fields of the selection that a cancellation would have; empty: none is offered.
    cancel: Vec<(&'static str, String)>,
    tokens: &'static [(&'static str, &'static str)],
}

struct Row {
    symbol: &'static str,
    tone: &'static str,
    state: &'static str,
    id: String,
    path: String,
    job_type: &'static str,
    lane: String,
    since: String,
    detail: String,
    batch: String,
}

impl Row {
    fn new(job: &JobSummary) -> Self {
        let (symbol, tone, state) = look_of(job.stage, job.status);
        Self {
            symbol,
            tone,
            state,
            id: shown(&job.id),
            path: path_of(&job.id),
            job_type: job.job_type.map_or("unknown type", crate::contract::JobType::as_str),
            lane: job.lane.map(|lane| lane.to_string()).unwrap_or_default(),
            since: job.since.clone(),
            detail: detail(job),
            batch: job.batch.as_deref().map(shown).unwrap_or_default(),
        }
    }

    fn clock(&self) -> &str {
        clock(&self.since)
    }

    fn day(&self) -> &str {
        self.since.get(..10).unwrap_or_default()
    }
}

/// What a job waits for, or how it ended, in a few words.
fn detail(job: &JobSummary) -> String {
    let mut parts = Vec::new();
    if let Some(reason) = job.waits_for {
        let until = job.until.as_deref().map_or(String::new(), |until| format!(" until {}", clock(until)));
        parts.push(format!("{}{until}", reason.as_str()));
    }
    if let Some(outcome) = &job.outcome {
        parts.push(shown(outcome));
    }
    if let Some(error) = job.error {
        parts.push(error.as_str().to_owned());
    }
    if let Some(attempts) = job.attempts {
        parts.push(count_of(attempts, "call", "calls"));
    }
    parts.join(" · ")
}

/// Symbol, colour and word of a state.
pub(in crate::console) fn look_of(stage: Stage, status: Option<Status>) -> (&'static str, &'static str, &'static str) {
    match (stage, status) {
        (Stage::Waiting, _) => ("waiting", "idle", "waiting"),
        (Stage::Running, _) => ("running", "wait", "in flight"),
        (Stage::Delayed, _) => ("delayed", "wait", "delayed"),
        (Stage::Ended, Some(Status::Succeeded)) => ("succeeded", "ok", "succeeded"),
        (Stage::Ended, Some(Status::Failed)) => ("failed", "bad", "failed"),
        (Stage::Ended, Some(Status::Expired)) => ("expired", "warn", "expired"),
        (Stage::Ended, Some(Status::Cancelled)) => ("cancelled", "idle", "cancelled"),
        (Stage::Ended, Some(Status::Rejected)) => ("rejected", "warn", "rejected"),
        (Stage::Ended, None) => ("succeeded", "idle", "ended"),
    }
}

/// The address of a job's page.
pub(in crate::console) fn path_of(id: &str) -> String {
    format!("/console/jobs/{}", utf8_percent_encode(id, NON_ALPHANUMERIC))
}

/// A search by its address.
pub(in crate::console) async fn page(
    State(state): State<Arc<ConsoleState>>,
    visitor: Visitor,
    RawQuery(query): RawQuery,
) -> Answer {
    let fields = Fields::parse(query.unwrap_or_default().as_bytes());
    let search = Search::parse(fields.get("q").unwrap_or_default(), &state.seals).map_err(ConsoleError::Invalid)?;
    if search.is_personal() {
        let text = "A person is searched with the field, not in an address".to_owned();
        return Err(ConsoleError::Invalid(text));
    }
    found(&state, &visitor, &search, &fields).await
}

/// What the field sends. The search gets an address of its own, without a person in it.
pub(in crate::console) async fn search(State(state): State<Arc<ConsoleState>>, form: VisitorForm) -> Answer {
    let typed = form.fields.get("q").unwrap_or_default();
    let search = Search::parse(typed, &state.seals).map_err(ConsoleError::Invalid)?;
    Ok(Redirect::to(&link(Place::Jobs.path(), &[("q", search.sealed())])).into_response())
}

async fn found(state: &ConsoleState, visitor: &Visitor, search: &Search, fields: &Fields) -> Answer {
    let cursor = fields.get("cursor").map(str::parse::<ListCursor>).transpose();
    let cursor = cursor.map_err(|_| ConsoleError::Invalid("this is no place in a search".to_owned()))?;
    let mut backend = state.shared.backend_for_scans();
    let began = tokio::time::Instant::now();
    let mut request = JobListRequest {
        filter: JobFilter { merchants: visitor.principal.merchants().clone(), ..search.filter() },
        limit: PAGE,
        look_at_most: LOOK_AT_MOST,
        cursor,
    };
    let mut list = jobs::list(&mut backend, &request, &NoProgress).await?;
    if let (true, Some(word)) = (list.jobs.is_empty() && list.complete, search.word()) {
        // The word is no job's id: it may be a customer's reference.
        request.filter.id = None;
        request.filter.customer = Some(word.to_owned());
        list = jobs::list(&mut backend, &request, &NoProgress).await?;
    }
    let count = u64::try_from(list.jobs.len()).unwrap_or(0);
    let title = match (count, list.complete) {
        (0, true) => format!("No job fits. {} looked at, and that is all there is.", grouped(list.looked_at)),
        (0, false) => format!("No job fits among the first {} looked at.", grouped(list.looked_at)),
        (count, true) => format!("{} here.", count_of(count, "job", "jobs")),
        (count, false) => format!("{}, and there may be more.", count_of(count, "job", "jobs")),
    };
    let cursor = list.cursor.map(|cursor| cursor.to_string()).unwrap_or_default();
    let q = search.text();
    let next =
        if cursor.is_empty() { String::new() } else { link(Place::Jobs.path(), &[("q", q), ("cursor", &cursor)]) };
    // A selection has no merchant.
    let may_cancel =
        !list.jobs.is_empty() && visitor.may_operate() && visitor.principal.require_all_merchants().is_ok();
    let cancel = search.selector().filter(|_| may_cancel).map(|jobs| fields_of(&jobs)).unwrap_or_default();
    let mut shell = Shell::new(state, visitor, Place::Jobs);
    shell.search = shown(q);
    let page = JobsPage {
        shell,
        title,
        q: shown(q),
        rows: list.jobs.iter().map(Row::new).collect(),
        looked_at: grouped(list.looked_at),
        took: age(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)),
        next,
        cancel,
        tokens: &query::TOKENS,
    };
    Ok(html(StatusCode::OK, &page))
}

/// A page with so many jobs, each with this text in every field.
#[cfg(test)]
pub(in crate::console) fn rendered(mut shell: Shell, text: &str, rows: usize) -> Result<String, askama::Error> {
    let job = JobSummary {
        id: text.to_owned(),
        stage: Stage::Delayed,
        job_type: None,
        lane: None,
        since: "2026-01-31T03:12:28.000Z".to_owned(),
        waits_for: None,
        until: None,
        status: None,
        outcome: Some(text.to_owned()),
        error: None,
        attempts: Some(2),
        batch: Some(text.to_owned()),
    };
    shell.search = shown(text);
    let page = JobsPage {
        shell,
        title: String::new(),
        q: shown(text),
        rows: (0..rows).map(|_| Row::new(&job)).collect(),
        looked_at: String::new(),
        took: String::new(),
        cancel: Vec::new(),
        next: link(Place::Jobs.path(), &[("q", text)]),
        tokens: &query::TOKENS,
    };
    page.render()
}
