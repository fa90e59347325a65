//! A parsed and valid job. Later code does not check it again.

use super::{Args, CallerId, CustomerReference, JobId, MerchantId, Outcome};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The five job types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum JobType {
    /// Looks up a customer: `GET /v1/users/exists`.
    CheckUser,
    /// Creates a user: `POST …/users`.
    CreateUser,
    /// Sends a one-time code: `POST …/passwordless/start`.
    StartOtp,
    /// Verifies a one-time code: `POST …/passwordless/verify`.
    VerifyOtp,
    /// Links a user to the merchant: `POST …/consents`. If the job carries a code, it is verified first.
    FinalizeConsent,
}

impl JobType {
    /// All types, in the order of the sign-up flow.
    pub const ALL: [Self; 5] =
        [Self::CheckUser, Self::CreateUser, Self::StartOtp, Self::VerifyOtp, Self::FinalizeConsent];

    /// The name used in jobs and completions.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CheckUser => "CheckUser",
            Self::CreateUser => "CreateUser",
            Self::StartOtp => "StartOtp",
            Self::VerifyOtp => "VerifyOtp",
            Self::FinalizeConsent => "FinalizeConsent",
        }
    }

    /// The name used in configuration keys, such as `check_user`.
    pub const fn config_key(self) -> &'static str {
        match self {
            Self::CheckUser => "check_user",
            Self::CreateUser => "create_user",
            Self::StartOtp => "start_otp",
            Self::VerifyOtp => "verify_otp",
            Self::FinalizeConsent => "finalize_consent",
        }
    }

    /// Returns the type with this name, `None` for any other text.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|job_type| job_type.as_str() == name)
    }
}

impl fmt::Display for JobType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A valid child job that is enqueued when its parent ends with `outcome`.
///
/// `Debug` leaves the JSON out because arguments are personal data.
#[derive(Clone, PartialEq)]
pub struct Next {
    /// The outcome of the parent that causes this child to be enqueued.
    pub outcome: Outcome,
    /// The complete JSON of the child, including its `id`, `caller_id` and everything it inherits.
    pub job: String,
}

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").field("outcome", &self.outcome).finish_non_exhaustive()
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
