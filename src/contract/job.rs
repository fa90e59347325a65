//! A job, parsed and valid: nothing downstream checks it again.

use super::{Args, CallerId, CustomerReference, JobId, JobType, MerchantId, Outcome};
use std::fmt;

/// The most a job may weigh, in bytes of UTF-8 (contract §2).
pub const MAX_JOB_BYTES: usize = 64 * 1024;

/// A child to enqueue when the parent ends with `outcome`: already merged with what it inherits, and valid.
///
/// Its `Debug` leaves the JSON out: arguments are personal data.
#[derive(Clone, PartialEq)]
pub struct Next {
    /// The parent's `outcome` on success, that brings this child about.
    pub outcome: Outcome,
    /// The child's job JSON, complete: `id`, `caller_id` and everything inherited written into it.
    pub job: String,
}

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").field("outcome", &self.outcome).finish_non_exhaustive()
    }
}

/// A valid job.
///
/// Its `Debug` leaves out what may be personal data: `meta`, whose text is the producer's own, and the children's JSON.
#[derive(Clone, PartialEq)]
pub struct Job {
    /// The producer's id, if it gave one.
    pub id: Option<JobId>,
    /// The type (always that of `args`).
    pub job_type: JobType,
    /// The arguments.
    pub args: Args,
    /// `caller_id` as given.
    pub caller_id: Option<CallerId>,
    /// Whose limit the job spends and whose partition it belongs to: `caller_id`, else the customer reference.
    pub effective_caller: Option<CallerId>,
    /// `customer_reference` of the job itself.
    pub customer_reference: Option<CustomerReference>,
    /// `merchant_id` of the job itself.
    pub merchant_id: Option<MerchantId>,
    /// `ttl_ms`
    pub ttl_ms: Option<u64>,
    /// `run_at`, in milliseconds since 1970.
    pub run_at_ms: Option<u64>,
    /// `max_attempts`
    pub max_attempts: Option<u32>,
    /// `reply`
    pub reply: bool,
    /// `batch`
    pub batch: Option<String>,
    /// `meta`, as the JSON object it was.
    pub meta: Option<serde_json::Map<String, serde_json::Value>>,
    /// A valid `traceparent`.
    pub traceparent: Option<String>,
    /// `tracestate`, only beside a valid `traceparent`.
    pub tracestate: Option<String>,
    /// Children by outcome.
    pub next: Vec<Next>,
    /// Whether a code stands anywhere in the job, `next` included: it can then never be replayed.
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
