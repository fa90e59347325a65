//! What one, many and streamed jobs have in common: their ids, their check, and the answer for each.

use crate::{
    access::Principal,
    contract::{Fault, Lane, MerchantId},
    gateway::{
        problem::{Problem, ProblemKind},
        state::GatewayState,
    },
    operations::{
        MerchantScope,
        enqueue::{CheckedJob, EnqueueRequest, Enqueued, InvalidJob, JobDefaults},
    },
};
use axum::http::{HeaderMap, HeaderName, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use uuid::Uuid;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What stands in a path segment as it is.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');

/// What all jobs of one request have in common.
pub(super) struct Submission<'a> {
    state: &'a GatewayState,
    merchants: MerchantScope,
    lane: Lane,
    key: Option<String>,
    traceparent: Option<String>,
    /// What every `wait_url` begins with.
    base: String,
}

/// A job that is enqueued, as an answer says it.
#[derive(Serialize)]
pub(super) struct Accepted {
    #[serde(flatten)]
    pub(super) enqueued: Enqueued,
    #[serde(skip_serializing_if = "Option::is_none")]
    wait_url: Option<String>,
    /// An earlier job has this id.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) duplicate: bool,
}

impl<'a> Submission<'a> {
    pub(super) fn new(
        state: &'a GatewayState,
        principal: &Principal,
        headers: &HeaderMap,
        lane: Option<&str>,
    ) -> Result<Self, Problem> {
        let lane = match lane {
            None => Lane::Interactive,
            Some(lane) => lane.parse().map_err(|_| invalid("/lane", "must be interactive or bulk"))?,
        };
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        // The header's own syntax is a quoted string; most clients send it bare.
        let key = headers.get(IDEMPOTENCY_KEY).map(|key| {
            let key = key.to_str().unwrap_or_default().trim();
            key.strip_prefix('"').and_then(|key| key.strip_suffix('"')).unwrap_or(key).to_owned()
        });
        let base = state.config.gateway.public_url.clone();
        Ok(Self {
            state,
            merchants: principal.merchants().clone(),
            lane,
            key,
            traceparent: text(TRACEPARENT).filter(|trace| trace.len() <= 256).map(ToOwned::to_owned),
            base: base.unwrap_or_else(|| format!("http://{}", text(header::HOST).unwrap_or("localhost"))),
        })
    }

    /// Checks the job of a request with one job.
    pub(super) fn check_one(&self, json: &str) -> Result<CheckedJob, Problem> {
        self.check(json, self.key.as_deref())
    }

    /// Checks one of many jobs. `index` counts from 0.
    pub(super) fn check_of_many(&self, json: &str, index: u64) -> Result<CheckedJob, Problem> {
        let key = self.key.as_ref().map(|key| format!("{key}/{index}"));
        self.check(json, key.as_deref())
    }

    /// Every job gets an id, so that the gateway may repeat an `XADD` whose answer was lost.
    fn check(&self, json: &str, key: Option<&str>) -> Result<CheckedJob, Problem> {
        let own = format!("gw-{}", Uuid::now_v7());
        let traceparent = self.traceparent.as_deref();
        let defaults = JobDefaults { merchants: &self.merchants, traceparent, id: Some(&own) };
        let request = EnqueueRequest { json, lane: self.lane, id: key };
        self.state.checker.check_with(request, defaults).map_err(|invalid| match &invalid {
            InvalidJob::OtherId => Problem::new(ProblemKind::IdConflict).faults(invalid.faults()),
            InvalidJob::OtherMerchant => Problem::new(ProblemKind::Forbidden).faults(invalid.faults()),
            InvalidJob::Faults(faults) if is_no_json(faults, json) => Problem::new(ProblemKind::InvalidJson),
            InvalidJob::Faults(_) => Problem::new(ProblemKind::InvalidJob).faults(invalid.faults()),
        })
    }

    /// The answer for a job that is in its lane.
    pub(super) fn accepted(&self, job: &CheckedJob, enqueued: Enqueued, duplicate: bool) -> Accepted {
        let merchant = job.merchant_id().map(MerchantId::as_str);
        let ticket = self.state.tickets.issue(&enqueued.id, enqueued.partition, merchant, GatewayState::now_s());
        let path = job_path(&enqueued.id);
        let wait_url = ticket.map(|ticket| format!("{}{path}/wait?ticket={ticket}", self.base));
        Accepted { enqueued, wait_url, duplicate }
    }
}

/// The path of a job.
pub(super) fn job_path(id: &str) -> String {
    format!("/v1/jobs/{}", utf8_percent_encode(id, SEGMENT))
}

/// Whether the text is no JSON at all; then the only fault is one of the whole job.
fn is_no_json(faults: &[Fault], json: &str) -> bool {
    matches!(faults, [fault] if fault.pointer.is_empty())
        && serde_json::from_str::<serde::de::IgnoredAny>(json).is_err()
}

/// A job with one fault.
pub(super) fn invalid(pointer: &str, detail: &str) -> Problem {
    let fault = Fault { pointer: pointer.to_owned(), detail: detail.to_owned() };
    Problem::new(ProblemKind::InvalidJob).faults(vec![fault])
}
