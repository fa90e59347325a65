//! What a failed call means: the one place where an HTTP status becomes a verdict.

use serde_json::Value;
use std::time::Duration;

/// What a failed call means for the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// 400, 422 and other 4xx: the request is wrong; never retried.
    Validation,
    /// 401 that a fresh token did not cure.
    Unauthorized,
    /// 403
    Forbidden,
    /// 404
    NotFound,
    /// 409, or a problem `type` listed in `xco.already_exists_types` (for `CreateUser` the job then succeeded).
    Conflict,
    /// An error answer to verify that means a wrong code.
    InvalidCode,
    /// 429: not a failed attempt.
    RateLimited,
    /// Answered 5xx (not 502 or 504): failed, with no effect; retry.
    Upstream,
    /// 502 or 504: a proxy gave up in between; the effect is unknown.
    Gateway,
    /// No answer in time, or an answer that broke off or could not be understood, after the request was sent: unknown.
    Timeout,
    /// The connection broke after the request was (perhaps) sent: the effect is unknown.
    Broken,
    /// The request was never sent: no connection, no token; no effect; retry.
    Network,
    /// A fault of our own in building the call.
    Internal,
}

impl FailureKind {
    /// Whether the call may have taken effect although it failed.
    pub const fn effect_unknown(self) -> bool {
        matches!(self, Self::Gateway | Self::Timeout | Self::Broken)
    }
}

/// A call that did not succeed.
#[derive(Debug, Clone, PartialEq)]
pub struct CallFailure {
    /// What it means.
    pub kind: FailureKind,
    /// The status XCO answered with.
    pub http_status: Option<u16>,
    /// XCO's problem document (bounded).
    pub problem: Option<Value>,
    /// `Retry-After`, either form, as a delay from now (bounded).
    pub retry_after: Option<Duration>,
    /// One sentence, without personal data.
    pub message: String,
}
