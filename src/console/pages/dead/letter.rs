//! `/console/dead/letter`: one job's dead letters and edits, masked unless somebody gives a reason.

use crate::{
    console::{
        error::{Answer, ConsoleError, html},
        fields::{Fields, link},
        form::OperatorForm,
        pages::jobs::path_of,
        shell::{Place, Shell},
        state::ConsoleState,
        text::{clock, count_of, shown, shown_json},
        visitor::Visitor,
    },
    operations::dead_letters::{self, DeadLetterDetails, EditDetails, Reveal, ShowReport, ShowRequest},
};
use askama::Template;
use axum::{
    extract::{RawQuery, State},
    http::{StatusCode, header},
};
use std::sync::Arc;

/// Personal data is masked again after this time, in seconds.
const SHOWN_S: u32 = 300;

#[derive(Template)]
#[template(path = "dead/letter.html")]
struct LetterPage {
    shell: Shell,
    title: String,
    id: String,
    /// The same page without personal data.
    masked: String,
    /// The page of the job.
    job: String,
    may_operate: bool,
    is_revealed: bool,
    letters: Vec<Letter>,
    edits: Vec<Edit>,
}

struct Letter {
    at: String,
    job_type: String,
    replayed: String,
    is_replayable: bool,
    parent: String,
    /// The page of the parent.
    parent_path: String,
    job: String,
    error: String,
    attempts: String,
}

struct Edit {
    at: String,
    by: String,
    before: String,
    after: String,
}

impl Letter {
    fn new(letter: &DeadLetterDetails) -> Self {
        Self {
            at: shown(&letter.at),
            job_type: shown(&letter.job_type),
            replayed: count_of(letter.replay.into(), "time", "times"),
            is_replayable: letter.replayable,
            parent_path: letter.parent_id.as_deref().map(path_of).unwrap_or_default(),
            parent: letter.parent_id.as_deref().map(shown).unwrap_or_default(),
            job: shown_json(&letter.job),
            error: shown_json(&letter.error),
            attempts: if letter.history.is_empty() {
                String::new()
            } else {
                serde_json::to_value(&letter.history).map(|history| shown_json(&history)).unwrap_or_default()
            },
        }
    }

    fn clock(&self) -> &str {
        clock(&self.at)
    }

    fn day(&self) -> &str {
        self.at.get(..10).unwrap_or_default()
    }
}

impl Edit {
    fn new(edit: &EditDetails) -> Self {
        Self {
            at: shown(&edit.edited_at),
            by: shown(&edit.by),
            before: shown_json(&edit.original),
            after: shown_json(&edit.job),
        }
    }
}

/// The dead letters of the job that `id` names.
pub(in crate::console) async fn page(
    State(state): State<Arc<ConsoleState>>,
    visitor: Visitor,
    RawQuery(query): RawQuery,
) -> Answer {
    let fields = Fields::parse(query.unwrap_or_default().as_bytes());
    show(&state, &visitor, &fields, Reveal::Masked).await
}

/// The same with personal data, which is recorded with the reason.
pub(in crate::console) async fn reveal(
    State(state): State<Arc<ConsoleState>>,
    OperatorForm { visitor, fields }: OperatorForm,
) -> Answer {
    let reason = fields.get("reason").unwrap_or_default().parse().map_err(ConsoleError::Invalid)?;
    show(&state, &visitor, &fields, Reveal::ForReason(reason)).await
}

async fn show(state: &ConsoleState, visitor: &Visitor, fields: &Fields, reveal: Reveal) -> Answer {
    let id = fields.get("id").ok_or_else(|| ConsoleError::NotFound("no job is named".to_owned()))?;
    let is_revealed = reveal.is_revealed();
    let request = ShowRequest { id, merchants: visitor.principal.merchants(), reveal };
    let actor = visitor.principal.actor();
    let report = dead_letters::show(&mut state.shared.backend_for_scans(), &actor, &request).await?;
    let ShowReport { dead_letters, edits } = report;
    let page = LetterPage {
        shell: Shell::new(state, visitor, Place::Dead),
        title: title_of(id, &dead_letters),
        id: id.to_owned(),
        job: path_of(id),
        masked: link("/console/dead/letter", &[("id", id)]),
        may_operate: visitor.may_operate(),
        is_revealed,
        letters: dead_letters.iter().map(Letter::new).collect(),
        edits: edits.iter().map(Edit::new).collect(),
    };
    let mut response = html(StatusCode::OK, &page);
    if let (true, Ok(masked)) = (is_revealed, format!("{SHOWN_S}; url={}", page.masked).parse()) {
        response.headers_mut().insert(header::REFRESH, masked);
    }
    Ok(response)
}

fn title_of(id: &str, letters: &[DeadLetterDetails]) -> String {
    let id = shown(id);
    let Some(newest) = letters.first() else {
        return format!("{id} is no dead letter any more. It was edited.");
    };
    let kind = newest.error["kind"].as_str().map_or_else(|| "without an error".to_owned(), shown);
    let can = if newest.replayable { "It can be replayed." } else { "It cannot be replayed as it is." };
    format!("{id} failed: {kind}. {can}")
}
