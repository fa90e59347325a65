//! A parsed and valid job. Later code does not check it again.

use super::{Args, CallerId, CustomerReference, JobId, JobType, MerchantId, Outcome};
use std::fmt;

/// Maximum size of a job in bytes of UTF-8 (contract §2).
pub const MAX_JOB_BYTES: usize = 64 * 1024;

/// A valid child job that is enqueued when its parent ends with `outcome`.
///
/// `Debug` leaves the JSON out because arguments are personal data.
#[derive(Clone, PartialEq)]
pub struct Next {
    /// The outcome of the parent that causes this child to be enqueued.
    pub outcome: Outcome,
    /// The id of the child: its own, or the derived one.
    pub id: String,
    /// The complete JSON of the child, including its `id`, `caller_id` and everything it inherits.
    pub job: String,
}

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").field("outcome", &self.outcome).field("id", &self.id).finish_non_exhaustive()
    }
}

/// A valid job.
///
/// `Debug` leaves out what may be personal data: `meta`, whose text is the producer's own, and the JSON of the
/// children.
#[derive(Clone, PartialEq)]
pub struct Job {
    /// The producer's id. `None` if the job has only its default id.
    pub id: Option<JobId>,
    /// The type. It always matches the variant of `args`.
    pub job_type: JobType,
    /// The validated arguments.
    pub args: Args,
    /// `caller_id`, as the producer wrote it.
    pub caller_id: Option<CallerId>,
    /// The caller whose limit and partition the job uses: `caller_id`, else the customer reference.
    pub effective_caller: Option<CallerId>,
    /// `customer_reference` of the job itself, not the one in its arguments.
    pub customer_reference: Option<CustomerReference>,
    /// `merchant_id` of the job itself, without the configured default.
    pub merchant_id: Option<MerchantId>,
    /// `ttl_ms`: time to live in milliseconds. `None` means the default of the type.
    pub ttl_ms: Option<u64>,
    /// `run_at`, in milliseconds since 1970.
    pub run_at_ms: Option<u64>,
    /// `max_attempts`. `None` means the type's retry policy.
    pub max_attempts: Option<u32>,
    /// `reply`: whether the completion is also pushed to the job's reply key.
    pub reply: bool,
    /// `batch`: the name of the batch that the job belongs to.
    pub batch: Option<String>,
    /// `meta`, as the JSON object in the job.
    pub meta: Option<serde_json::Map<String, serde_json::Value>>,
    /// `traceparent`, if it is valid.
    pub traceparent: Option<String>,
    /// `tracestate`, only together with a valid `traceparent`.
    pub tracestate: Option<String>,
    /// The children, at most one for each outcome.
    pub next: Vec<Next>,
    /// Whether the job or any of its children carries a code. Such a job can never be replayed.
    pub carries_code: bool,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("id", &self.id)
            .field("args", &self.args)
            .field("caller_id", &self.caller_id)
            .field("merchant_id", &self.merchant_id)
            .field("ttl_ms", &self.ttl_ms)
            .field("run_at_ms", &self.run_at_ms)
            .field("max_attempts", &self.max_attempts)
            .field("reply", &self.reply)
            .field("batch", &self.batch)
            .field("next", &self.next)
            .field("carries_code", &self.carries_code)
            .finish_non_exhaustive()
    }
}
