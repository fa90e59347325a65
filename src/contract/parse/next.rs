//! Validates the children in `next` together with their parent, and completes them with the fields they inherit.

use super::{
    draft::{Caller, ChildDraft, DraftScope, JobDraft, Meta},
    faults::{Faults, Path, nearest},
};
use crate::contract::{CallerId, CustomerReference, JobId, JobType, MerchantId, Next, Outcome, json::Node};
use serde::Serialize;

/// Maximum length of an id that a producer gives.
pub(super) const MAX_ID_BYTES: usize = 128;

/// Judges `next` of a job whose type, caller and scope are these. Each child is judged by `judge_child`.
pub(super) fn validate<'n>(
    node: &'n Node<'n>,
    (job_type, caller, scope): (Option<JobType>, &Caller, DraftScope<'_>),
    path: &Path<'_>,
    faults: &mut Faults,
    judge_child: impl Fn(&'n Node<'n>, &Path<'_>, DraftScope<'_>, &mut Faults) -> JobDraft<'n>,
) -> Vec<ChildDraft<'n>> {
    let Node::Object(members) = node else {
        faults.add(path, format!("must be an object of outcome and job, not {}", node.kind()));
        return Vec::new();
    };
    if scope.generations_left == 0 && !members.is_empty() {
        faults.add(path, "must be left out: at most 4 generations of children");
        return Vec::new();
    }
    let below = DraftScope {
        max_id_bytes: MAX_ID_BYTES,
        generations_left: scope.generations_left.saturating_sub(1),
        parent: Some(caller),
        ..scope
    };
    let mut children: Vec<ChildDraft<'n>> = Vec::new();
    let mut seen = [false; Outcome::ALL.len()];
    for (key, value) in members {
        let at = path.key(key);
        let Some(outcome) = Outcome::from_name(key) else {
            faults.add(&at, impossible(key, job_type));
            continue;
        };
        if std::mem::replace(&mut seen[outcome as usize], true) {
            faults.add(&at, "must not appear more than once");
            continue;
        }
        if job_type.is_some_and(|job_type| !Outcome::of(job_type).contains(&outcome)) {
            faults.add(&at, impossible(key, job_type));
        }
        if *value != Node::Null {
            children.push(ChildDraft { outcome, draft: judge_child(value, &at, below, faults) });
        }
    }
    children
}

fn impossible(key: &str, job_type: Option<JobType>) -> String {
    let outcomes = job_type.map_or(Outcome::ALL.as_slice(), Outcome::of);
    let mut detail = match job_type {
        Some(job_type) => format!("is no outcome that a {job_type} can have: "),
        None => "is no outcome: ".to_owned(),
    };
    for (index, outcome) in outcomes.iter().enumerate() {
        detail.push_str(if index > 0 { ", " } else { "" });
        detail.push_str(outcome.as_str());
    }
    if let Some(near) = nearest(key, outcomes.iter().map(|outcome| outcome.as_str())).filter(|near| *near != key) {
        detail.push_str("; did you mean `");
        detail.push_str(near);
        detail.push_str("`?");
    }
    detail
}

/// The JSON of a child that will be enqueued.
#[derive(Serialize)]
struct ChildJob<'a> {
    v: u8,
    id: &'a str,
    #[serde(rename = "type")]
    job_type: JobType,
    args: &'a Node<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    caller_id: Option<&'a CallerId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer_reference: Option<&'a CustomerReference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    merchant_id: Option<&'a MerchantId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_at: Option<&'a Node<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_attempts: Option<u32>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    reply: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    batch: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<&'a Meta<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracestate: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'a Node<'a>>,
}

/// Adds to a valid child the fields it inherits from its valid parent. `parent_id` is the parent's own id or its
/// default id.
///
/// Returns `None` if the parent or the child turns out to be invalid.
pub(super) fn complete(child: &ChildDraft<'_>, parent: &JobDraft<'_>, parent_id: &str) -> Option<Next> {
    let ChildDraft { outcome, draft } = child;
    let id = draft.id.as_ref().map_or_else(|| format!("{parent_id}/{}", outcome.as_str()), |id| id.as_str().to_owned());
    // A `tracestate` is meaningful only with its own `traceparent`, so both come from the same job.
    let trace = if draft.traceparent.is_some() { draft } else { parent };
    let job = ChildJob {
        v: 1,
        id: &id,
        job_type: draft.job_type?,
        args: draft.nodes.args?,
        // The parent's caller if it has one, else the caller that the child names.
        caller_id: parent.caller.as_ref().or(draft.caller_id.as_ref()),
        customer_reference: draft.customer_reference.as_ref().or(parent.customer_reference.as_ref()),
        merchant_id: draft.merchant_id.as_ref().or(parent.merchant_id.as_ref()),
        ttl_ms: draft.ttl_ms,
        run_at: draft.nodes.run_at,
        max_attempts: draft.max_attempts,
        reply: draft.reply,
        batch: draft.batch.or(parent.batch),
        meta: draft.meta.as_ref().or(parent.meta.as_ref()),
        traceparent: trace.traceparent,
        tracestate: trace.tracestate,
        next: draft.nodes.next,
    };
    let job = serde_json::to_string(&job).ok()?;
    Some(Next { outcome: *outcome, id, job })
}

/// Returns the longest possible id of a job that is `generation` generations below a producer's own job. Each
/// generation adds at most `/already_exists`.
pub(super) fn max_id_bytes(generation: u8) -> usize {
    if generation == 0 { MAX_ID_BYTES } else { MAX_ID_BYTES + 4 * 16 }
}

/// Returns the id from which the ids of children derive.
pub(super) fn id_or<'a>(id: Option<&'a JobId>, default_id: &'a str) -> &'a str {
    id.map_or(default_id, JobId::as_str)
}
