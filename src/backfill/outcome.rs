//! The result of a row, kept in four bytes.
//!
//! A row has two completions at most. Its `CheckUser` finds an account (`needs_consent`), or does not succeed, or is followed by
//! the customer's `CreateUser`, whose completion then decides. A dead letter that was replayed has another completion; the
//! later one counts.

use crate::contract::{ErrorKind, JobType, Outcome, Status};
use serde_json::Value;
use std::collections::BTreeMap;

/// The outcome of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowOutcome {
    /// The customer had no account and has one now.
    Created,
    /// XCO refused to create the customer: it has an account, which the check before did not find.
    AlreadyExists,
    /// The customer has an account: linking it needs the customer's own one-time code.
    NeedsConsent,
    /// The customer has an account, which an earlier batch of the merchant created under the same reference.
    CreatedBefore,
    /// A job of the row failed for good; the error says why.
    Failed,
    /// Its deadline passed.
    Expired,
    /// An operator cancelled the job.
    Cancelled,
    /// A worker rejected a job of the row.
    Rejected,
    /// The row has ended, and its completion was trimmed before it was collected.
    Unknown,
    /// The customer has no account, and its creation has not ended.
    Checked,
    /// No job of the row has ended.
    Pending,
}

/// The error kinds in the order of their codes. New kinds are appended: results in Redis hold the codes.
const KINDS: [ErrorKind; 18] = [
    ErrorKind::InvalidJob,
    ErrorKind::MissingCallerId,
    ErrorKind::UnsupportedVersion,
    ErrorKind::Validation,
    ErrorKind::Unauthorized,
    ErrorKind::Forbidden,
    ErrorKind::NotFound,
    ErrorKind::Conflict,
    ErrorKind::InvalidCode,
    ErrorKind::Upstream,
    ErrorKind::Timeout,
    ErrorKind::Network,
    ErrorKind::RateLimited,
    ErrorKind::InDoubt,
    ErrorKind::CrashLoop,
    ErrorKind::Expired,
    ErrorKind::Cancelled,
    ErrorKind::Internal,
];
const NO_ERROR: u8 = b'-';
const FIRST_KIND: u8 = b'A';

impl RowOutcome {
    const ALL: [Self; 11] = [
        Self::Created,
        Self::AlreadyExists,
        Self::NeedsConsent,
        Self::CreatedBefore,
        Self::Failed,
        Self::Expired,
        Self::Cancelled,
        Self::Rejected,
        Self::Unknown,
        Self::Checked,
        Self::Pending,
    ];

    /// Its name in result files and summaries.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::AlreadyExists => "already_exists",
            Self::NeedsConsent => "needs_consent",
            Self::CreatedBefore => "created_before",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
            Self::Unknown => "unknown",
            Self::Checked | Self::Pending => "pending",
        }
    }

    /// The outcome's byte in a result. `backfill_record.lua` knows these bytes.
    const fn code(self) -> u8 {
        match self {
            Self::Created => b'c',
            Self::AlreadyExists => b'x',
            Self::NeedsConsent => b'e',
            Self::CreatedBefore => b'b',
            Self::Failed => b'f',
            Self::Expired => b't',
            Self::Cancelled => b'k',
            Self::Rejected => b'r',
            Self::Unknown => b'u',
            Self::Checked => b'a',
            Self::Pending => 0,
        }
    }

    /// Whether the row's last job has ended.
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Checked | Self::Pending)
    }
}

/// The result of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowResult {
    /// The outcome.
    pub outcome: RowOutcome,
    /// The error of a row without success.
    pub error: Option<ErrorKind>,
    /// Calls to XCO, of both jobs; each counts to 255.
    pub attempts: u32,
}

impl RowResult {
    /// Bytes of a result: outcome, error, calls of the row's `CheckUser`, calls of its `CreateUser`.
    pub const BYTES: usize = 4;

    /// Decodes the four bytes. With any other number of bytes, the row is pending.
    pub fn decode(bytes: &[u8]) -> Self {
        let [code, error, checks, creates] = <[u8; Self::BYTES]>::try_from(bytes).unwrap_or_default();
        let outcome = RowOutcome::ALL.into_iter().find(|outcome| outcome.code() == code);
        let kind = error.checked_sub(FIRST_KIND).and_then(|index| KINDS.get(usize::from(index)));
        Self {
            outcome: outcome.unwrap_or(RowOutcome::Pending),
            error: kind.copied(),
            attempts: u32::from(checks) + u32::from(creates),
        }
    }
}

/// What a completion changes in the result of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowUpdate {
    /// The row's number.
    pub row: u64,
    /// The bytes of outcome and error.
    pub code: [u8; 2],
    /// Calls of the row's `CheckUser`, if the completion is that job's.
    pub checks: Option<u8>,
    /// Calls of the row's `CreateUser`, if the completion is that job's.
    pub creates: Option<u8>,
}

/// What the completion of job `id` changes in the result of a row of `batch`; `None` if it belongs to no row. `event` is the
/// completion's event.
pub fn row_update(
    batch: &str,
    id: &str,
    job_type: Option<JobType>,
    status: Status,
    event: &Value,
) -> Option<RowUpdate> {
    let rest = id.strip_prefix(batch)?.strip_prefix('/')?;
    let (number, is_check) = match rest.strip_suffix("/absent") {
        Some(number) => (number, false),
        None => (rest, true),
    };
    let row = number.parse().ok().filter(|row| *row > 0)?;
    let outcome = match (status, event["outcome"].as_str().and_then(Outcome::from_name)) {
        (Status::Succeeded, Some(Outcome::Absent)) => RowOutcome::Checked,
        (Status::Succeeded, Some(Outcome::Exists)) => RowOutcome::NeedsConsent,
        (Status::Succeeded, Some(Outcome::Created)) => RowOutcome::Created,
        (Status::Succeeded, Some(Outcome::AlreadyExists)) => RowOutcome::AlreadyExists,
        (Status::Succeeded, _) => return None,
        (Status::Failed, _) => RowOutcome::Failed,
        (Status::Expired, _) => RowOutcome::Expired,
        (Status::Cancelled, _) => RowOutcome::Cancelled,
        (Status::Rejected, _) => RowOutcome::Rejected,
    };
    let wanted = if is_check { JobType::CheckUser } else { JobType::CreateUser };
    if job_type != Some(wanted) {
        return None;
    }
    let kind = event["error"]["kind"].as_str();
    let kind = kind.and_then(|kind| KINDS.iter().position(|known| known.as_str() == kind));
    let error = kind.and_then(|index| u8::try_from(index).ok()).map_or(NO_ERROR, |index| FIRST_KIND + index);
    let attempts = u8::try_from(event["attempts"].as_u64().unwrap_or(0)).unwrap_or(u8::MAX);
    Some(RowUpdate {
        row,
        code: [outcome.code(), error],
        checks: is_check.then_some(attempts),
        creates: (!is_check).then_some(attempts),
    })
}

/// Number of rows by outcome, and of rows without success by error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutcomeCounts {
    /// Number of rows by [`RowOutcome::as_str`], without rows that have not ended.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Number of rows by [`ErrorKind::as_str`].
    pub errors: BTreeMap<&'static str, u64>,
    /// Number of rows whose `CheckUser` has ended.
    pub looked_up: u64,
}

impl OutcomeCounts {
    /// Adds every result in `bytes`.
    pub fn add(&mut self, bytes: &[u8]) {
        for result in bytes.chunks(RowResult::BYTES).map(RowResult::decode) {
            self.looked_up += u64::from(result.outcome != RowOutcome::Pending);
            if !result.outcome.is_final() {
                continue;
            }
            *self.outcomes.entry(result.outcome.as_str()).or_default() += 1;
            if let Some(error) = result.error {
                *self.errors.entry(error.as_str()).or_default() += 1;
            }
        }
    }

    /// Number of rows that have ended.
    pub fn total(&self) -> u64 {
        self.outcomes.values().sum()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn updated(id: &str, job_type: JobType, status: Status, event: &Value) -> Option<RowUpdate> {
        row_update("b", id, Some(job_type), status, event)
    }

    fn decoded(update: &RowUpdate) -> RowResult {
        RowResult::decode(&[update.code[0], update.code[1], update.checks.unwrap_or(0), update.creates.unwrap_or(0)])
    }

    #[test]
    fn a_completion_updates_its_row() {
        let event = json!({"outcome": "absent", "attempts": 3});
        let update = updated("b/12", JobType::CheckUser, Status::Succeeded, &event).unwrap();
        assert_eq!((update.row, update.checks, update.creates), (12, Some(3), None));
        assert_eq!(decoded(&update).outcome, RowOutcome::Checked);
        let event = json!({"error": {"kind": "upstream"}, "attempts": 900});
        let update = updated("b/12/absent", JobType::CreateUser, Status::Failed, &event).unwrap();
        let wanted = RowResult { outcome: RowOutcome::Failed, error: Some(ErrorKind::Upstream), attempts: 255 };
        assert_eq!((update.row, update.checks, decoded(&update)), (12, None, wanted));
    }

    #[test]
    fn completions_of_other_jobs_update_no_row() {
        for (id, job_type) in [
            ("b", JobType::CheckUser),
            ("bb/1", JobType::CheckUser),
            ("b/x", JobType::CheckUser),
            ("b/0", JobType::CheckUser),
            ("b/1/exists", JobType::CheckUser),
            ("b/1", JobType::StartOtp),
            ("b/1", JobType::CreateUser),
            ("b/99999999999999999999", JobType::CheckUser),
        ] {
            let update = updated(id, job_type, Status::Failed, &json!({"attempts": 1}));
            assert_eq!(update, None, "{id} {job_type}");
        }
    }

    #[test]
    fn every_kind_of_error_has_a_code_of_its_own() {
        for kind in KINDS {
            let event = json!({"error": {"kind": kind.as_str()}, "attempts": 1});
            let update = updated("b/1", JobType::CheckUser, Status::Expired, &event).unwrap();
            assert_eq!(decoded(&update).error, Some(kind));
        }
    }

    #[test]
    fn a_tally_counts_what_has_ended() {
        let mut tally = OutcomeCounts::default();
        tally.add(b"\0\0\0\0a-\x01\0c-\x01\x01c-\x01\x01fJ\x08\0e-\x01\0");
        assert_eq!((tally.total(), tally.looked_up), (4, 5));
        assert_eq!(tally.outcomes, [("created", 2), ("failed", 1), ("needs_consent", 1)].into());
        assert_eq!(tally.errors, [("upstream", 1)].into());
    }
}
