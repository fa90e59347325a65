//! Bytes → [`Job`], or every fault of them at once.

use super::{CallerId, CustomerReference, ErrorKind, Fault, Job, JobType, MerchantId};

/// The most a job may weigh, in bytes of UTF-8 (contract §2).
pub const MAX_JOB_BYTES: usize = 64 * 1024;

/// What parsing needs to know beside the bytes.
#[derive(Debug, Clone, Copy)]
pub struct ParseContext<'a> {
    /// `limits.allow_missing_caller_id`
    pub allow_missing_caller_id: bool,
    /// The id the job has if it names none (its origin): children's ids derive from it.
    pub default_id: &'a str,
    /// How many generations above this job (0 for a producer's own): at most 4 below the first.
    pub generation: u8,
}

/// A job that cannot be run: why, and what of it could be read, so that its completion can be told apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejection {
    /// `invalid_job`, `missing_caller_id` or `unsupported_version`.
    pub kind: ErrorKind,
    /// Every fault, in the order of the document.
    pub faults: Vec<Fault>,
    /// The id, where a valid one could be read.
    pub id: Option<super::JobId>,
    /// The type, where a known one could be read.
    pub job_type: Option<JobType>,
    /// Where valid.
    pub caller_id: Option<CallerId>,
    /// Where valid.
    pub customer_reference: Option<CustomerReference>,
    /// Where valid.
    pub merchant_id: Option<MerchantId>,
    /// Where valid.
    pub batch: Option<String>,
    /// Where valid.
    pub meta: Option<serde_json::Map<String, serde_json::Value>>,
    /// Where valid.
    pub traceparent: Option<String>,
    /// `reply: true` and an id to reply to.
    pub reply: bool,
}

/// Parses and validates a job, reporting every fault at once.
///
/// Never panics, on any bytes; time and memory are linear in `bytes`, which may be of any length (more than
/// [`MAX_JOB_BYTES`] is a fault).
pub fn parse_job(bytes: &[u8], context: ParseContext<'_>) -> Result<Job, Box<Rejection>> {
    let _ = (bytes, context);
    todo!("contract helper")
}
