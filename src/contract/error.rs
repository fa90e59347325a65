//! What went wrong, as a completion says it.

use super::JsonText;
use serde::{Deserialize, Serialize};

/// `error.kind` of a completion (contract §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// Rejected: not a valid job.
    InvalidJob,
    /// Rejected: the type needs a caller and none was given.
    MissingCallerId,
    /// Rejected: another `v` than 1.
    UnsupportedVersion,
    /// XCO: the request is invalid.
    Validation,
    /// XCO: not authenticated, also after a fresh token.
    Unauthorized,
    /// XCO: not permitted.
    Forbidden,
    /// XCO: no such merchant, user or challenge.
    NotFound,
    /// XCO: 409, elsewhere than at `CreateUser`.
    Conflict,
    /// XCO: the code is wrong; ask the customer again.
    InvalidCode,
    /// Given up after retries: XCO answered 5xx.
    Upstream,
    /// Given up after retries: XCO did not answer in time.
    Timeout,
    /// Given up after retries: XCO could not be reached.
    Network,
    /// The deadline passed while the caller was over its limit or closed (status `expired`).
    RateLimited,
    /// The call may have taken effect and must not be repeated blindly.
    InDoubt,
    /// The job brought workers down too often.
    CrashLoop,
    /// The deadline passed.
    Expired,
    /// An operator cancelled it.
    Cancelled,
    /// A fault of the worker's own.
    Internal,
}

impl ErrorKind {
    /// Every kind.
    pub const ALL: [Self; 18] = [
        Self::InvalidJob,
        Self::MissingCallerId,
        Self::UnsupportedVersion,
        Self::Validation,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::Conflict,
        Self::InvalidCode,
        Self::Upstream,
        Self::Timeout,
        Self::Network,
        Self::RateLimited,
        Self::InDoubt,
        Self::CrashLoop,
        Self::Expired,
        Self::Cancelled,
        Self::Internal,
    ];

    /// Whether the job was rejected because of its own faults, before any call.
    pub const fn is_rejection(self) -> bool {
        matches!(self, Self::InvalidJob | Self::MissingCallerId | Self::UnsupportedVersion)
    }

    /// The name in completions, dead letters and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidJob => "invalid_job",
            Self::MissingCallerId => "missing_caller_id",
            Self::UnsupportedVersion => "unsupported_version",
            Self::Validation => "validation",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::InvalidCode => "invalid_code",
            Self::Upstream => "upstream",
            Self::Timeout => "timeout",
            Self::Network => "network",
            Self::RateLimited => "rate_limited",
            Self::InDoubt => "in_doubt",
            Self::CrashLoop => "crash_loop",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
        }
    }
}

/// One fault of one field. `pointer` is a JSON Pointer (RFC 6901) from the job's root; `detail` never quotes the value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Where: `/args/email`, `/next/absent/args/user/phone_number`; empty for the whole job.
    pub pointer: String,
    /// What is wrong, and what would be right.
    pub detail: String,
}

/// `error` of a completion.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobError {
    /// Which kind.
    pub kind: ErrorKind,
    /// One sentence for a person; no personal data.
    pub message: String,
    /// The status XCO answered with, where it answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    /// XCO's problem document, passed through (codes masked).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<JsonText>,
    /// The offending fields of a rejected job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fields: Option<Vec<Fault>>,
    /// Whether the same job, enqueued again later, might succeed.
    pub retryable: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_kind_is_missing_from_the_list() {
        for (place, kind) in ErrorKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place, "{}", kind.as_str());
        }
        assert_eq!(ErrorKind::ALL.len(), ErrorKind::Internal as usize + 1);
    }
}
