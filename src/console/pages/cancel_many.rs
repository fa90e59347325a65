//! `/console/cancel`: cancels all jobs that a selection fits, after a plan that counts them.

use crate::{
    console::{
        error::{Answer, ConsoleError, html},
        fields::Fields,
        form::{OperatorForm, TYPED_FROM, is_typed},
        selection::{fields_of, selector},
        shell::{Place, Shell},
        sight::Sight,
        state::ConsoleState,
        text::{count_of, grouped},
        visitor::Visitor,
    },
    operations::{
        Error, NoProgress, Selector,
        jobs::{self, CancelEstimate},
    },
};
use askama::Template;
use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use std::sync::Arc;

#[derive(Template)]
#[template(path = "rules/cancel.html")]
struct PlanPage {
    shell: Shell,
    error: &'static str,
    jobs: String,
    fields: Vec<(&'static str, String)>,
    /// How many fit, for the form.
    total: u64,
    figure: String,
    lines: [String; 3],
    is_exact: bool,
}

impl PlanPage {
    fn new(shell: Shell, visitor: &Visitor, estimate: &CancelEstimate, error: &'static str) -> Self {
        let at_least = if estimate.exact { "" } else { "at least " };
        let jobs = |count: u64| count_of(count, "job", "jobs");
        Self {
            shell,
            error,
            jobs: Sight::of(visitor).selector(&estimate.jobs),
            fields: fields_of(&estimate.jobs),
            total: estimate.total(),
            figure: format!("{at_least}{}", jobs(estimate.total())),
            lines: [
                format!("{} delayed: ends at once, as cancelled.", jobs(estimate.delayed)),
                format!("{at_least}{} waiting in the lanes: ends as it comes up.", jobs(estimate.waiting)),
                format!("{} in flight: the call under way finishes, no other is made.", jobs(estimate.in_flight)),
            ],
            is_exact: estimate.exact,
        }
    }

    const fn must_be_typed(&self) -> bool {
        must_be_typed(self.total, self.is_exact)
    }

    fn number(&self) -> String {
        grouped(self.total)
    }
}

/// Whether the number of jobs must be typed before they are cancelled.
const fn must_be_typed(total: u64, is_exact: bool) -> bool {
    total >= TYPED_FROM || !is_exact
}

/// The selection of a form. It must name something: nobody cancels everything by an empty form.
fn selected(visitor: &Visitor, fields: &Fields) -> Result<Selector, ConsoleError> {
    // A selection has no merchant.
    visitor.principal.require_all_merchants()?;
    let jobs = selector(fields)?;
    if jobs.is_everything() {
        return Err(ConsoleError::Invalid(
            "say which jobs: a batch, a lane, a type, a caller or a customer".to_owned(),
        ));
    }
    Ok(jobs)
}

async fn planned(state: &ConsoleState, jobs: &Selector) -> Result<CancelEstimate, ConsoleError> {
    let mut backend = state.shared.backend_for_scans();
    let estimate = jobs::estimate(&mut backend, &state.config, jobs, &NoProgress).await?;
    if estimate.is_empty() {
        return Err(Error::NothingFits(jobs.describe()).into());
    }
    Ok(estimate)
}

fn show(state: &ConsoleState, visitor: &Visitor, estimate: &CancelEstimate, error: &'static str) -> Response {
    let status = if error.is_empty() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    html(status, &PlanPage::new(Shell::new(state, visitor, Place::Jobs), visitor, estimate, error))
}

/// How many jobs fit, and what becomes of them. Changes nothing.
pub(in crate::console) async fn plan(
    State(state): State<Arc<ConsoleState>>,
    OperatorForm { visitor, fields }: OperatorForm,
) -> Answer {
    let jobs = selected(&visitor, &fields)?;
    let estimate = planned(&state, &jobs).await?;
    Ok(show(&state, &visitor, &estimate, ""))
}

/// Cancels the jobs that fit and were enqueued up to now.
pub(in crate::console) async fn cancel(
    State(state): State<Arc<ConsoleState>>,
    OperatorForm { visitor, fields }: OperatorForm,
) -> Answer {
    let jobs = selected(&visitor, &fields)?;
    let total = fields.get("total").and_then(|total| total.parse::<u64>().ok());
    let is_exact = !fields.has("inexact");
    let is_confirmed = total.is_some_and(|total| !must_be_typed(total, is_exact) || is_typed(&fields, total));
    if !is_confirmed {
        let estimate = planned(&state, &jobs).await?;
        return Ok(show(&state, &visitor, &estimate, "Type the number of jobs to confirm. Nothing was done."));
    }
    let mut backend = state.shared.backend_for_scans();
    jobs::cancel(&mut backend, &visitor.principal.actor(), &state.config, &jobs, &NoProgress).await?;
    Ok(Redirect::to("/console/rules?did=cancel").into_response())
}
