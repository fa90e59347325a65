//! `/console/jobs/{id}/cancel`: says what a cancellation does before it is given.

use super::jobs::path_of;
use crate::{
    config::GatewayRole,
    console::{
        error::{Answer, ConsoleError, html},
        form::OperatorForm,
        shell::{Place, Shell},
        state::ConsoleState,
        text::shown,
        visitor::Visitor,
    },
    operations::{
        NoProgress,
        jobs::{self, CancelDetail, JobToCancel},
    },
};
use askama::Template;
use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Redirect},
};
use std::sync::Arc;

#[derive(Template)]
#[template(path = "cancel.html")]
struct CancelPage {
    shell: Shell,
    id: String,
    path: String,
    what: &'static str,
    actor: String,
}

async fn examined(state: &ConsoleState, visitor: &Visitor, id: &str) -> Result<JobToCancel, ConsoleError> {
    let job =
        jobs::examine(&mut state.shared.backend_for_scans(), id, visitor.principal.merchants(), &NoProgress).await?;
    match &job.detail {
        CancelDetail::Unknown => Err(ConsoleError::NotFound("no job with this id is known".to_owned())),
        CancelDetail::Ended(status) => Err(ConsoleError::Refused {
            sentence: format!("the job has ended: {status}"),
            remedy: "There is nothing to cancel.".to_owned(),
        }),
        CancelDetail::Dead => Err(ConsoleError::Refused {
            sentence: "the job has ended, and is among the dead letters".to_owned(),
            remedy: "Discard its dead letter if it must not be replayed.".to_owned(),
        }),
        _ => Ok(job),
    }
}

/// The plan.
pub(in crate::console) async fn plan(
    State(state): State<Arc<ConsoleState>>,
    visitor: Visitor,
    Path(id): Path<String>,
) -> Answer {
    visitor.principal.require(GatewayRole::Operate)?;
    let what = match examined(&state, &visitor, &id).await?.detail {
        CancelDetail::Delayed => "It is delayed: it ends at once, as cancelled.",
        CancelDetail::InFlight => {
            "A worker has it: the call under way finishes, and may end the job in its own way. No further call is made."
        }
        _ => "It waits: it ends as it comes up, as cancelled.",
    };
    let shell = Shell::new(&state, &visitor, Place::Jobs);
    let actor = shell.person.clone();
    let page = CancelPage { shell, id: shown(&id), path: path_of(&id), what, actor };
    Ok(html(StatusCode::OK, &page))
}

/// Cancels the job.
pub(in crate::console) async fn cancel(
    State(state): State<Arc<ConsoleState>>,
    Path(id): Path<String>,
    form: OperatorForm,
) -> Answer {
    let job = examined(&state, &form.visitor, &id).await?;
    jobs::cancel_job(&mut state.shared.backend_for_scans(), &form.visitor.principal.actor(), job).await?;
    Ok(Redirect::to(&path_of(&id)).into_response())
}

/// The plan for a job with this id.
#[cfg(test)]
pub(in crate::console) fn rendered(shell: Shell, id: &str) -> Result<String, askama::Error> {
    let actor = shell.person.clone();
    CancelPage { shell, id: shown(id), path: path_of(id), what: "", actor }.render()
}
