//! A job, parsed and valid: nothing downstream checks it again.

use super::{Args, CallerId, CustomerReference, JobId, MerchantId, Outcome};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The five job types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum JobType {
    /// `GET /v1/users/exists`
    CheckUser,
    /// `POST …/users`
    CreateUser,
    /// `POST …/passwordless/start`
    StartOtp,
    /// `POST …/passwordless/verify`
    VerifyOtp,
    /// `POST …/consents`, after a verify where the job carries a code
    FinalizeConsent,
}

impl JobType {
    /// All of them, in the order of the flow.
    pub const ALL: [Self; 5] =
        [Self::CheckUser, Self::CreateUser, Self::StartOtp, Self::VerifyOtp, Self::FinalizeConsent];

    /// The name in jobs and completions.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CheckUser => "CheckUser",
            Self::CreateUser => "CreateUser",
            Self::StartOtp => "StartOtp",
            Self::VerifyOtp => "VerifyOtp",
            Self::FinalizeConsent => "FinalizeConsent",
        }
    }

    /// The name in configuration keys: `check_user`.
    pub const fn config_key(self) -> &'static str {
        match self {
            Self::CheckUser => "check_user",
            Self::CreateUser => "create_user",
            Self::StartOtp => "start_otp",
            Self::VerifyOtp => "verify_otp",
            Self::FinalizeConsent => "finalize_consent",
        }
    }

    /// The type of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|job_type| job_type.as_str() == name)
    }
}

impl fmt::Display for JobType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

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
