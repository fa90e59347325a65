//! A completion: the single final event of a job (contract §3).

use super::{CallerId, CustomerReference, Fault, JobError, JobType, JsonText, MerchantId, Outcome};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The status of a completed job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The job did its work. The completion has an `outcome`.
    Succeeded,
    /// The job failed, and no further attempt follows unless an operator replays it.
    Failed,
    /// The deadline passed before the job could finish.
    Expired,
    /// An operator cancelled the job.
    Cancelled,
    /// The job was not valid. XCO was not called.
    Rejected,
}

impl Status {
    /// All statuses.
    pub const ALL: [Self; 5] = [Self::Succeeded, Self::Failed, Self::Expired, Self::Cancelled, Self::Rejected];

    /// Returns the status with this name, `None` for any other text.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// The name used in completions and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
        }
    }
}

/// Where a job spent its time. All values are in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Timings {
    /// Time in the queue, including the wait for `run_at`.
    pub queued: u64,
    /// Time spent waiting for a limit or after a 429.
    pub limited: u64,
    /// Time spent waiting between attempts.
    pub retrying: u64,
    /// Time spent in calls to XCO.
    pub xco: u64,
    /// Time from enqueueing to completion.
    pub total: u64,
}

/// The event of a completion. It serialises to exactly the contract's JSON; absent fields are left out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Completion<'a> {
    /// Version of the contract. Always 1.
    pub v: u8,
    /// The job's own id, or its default id if it has none.
    pub id: &'a str,
    /// The job's type. Absent if a rejected job had no type or an unknown one.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub job_type: Option<JobType>,
    /// The job's `caller_id`, unchanged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller_id: Option<&'a CallerId>,
    /// The job's `customer_reference`, or the one in its arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer_reference: Option<&'a CustomerReference>,
    /// The job's `merchant_id`, unchanged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merchant_id: Option<&'a MerchantId>,
    /// The job's `batch`, unchanged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<&'a str>,
    /// The job's `meta`, echoed (codes masked).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meta: Option<&'a serde_json::Map<String, Value>>,
    /// The job's `traceparent`, unchanged, whether or not this worker traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<&'a str>,
    /// How the job ended.
    pub status: Status,
    /// Present only on success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Present only on success, for the types that have a result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<&'a JsonText>,
    /// Present unless the job succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'a JobError>,
    /// Number of calls to XCO, including those that were refused or answered with 401 or 429.
    pub attempts: u32,
    /// Id of the job whose `next` enqueued this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<&'a str>,
    /// Id of the job that this one's `next` enqueued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_id: Option<&'a str>,
    /// How many times operators replayed the job. Left out when 0.
    #[serde(skip_serializing_if = "is_zero")]
    pub replay: u32,
    /// True if the job is among the dead letters. Left out otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dead_lettered: bool,
    /// When the job was enqueued. RFC 3339 with milliseconds, Redis's clock.
    pub enqueued_at: String,
    /// When the first call was admitted. Absent if no call was admitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When the job completed. RFC 3339 with milliseconds, Redis's clock.
    pub completed_at: String,
    /// Where the job spent its time, in milliseconds.
    pub timings_ms: Timings,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl Completion<'_> {
    /// Returns the event as one line of JSON.
    pub fn to_json(&self) -> String {
        // Serialisation cannot fail: all keys are strings and all numbers are finite. No outside input changes that,
        // and a test would notice an empty event.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl JobError {
    /// Builds the error of a rejected job. It lists every fault.
    pub fn rejected(kind: super::ErrorKind, faults: Vec<Fault>) -> Self {
        let message = match faults.first() {
            Some(fault) if faults.len() == 1 => format!("{}: {}", pointer_or_root(&fault.pointer), fault.detail),
            Some(_) => format!("{} faults; see `fields`", faults.len()),
            None => kind.as_str().to_owned(),
        };
        Self { kind, message, http_status: None, problem: None, fields: Some(faults), retryable: false }
    }

    /// Builds an error that has only a kind and a message.
    pub fn plain(kind: super::ErrorKind, message: impl Into<String>, retryable: bool) -> Self {
        Self { kind, message: message.into(), http_status: None, problem: None, fields: None, retryable }
    }
}

fn pointer_or_root(pointer: &str) -> &str {
    if pointer.is_empty() { "the job" } else { pointer }
}
