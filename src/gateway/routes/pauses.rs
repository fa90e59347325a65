//! `GET`, `POST`, `DELETE /v1/pauses`

use super::query::{Body, Parameters, faulty, parse};
use crate::{
    config::parse_duration,
    contract::{JobType, Lane},
    gateway::{
        access::{Access, Operate},
        problem::{Problem, ProblemKind},
        state::GatewayState,
    },
    operations::{
        Selector,
        pauses::{self, IN_FORCE_WITHIN, InForce, PauseRequest, Paused, Resumption, RuleInForce},
    },
};
use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Which jobs a pause is about. Members that are left out do not matter.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(crate) struct PauseSelection {
    lane: Option<String>,
    #[serde(rename = "type")]
    job_type: Option<String>,
    caller: Option<String>,
    caller_id: Option<String>,
    /// Every job; in a `DELETE`, every pause.
    #[serde(default)]
    all: bool,
}

impl PauseSelection {
    fn selector(self) -> Result<Selector, Problem> {
        let lane = self.lane.map(|lane| parse::<Lane>("lane", &lane, "must be interactive or bulk")).transpose()?;
        let named = |name: String| JobType::from_name(&name).ok_or_else(|| faulty("type", "is no job type"));
        let job_type = self.job_type.map(named).transpose()?;
        let caller = match (self.caller, self.caller_id) {
            (Some(_), Some(_)) => return Err(faulty("caller_id", "cannot stand beside caller: both mean the same")),
            (caller, caller_id) => caller.or(caller_id),
        };
        if caller.as_ref().is_some_and(|caller| caller.is_empty() || caller.len() > 256) {
            return Err(faulty("caller", "must be 1 to 256 bytes"));
        }
        let selector = Selector { lane, job_type, caller, ..Selector::default() };
        match (selector.is_everything(), self.all) {
            (true, false) => Err(faulty("jobs", "must name a lane, a type or a caller, or be {\"all\": true}")),
            (false, true) => Err(faulty("all", "cannot stand beside other members")),
            _ => Ok(selector),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PauseBody {
    jobs: PauseSelection,
    #[serde(rename = "for")]
    lasting: Option<String>,
    reason: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct PauseAnswer {
    #[serde(flatten)]
    paused: Paused,
    #[serde(flatten)]
    in_force: InForce,
}

#[derive(Serialize)]
pub(crate) struct PausesAnswer {
    pauses: Vec<RuleInForce>,
}

#[derive(Serialize)]
pub(crate) struct ResumeAnswer {
    resumed: Vec<Selector>,
    #[serde(flatten)]
    in_force: InForce,
}

/// The pauses that are in force.
#[utoipa::path(get, path = "/v1/pauses", tag = "rules", security(("token" = [])),
    responses((status = 200, description = "The pauses", body = Object)))]
pub(crate) async fn list(
    State(state): State<Arc<GatewayState>>,
    Access(principal, _): Access<Operate>,
) -> Result<Json<PausesAnswer>, Problem> {
    principal.require_all_merchants()?;
    Ok(Json(PausesAnswer { pauses: pauses::list(&mut state.shared.backend()).await? }))
}

/// Pauses jobs of a lane, a type or a caller, or all. Answers when all workers know it, within 3 s.
#[utoipa::path(post, path = "/v1/pauses", tag = "rules", security(("token" = [])), request_body = Object,
    responses((status = 201, description = "In force", body = Object), (status = 400, description = "The request is not valid")))]
pub(crate) async fn pause(
    State(state): State<Arc<GatewayState>>,
    Access(principal, _): Access<Operate>,
    Body(body): Body<PauseBody>,
) -> Result<(StatusCode, Json<PauseAnswer>), Problem> {
    principal.require_all_merchants()?;
    let lasting =
        body.lasting.map(|text| parse_duration(&text).map_err(|wanted| faulty("for", &wanted))).transpose()?;
    let reason = reason(body.reason.as_deref())?;
    let request = PauseRequest { jobs: body.jobs.selector()?, lasting, reason };
    let mut backend = state.shared.backend();
    let paused = pauses::pause(&mut backend, &principal.actor(), request).await?;
    let in_force = pauses::in_force(&mut backend, IN_FORCE_WITHIN).await?;
    Ok((StatusCode::CREATED, Json(PauseAnswer { paused, in_force })))
}

/// Ends the pause of exactly these jobs, or every pause with `all=true`.
#[utoipa::path(delete, path = "/v1/pauses", tag = "rules", security(("token" = [])),
    params(("lane" = Option<String>, Query), ("type" = Option<String>, Query), ("caller" = Option<String>, Query),
        ("all" = Option<bool>, Query)),
    responses((status = 200, description = "Ended", body = Object), (status = 404, description = "No pause has this selection")))]
pub(crate) async fn resume(
    State(state): State<Arc<GatewayState>>,
    Access(principal, _): Access<Operate>,
    Parameters(selection): Parameters<PauseSelection>,
) -> Result<Json<ResumeAnswer>, Problem> {
    principal.require_all_merchants()?;
    let jobs = selection.selector()?;
    let mut backend = state.shared.backend();
    let resumed = pauses::resume(&mut backend, &principal.actor(), &jobs).await?;
    if resumed.resumed.is_empty() {
        return Err(Problem::new(ProblemKind::NotFound).detail("no pause has this selection"));
    }
    let in_force = pauses::in_force(&mut backend, IN_FORCE_WITHIN).await?;
    let resumed = resumed.resumed.into_iter().map(|Resumption { resumed }| resumed).collect();
    Ok(Json(ResumeAnswer { resumed, in_force }))
}

/// Why an operator acts, for the audit.
pub(super) fn reason(text: Option<&str>) -> Result<Option<String>, Problem> {
    text.map(pauses::check_reason).transpose().map_err(|wanted| faulty("reason", &wanted))
}
