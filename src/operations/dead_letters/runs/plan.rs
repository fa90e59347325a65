//! What a run would do, kept for ten minutes under an id.

use super::{
    error::RunError,
    request::{RunKind, RunRequest},
};
use crate::{
    config::Config,
    dead_letters::{Filter, KindCount, ReplayEstimate, ReplayRefusal},
    operations::{
        Backend,
        dead_letters::{
            discard,
            replay::{self, ReplayRequest},
            scan::{Scope, scope},
        },
    },
    queue::{clock, runs},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Marks the form of an id.
const FORM: &str = "p1.";

/// What a replay would do. The members are in the order in which JSON prints them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedReplay {
    /// The id under which the plan can be started for ten minutes.
    pub id: String,
    /// What the replay would do.
    #[serde(flatten)]
    pub estimate: ReplayEstimate,
    /// Of the dead letters that are replayed: how many have an effect that was allowed explicitly.
    pub risks: BTreeMap<ReplayRefusal, u64>,
}

/// What a discard would remove. The members are in the order in which JSON prints them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedDiscard {
    /// The id under which the plan can be started for ten minutes.
    pub id: String,
    /// How many dead letters.
    pub discard: u64,
    /// How many by type and error.
    pub kinds: Vec<KindCount>,
}

/// A plan as it is kept. A run takes at most `of` dead letters, and none outside `scope`.
#[derive(Serialize, Deserialize)]
struct Kept {
    request: String,
    scope: Scope,
    of: u64,
    /// Makes the id unguessable, and the digest of personal data worthless.
    nonce: String,
}

/// A plan that was found.
pub(super) struct Plan {
    pub(super) request: RunRequest,
    pub(super) scope: Scope,
    pub(super) of: u64,
}

/// Counts what a replay would do, and keeps the plan. Changes nothing else.
///
/// `config` must hold the limits that the workers have: they decide how long a replay takes.
///
/// # Errors
/// [`RunError::Operation`], [`RunError::TooLarge`].
pub async fn plan_replay(
    backend: &mut Backend<'_>,
    config: &Config,
    request: ReplayRequest,
) -> Result<PlannedReplay, RunError> {
    let (plan, estimate) = count_replay(backend, config, request).await?;
    Ok(PlannedReplay { id: keep(backend, &plan).await?, risks: estimate.risks.clone(), estimate })
}

/// Counts what a discard would remove, and keeps the plan. Changes nothing else.
///
/// # Errors
/// [`RunError::Operation`], [`RunError::TooLarge`].
pub async fn plan_discard(backend: &mut Backend<'_>, filter: Filter) -> Result<PlannedDiscard, RunError> {
    let (plan, estimate) = count_discard(backend, filter).await?;
    let discard::DiscardEstimate { discard, kinds } = estimate;
    Ok(PlannedDiscard { id: keep(backend, &plan).await?, discard, kinds })
}

pub(super) async fn count_replay(
    backend: &mut Backend<'_>,
    config: &Config,
    request: ReplayRequest,
) -> Result<(Plan, ReplayEstimate), RunError> {
    let scope = scope(backend, &request.filter).await?;
    let replay::ReplayPlan { request, scope, estimate } = replay::plan(backend, config, request, scope).await?;
    Ok((Plan { request: RunRequest::Replay(request), scope, of: estimate.replay }, estimate))
}

pub(super) async fn count_discard(
    backend: &mut Backend<'_>,
    filter: Filter,
) -> Result<(Plan, discard::DiscardEstimate), RunError> {
    let discard::DiscardPlan { filter, scope, estimate } = discard::plan(backend, filter).await?;
    Ok((Plan { request: RunRequest::Discard(filter), scope, of: estimate.discard }, estimate))
}

async fn keep(backend: &mut Backend<'_>, plan: &Plan) -> Result<String, RunError> {
    let kept = Kept {
        request: plan.request.to_json()?,
        scope: plan.scope.clone(),
        of: plan.of,
        nonce: format!("{:032x}", rand::random::<u128>()),
    };
    let text = serde_json::to_string(&kept).map_err(|_| RunError::TooLarge)?;
    let id = id_of(&text);
    let (keys, failed) = (backend.common_keys(), backend.failed());
    let now_ms = clock::now_ms(&mut backend.link).await.map_err(&failed)?;
    runs::keep_plan(&mut backend.link, &keys, &id, &text, now_ms).await.map_err(failed)?;
    Ok(id)
}

/// The id is a digest of the plan: what is kept under it cannot be changed.
fn id_of(text: &str) -> String {
    format!("{FORM}{}", BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(text.as_bytes())))
}

/// How many dead letters the plan with this id takes.
///
/// # Errors
/// [`RunError::PlanOutdated`], [`RunError::Operation`].
pub async fn planned_count(backend: &mut Backend<'_>, id: &str, kind: RunKind) -> Result<u64, RunError> {
    Ok(find(backend, id, kind).await?.of)
}

/// The plan with this id, if it is of this kind.
pub(super) async fn find(backend: &mut Backend<'_>, id: &str, kind: RunKind) -> Result<Plan, RunError> {
    if !id.starts_with(FORM) || id.len() > 64 {
        return Err(RunError::PlanOutdated);
    }
    let (keys, failed) = (backend.common_keys(), backend.failed());
    let text = runs::plan(&mut backend.link, &keys, id).await.map_err(failed)?;
    let kept = text.filter(|text| id_of(text) == id).and_then(|text| serde_json::from_str::<Kept>(&text).ok());
    let plan = kept.and_then(|Kept { request, scope, of, .. }| {
        Some(Plan { request: RunRequest::from_json(&request)?, scope, of })
    });
    plan.filter(|plan| plan.request.kind() == kind).ok_or(RunError::PlanOutdated)
}
