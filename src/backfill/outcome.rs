//! What became of a row: two completions at most, kept in four bytes.
//!
//! A row's check ends as `NeedsConsent`, or without success, or is followed by the customer's creation, which then says how
//! the row ended. A dead letter that was replayed has another completion: the later one counts.

use crate::{
    completions::Completed,
    contract::{ErrorKind, JobType, Outcome, Status},
    queue::backfill::{RESULT_BYTES, Update},
};
use std::collections::BTreeMap;

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowOutcome {
    /// The customer had no account and has one now.
    Created,
    /// XCO refused to create the customer because it has an account, which the check before did not find.
    AlreadyExists,
    /// The customer has an account: linking it needs the customer's own one-time code.
    NeedsConsent,
    /// Given up; the error tells.
    Failed,
    /// Its deadline passed.
    Expired,
    /// An operator cancelled it.
    Cancelled,
    /// The worker took it for no valid job.
    Rejected,
    /// It has ended, and its completion was trimmed before it was collected.
    Unknown,
    /// Checked: there is no account; its creation has not ended.
    Checked,
    /// Nothing has ended yet.
    Pending,
}

/// Everything that can be in a result, the error kinds in the order of their codes: only ever to be appended to.
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
    const ALL: [Self; 10] = [
        Self::Created,
        Self::AlreadyExists,
        Self::NeedsConsent,
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
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
            Self::Unknown => "unknown",
            Self::Checked | Self::Pending => "pending",
        }
    }

    /// As `record.lua` knows it.
    const fn code(self) -> u8 {
        match self {
            Self::Created => b'c',
            Self::AlreadyExists => b'x',
            Self::NeedsConsent => b'e',
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

/// A row's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowResult {
    /// How it ended, if it did.
    pub outcome: RowOutcome,
    /// Why not better.
    pub error: Option<ErrorKind>,
    /// Calls to XCO, of both jobs; each counts to 255.
    pub attempts: u32,
}

impl RowResult {
    /// From the four bytes; a row beyond their end is pending.
    pub fn decode(bytes: &[u8]) -> Self {
        let [code, error, checks, creates] = <[u8; RESULT_BYTES]>::try_from(bytes).unwrap_or_default();
        let outcome = RowOutcome::ALL.into_iter().find(|outcome| outcome.code() == code);
        let kind = error.checked_sub(FIRST_KIND).and_then(|index| KINDS.get(usize::from(index)));
        Self {
            outcome: outcome.unwrap_or(RowOutcome::Pending),
            error: kind.copied(),
            attempts: u32::from(checks) + u32::from(creates),
        }
    }
}

/// What a completion says about a row of `batch`; `None` if it is about none.
pub(super) fn update(batch: &str, completed: &Completed) -> Option<Update> {
    let rest = completed.id.strip_prefix(batch)?.strip_prefix('/')?;
    let (number, is_check) = match rest.strip_suffix("/absent") {
        Some(number) => (number, false),
        None => (rest, true),
    };
    let row = number.parse().ok().filter(|row| *row > 0)?;
    let event = &completed.event;
    let outcome = match (completed.status, event["outcome"].as_str().and_then(Outcome::from_name)) {
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
    if completed.job_type != Some(wanted) {
        return None;
    }
    let kind = event["error"]["kind"].as_str();
    let kind = kind.and_then(|kind| KINDS.iter().position(|known| known.as_str() == kind));
    let error = kind.and_then(|index| u8::try_from(index).ok()).map_or(NO_ERROR, |index| FIRST_KIND + index);
    let attempts = u8::try_from(event["attempts"].as_u64().unwrap_or(0)).unwrap_or(u8::MAX);
    Some(Update {
        row,
        code: [outcome.code(), error],
        checks: is_check.then_some(attempts),
        creates: (!is_check).then_some(attempts),
    })
}

/// Rows by outcome, and those without success by error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// By [`RowOutcome::as_str`]; rows that have not ended are left out.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// By [`ErrorKind::as_str`].
    pub errors: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// Counts every result in `bytes`.
    pub fn add(&mut self, bytes: &[u8]) {
        for result in bytes.chunks(RESULT_BYTES).map(RowResult::decode).filter(|result| result.outcome.is_final()) {
            *self.outcomes.entry(result.outcome.as_str()).or_default() += 1;
            if let Some(error) = result.error {
                *self.errors.entry(error.as_str()).or_default() += 1;
            }
        }
    }

    /// Rows that have ended.
    pub fn total(&self) -> u64 {
        self.outcomes.values().sum()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::contract::EntryId;
    use serde_json::{Value, json};

    fn completed(id: &str, job_type: JobType, status: Status, event: Value) -> Completed {
        let entry_id = EntryId { ms: 1, seq: 0 };
        Completed { partition: 0, entry_id, id: id.to_owned(), job_type: Some(job_type), status, event }
    }

    fn decoded(update: &Update) -> RowResult {
        RowResult::decode(&[update.code[0], update.code[1], update.checks.unwrap_or(0), update.creates.unwrap_or(0)])
    }

    #[test]
    fn a_completion_tells_its_row() {
        let event = json!({"outcome": "absent", "attempts": 3});
        let told = update("b", &completed("b/12", JobType::CheckUser, Status::Succeeded, event)).unwrap();
        assert_eq!((told.row, told.checks, told.creates), (12, Some(3), None));
        assert_eq!(decoded(&told).outcome, RowOutcome::Checked);
        let event = json!({"error": {"kind": "upstream"}, "attempts": 900});
        let told = update("b", &completed("b/12/absent", JobType::CreateUser, Status::Failed, event)).unwrap();
        let wanted = RowResult { outcome: RowOutcome::Failed, error: Some(ErrorKind::Upstream), attempts: 255 };
        assert_eq!((told.row, told.checks, decoded(&told)), (12, None, wanted));
    }

    #[test]
    fn what_is_about_no_row_is_left_alone() {
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
            let told = update("b", &completed(id, job_type, Status::Failed, json!({"attempts": 1})));
            assert_eq!(told, None, "{id} {job_type}");
        }
    }

    #[test]
    fn every_kind_of_error_has_a_code_of_its_own() {
        for kind in KINDS {
            let event = json!({"error": {"kind": kind.as_str()}, "attempts": 1});
            let told = update("b", &completed("b/1", JobType::CheckUser, Status::Expired, event)).unwrap();
            assert_eq!(decoded(&told).error, Some(kind));
        }
    }

    #[test]
    fn a_tally_counts_what_has_ended() {
        let mut tally = Tally::default();
        tally.add(b"\0\0\0\0a-\x01\0c-\x01\x01c-\x01\x01fJ\x08\0e-\x01\0");
        assert_eq!(tally.total(), 4);
        assert_eq!(tally.outcomes, [("created", 2), ("failed", 1), ("needs_consent", 1)].into());
        assert_eq!(tally.errors, [("upstream", 1)].into());
    }
}
