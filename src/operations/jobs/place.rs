//! Where a job is: the parts of an explanation.

use super::hold::Hold;
use crate::{
    contract::{DelayReason, Lane},
    operations::PastAttempt,
};
use serde::Serialize;
use serde_json::Value;

/// Where a job is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "place", rename_all = "snake_case")]
pub enum JobPlace {
    /// In a lane; no worker has read it.
    Waiting {
        /// How many jobs stand before it in its stream.
        ahead: u64,
        /// Whether `ahead` is exact. Otherwise at least that many stand before it.
        ahead_is_exact: bool,
        /// It was delayed, and came back: such jobs go before new ones.
        #[serde(skip)]
        came_back: bool,
        /// The job.
        #[serde(flatten)]
        job: LiveJob,
    },
    /// It was delivered, and no consumer holds it. A worker takes it up again within about two leases.
    Adrift {
        /// The job.
        #[serde(flatten)]
        job: LiveJob,
    },
    /// A worker has it.
    InFlight {
        /// The worker's name in the consumer group.
        worker: String,
        /// How many times it was delivered; more than once: workers were lost while they had it.
        deliveries: u64,
        /// Milliseconds since the worker renewed its lease.
        idle_ms: u64,
        /// The job.
        #[serde(flatten)]
        job: LiveJob,
    },
    /// It comes back to its lane later.
    #[serde(rename = "parked")]
    Delayed {
        /// When, RFC 3339. `None`: when an operator resumes it, or now because it is cancelled.
        #[serde(skip_serializing_if = "Option::is_none")]
        until: Option<String>,
        /// Milliseconds until then.
        #[serde(skip)]
        until_in_ms: Option<u64>,
        /// What it waits for.
        waits_for: DelayReason,
        /// The same in words: the end of a sentence "waits for …".
        because: String,
        /// The job.
        #[serde(flatten)]
        job: LiveJob,
    },
    /// It has a completion.
    Ended(EndedJob),
    /// Its completion is no longer kept; its dead letter is.
    Dead(DeadLetterSummary),
    /// Nothing was found.
    Unknown {
        /// What was looked through.
        searched: Searched,
    },
}

/// A job that has not ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LiveJob {
    /// The job's JSON with personal data masked.
    #[serde(skip)]
    pub masked: Value,
    /// The lane that it is in, or comes back to.
    pub lane: Lane,
    /// `<lane>:<partition>:<stream entry id>` of where it entered.
    pub origin: String,
    /// The job whose `next` enqueued it. `None`: a producer did, or no worker has read it and its entry does not say.
    #[serde(skip)]
    pub parent_id: Option<String>,
    /// When the job was enqueued, in RFC 3339.
    pub enqueued_at: String,
    /// Milliseconds since it was enqueued.
    #[serde(skip)]
    pub waited_ms: u64,
    /// `None`: no worker has read it.
    #[serde(flatten)]
    pub history: Option<History>,
    /// Its latest attempts, the oldest first; at most 8.
    #[serde(rename = "history", skip_serializing_if = "Vec::is_empty")]
    pub past_attempts: Vec<PastAttempt>,
    /// What keeps it from running, beside its own delay.
    pub holds: Vec<Hold>,
}

/// What a job has behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct History {
    /// Calls to XCO.
    pub attempts: u32,
    /// How many of them failed and count against `max_attempts`.
    #[serde(skip)]
    pub failures: u32,
    /// A call may have taken effect.
    pub in_doubt: bool,
    /// An operator cancelled it while it was delayed.
    pub cancelled: bool,
}

/// How a job ended: what its completion says, without a customer's data.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EndedJob {
    /// Its whole completion, for those who may see it.
    #[serde(skip)]
    pub completion: Value,
    /// Its dead letter is still kept.
    pub dead_letter: bool,
    /// `succeeded`, `failed`, `expired`, `cancelled` or `rejected`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// What a success brought.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Calls to XCO.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u64>,
    /// When the job was enqueued, in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enqueued_at: Option<String>,
    /// When the first call was admitted, in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When the job completed, in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<String>,
    /// Milliseconds: `queued`, `limited`, `retrying`, `xco`, `total`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timings_ms: Option<Value>,
    /// The batch of the job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<String>,
    /// Why it did not succeed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<LastError>,
    /// Its latest attempts, the oldest first; at most 8. They are known where its dead letter is kept.
    #[serde(rename = "history", skip_serializing_if = "Vec::is_empty")]
    pub past_attempts: Vec<PastAttempt>,
}

/// Why a job did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LastError {
    /// As in the contract: `upstream`, `in_doubt`, …
    pub kind: Option<String>,
    /// For people.
    pub message: Option<String>,
}

/// What is left of a job whose completion is no longer kept.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeadLetterSummary {
    /// When it ended, RFC 3339.
    pub at: String,
    /// Why: the `error` of its completion.
    pub error: Value,
    /// It can be replayed as it is.
    pub replayable: bool,
    /// Its latest attempts, the oldest first; at most 8.
    #[serde(rename = "history", skip_serializing_if = "Vec::is_empty")]
    pub past_attempts: Vec<PastAttempt>,
}

/// What was looked through without finding the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Searched {
    /// Waiting or delayed jobs.
    pub live: usize,
    /// Completions and dead letters.
    pub ended: usize,
    /// Nothing else was there to look through.
    pub everything: bool,
}
