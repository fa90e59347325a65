//! The `error` of a completion.

use super::JsonText;
use serde::{Deserialize, Serialize};

/// `error.kind` of a completion (contract §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// Rejected: the job is not valid.
    InvalidJob,
    /// Rejected: the type needs a caller and the job names none.
    MissingCallerId,
    /// Rejected: `v` is not 1.
    UnsupportedVersion,
    /// XCO answered that the request is invalid.
    Validation,
    /// XCO answered 401, even with a fresh token.
    Unauthorized,
    /// XCO answered that the call is not permitted.
    Forbidden,
    /// XCO knows no such merchant, user or challenge.
    NotFound,
    /// XCO answered 409 to a call other than `CreateUser`.
    Conflict,
    /// XCO answered that the code is wrong. The customer must be asked again.
    InvalidCode,
    /// XCO answered 5xx until the retries were used up.
    Upstream,
    /// XCO did not answer in time until the retries were used up.
    Timeout,
    /// XCO could not be reached until the retries were used up.
    Network,
    /// The deadline passed while the caller was over its limit or its bucket was closed by a 429 (status `expired`).
    RateLimited,
    /// The call may have taken effect, so it must not be repeated blindly.
    InDoubt,
    /// The job crashed workers too often.
    CrashLoop,
    /// The deadline passed before the job could finish.
    Expired,
    /// An operator cancelled the job.
    Cancelled,
    /// A fault inside the worker.
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

    /// The name used in completions, dead letters and metrics.
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

/// One fault of one field of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// JSON Pointer (RFC 6901) from the job's root, such as `/args/email` or `/next/absent/args/user/phone_number`.
    /// Empty for the whole job.
    pub pointer: String,
    /// What is wrong, and what would be valid. Never quotes the value.
    pub detail: String,
}

/// The `error` object of a completion.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobError {
    /// The kind of error, for programs.
    pub kind: ErrorKind,
    /// One sentence for a person, without personal data.
    pub message: String,
    /// The HTTP status of XCO's answer. Absent if XCO did not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    /// XCO's problem document, passed on with codes masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<JsonText>,
    /// The faulty fields of a rejected job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fields: Option<Vec<Fault>>,
    /// Whether the same job might succeed if it is enqueued again later.
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
