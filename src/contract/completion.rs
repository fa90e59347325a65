//! A completion: the one terminal event of a job (contract §3).

use super::{CallerId, CustomerReference, Fault, JobError, JobType, JsonText, MerchantId, Outcome};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It did what it was for.
    Succeeded,
    /// It will not, without someone's doing.
    Failed,
    /// Its deadline passed first.
    Expired,
    /// An operator cancelled it.
    Cancelled,
    /// It was no valid job.
    Rejected,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Succeeded, Self::Failed, Self::Expired, Self::Cancelled, Self::Rejected];

    /// The status of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// The name in completions and metrics.
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

/// Where a job's time went, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Timings {
    /// In the queue, `run_at` included.
    pub queued: u64,
    /// Waiting for a limit or behind a 429.
    pub limited: u64,
    /// Between attempts.
    pub retrying: u64,
    /// In calls to XCO.
    pub xco: u64,
    /// From enqueueing to completion.
    pub total: u64,
}

/// The event of a completion. Serialises to exactly the contract's JSON; absent fields are left out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Completion<'a> {
    /// 1
    pub v: u8,
    /// The job's id, or its default id.
    pub id: &'a str,
    /// The type as the job named it; absent in a rejected job that named none (or no known one).
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub job_type: Option<JobType>,
    /// As the job had it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller_id: Option<&'a CallerId>,
    /// As the job, else its arguments, had it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer_reference: Option<&'a CustomerReference>,
    /// As the job had it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merchant_id: Option<&'a MerchantId>,
    /// As the job had it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<&'a str>,
    /// As the job had it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meta: Option<&'a serde_json::Map<String, Value>>,
    /// As the job had it, whoever traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<&'a str>,
    /// How it ended.
    pub status: Status,
    /// On success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// On success, where the type has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<&'a JsonText>,
    /// Otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'a JobError>,
    /// Calls to XCO, those refused, answered 401 or answered 429 included.
    pub attempts: u32,
    /// The job whose `next` enqueued this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<&'a str>,
    /// How many times operators replayed it.
    #[serde(skip_serializing_if = "is_zero")]
    pub replay: u32,
    /// True when the job can be found among the dead letters; absent otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dead_lettered: bool,
    /// RFC 3339, milliseconds, Redis's clock.
    pub enqueued_at: String,
    /// When the first call was admitted; absent when none was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// RFC 3339, milliseconds, Redis's clock.
    pub completed_at: String,
    /// Where the time went.
    pub timings_ms: Timings,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl Completion<'_> {
    /// The event's JSON.
    pub fn to_json(&self) -> String {
        // Maps with string keys and finite numbers only: serialisation has no way to fail, and an empty event would be
        // seen by every test; nothing the outside world sends can bring it about.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl JobError {
    /// A rejection that names each fault.
    pub fn rejected(kind: super::ErrorKind, faults: Vec<Fault>) -> Self {
        let message = match faults.first() {
            Some(fault) if faults.len() == 1 => format!("{}: {}", pointer_or_root(&fault.pointer), fault.detail),
            Some(_) => format!("{} faults; see `fields`", faults.len()),
            None => kind.as_str().to_owned(),
        };
        Self { kind, message, http_status: None, problem: None, fields: Some(faults), retryable: false }
    }

    /// A failure that needs nothing beyond a sentence.
    pub fn plain(kind: super::ErrorKind, message: impl Into<String>, retryable: bool) -> Self {
        Self { kind, message: message.into(), http_status: None, problem: None, fields: None, retryable }
    }
}

fn pointer_or_root(pointer: &str) -> &str {
    if pointer.is_empty() { "the job" } else { pointer }
}
