//! `/console/batches`: backfills, how far each is, and what its rows ended as.

use crate::{
    console::{
        error::{Answer, ConsoleError, html},
        fields::link,
        file::file,
        shell::{Place, Shell},
        state::ConsoleState,
        text::{clock, count_of, grouped, shown},
        visitor::Visitor,
    },
    net::streamed,
    operations::backfill::{self, BackfillSummary},
};
use askama::Template;
use axum::{
    extract::{Path, State},
    http::StatusCode,
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::sync::Arc;

/// Backfills of the page.
const PAGE: usize = 100;

#[derive(Template)]
#[template(path = "batches.html")]
struct BatchesPage {
    shell: Shell,
    title: String,
    rows: Vec<Row>,
    more: String,
    may_operate: bool,
}

struct Row {
    batch: String,
    /// Its name as it is, for the form that cancels it.
    name: String,
    is_complete: bool,
    ended: u64,
    valid: Option<u64>,
    unsuccessful: String,
    rejected: String,
    corrections: String,
    begun_at: String,
    /// The dead letters of the batch.
    dead: String,
    /// The results of its rows, as CSV.
    results: String,
}

impl Row {
    fn new(backfill: &BackfillSummary) -> Self {
        Self {
            batch: shown(&backfill.batch),
            name: backfill.batch.clone(),
            is_complete: backfill.complete,
            ended: backfill.ended,
            valid: backfill.valid,
            unsuccessful: grouped(backfill.unsuccessful),
            rejected: backfill.rejected.map(grouped).unwrap_or_default(),
            corrections: if backfill.corrections == 0 { String::new() } else { backfill.corrections.to_string() },
            begun_at: shown(&backfill.begun_at),
            dead: link(Place::Dead.path(), &[("batch", &backfill.batch)]),
            results: format!("/console/batches/{}/results", utf8_percent_encode(&backfill.batch, NON_ALPHANUMERIC)),
        }
    }

    /// `410,000 of 1,000,000`
    fn progress(&self) -> String {
        let of = self.valid.map(|valid| format!(" of {}", grouped(valid))).unwrap_or_default();
        format!("{}{of}", grouped(self.ended))
    }

    fn day(&self) -> &str {
        self.begun_at.get(..10).unwrap_or_default()
    }

    fn clock(&self) -> &str {
        clock(&self.begun_at)
    }
}

/// The backfills of the last 30 days, the latest first.
pub(in crate::console) async fn page(State(state): State<Arc<ConsoleState>>, visitor: Visitor) -> Answer {
    visitor.principal.require_all_merchants()?;
    let backfills = backfill::list(&mut state.shared.backend_for_scans()).await?;
    let hidden = u64::try_from(backfills.len().saturating_sub(PAGE)).unwrap_or(0);
    let page = BatchesPage {
        shell: Shell::new(&state, &visitor, Place::Batches),
        title: title_of(&backfills),
        rows: backfills.iter().take(PAGE).map(Row::new).collect(),
        may_operate: visitor.may_operate(),
        more: if hidden > 0 { count_of(hidden, "older backfill", "older backfills") } else { String::new() },
    };
    Ok(html(StatusCode::OK, &page))
}

/// The results of a backfill's rows, as CSV.
pub(in crate::console) async fn results(
    State(state): State<Arc<ConsoleState>>,
    visitor: Visitor,
    Path(batch): Path<String>,
) -> Answer {
    visitor.principal.require_all_merchants()?;
    let stream = visitor.principal.token.rate().stream().map_err(ConsoleError::TooMany)?;
    if backfill::one(&mut state.shared.backend(), &batch).await?.is_none() {
        return Err(ConsoleError::NotFound("no backfill has this batch".to_owned()));
    }
    let body = streamed(async move |to| {
        let _stream = stream;
        backfill::results_to(&mut state.shared.backend_for_scans(), &batch, &to).await
    });
    Ok(file("text/csv; charset=utf-8", "results.csv", body))
}

fn title_of(backfills: &[BackfillSummary]) -> String {
    let open: Vec<_> = backfills.iter().filter(|backfill| !backfill.complete).collect();
    match (backfills.is_empty(), open.as_slice()) {
        (true, _) => "No backfill within 30 days.".to_owned(),
        (false, []) => "All rows of all backfills have ended.".to_owned(),
        (false, [one]) => format!("{}: {} rows have ended.", shown(&one.batch), Row::new(one).progress()),
        (false, open) => format!("{} backfills have rows that have not ended.", open.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_title_tells_how_far_the_open_backfill_is() {
        let of = |batch: &str, complete| BackfillSummary {
            batch: batch.to_owned(),
            begun_at: "2026-01-31T03:12:28.000Z".to_owned(),
            files: Vec::new(),
            corrections: 0,
            valid: Some(1_000_000),
            rejected: Some(2),
            ended: 410_000,
            unsuccessful: 3,
            complete,
        };
        assert_eq!(title_of(&[]), "No backfill within 30 days.");
        assert_eq!(title_of(&[of("a", true)]), "All rows of all backfills have ended.");
        assert_eq!(title_of(&[of("a", true), of("b", false)]), "b: 410,000 of 1,000,000 rows have ended.");
        assert_eq!(title_of(&[of("a", false), of("b", false)]), "2 backfills have rows that have not ended.");
        assert_eq!(Row::new(&of("a b", false)).dead, "/console/dead?batch=a+b");
    }
}
