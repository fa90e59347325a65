//! Selects dead letters.

use super::{DeadLetterView, IdRange};
use crate::{
    config::parse_duration,
    contract::{EntryId, ErrorKind, JobType, format_ms, millis},
};
use serde_json::{Value, json};
use std::{str::FromStr, time::Duration};

/// Selects the dead letters that match every field that is set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Any of these job types. Empty means all.
    pub job_type: Vec<JobType>,
    /// Any of these kinds of error, such as `upstream`, `timeout` or `invalid_job`. Empty means all.
    pub error: Vec<ErrorKind>,
    /// Whose jobs ended so
    pub status: Vec<DeadStatus>,
    /// XCO's last answer had this status, such as `503` or `5xx`.
    pub http_status: Option<Statuses>,
    /// The problem document has this type, or a type that ends with `/` and this text.
    pub problem: Option<String>,
    /// The job belongs to this batch.
    pub batch: Option<String>,
    /// The job has this caller: its `caller_id`, or else its customer reference.
    pub caller: Option<String>,
    /// The job is about this customer.
    pub customer_reference: Option<String>,
    /// Written at or after this time: RFC 3339, or an age such as `2h`.
    pub since: Option<Moment>,
    /// Written at or before this time: RFC 3339, or an age such as `2h`.
    pub until: Option<Moment>,
    /// Written at least this long ago.
    pub older_than: Option<Duration>,
    /// This text occurs in the JSON of the job or of the error.
    pub text: Option<String>,
    /// Any of these job ids. Empty means all.
    pub id: Vec<String>,
    /// Only dead letters that can be replayed without an edit.
    pub replayable: bool,
}

/// How the job of a dead letter ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadStatus {
    /// It failed: the status of its completion is `failed`.
    Failed,
    /// It was rejected before any call: the status of its completion is `rejected`.
    Rejected,
    /// It failed because it brought workers down too often. [`Self::Failed`] holds these as well.
    CrashLoop,
}

impl DeadStatus {
    /// Both shared buckets.
    pub const ALL: [Self; 3] = [Self::Failed, Self::Rejected, Self::CrashLoop];

    /// The name in flags.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::CrashLoop => "crash_loop",
        }
    }

    /// Whether a job with this error ended so.
    fn fits(self, kind: ErrorKind) -> bool {
        match self {
            Self::Failed => !kind.is_rejection(),
            Self::Rejected => kind.is_rejection(),
            Self::CrashLoop => kind == ErrorKind::CrashLoop,
        }
    }
}

/// A range of HTTP statuses: a single one, or a hundred such as `5xx`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statuses {
    first: u16,
    last: u16,
}

impl FromStr for Statuses {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hundred = text.strip_suffix("xx").and_then(|digit| digit.parse::<u16>().ok());
        match (hundred, text.parse::<u16>()) {
            (Some(digit @ 1..=5), _) => Ok(Self { first: digit * 100, last: digit * 100 + 99 }),
            (None, Ok(status @ 100..=599)) => Ok(Self { first: status, last: status }),
            _ => Err("expected a status such as 503, or 5xx".to_owned()),
        }
    }
}

/// A time, absolute or relative to now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Milliseconds since 1970.
    At(u64),
    /// This long before now.
    Ago(Duration),
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(ago) = parse_duration(text) {
            return Ok(Self::Ago(ago));
        }
        let at = text.parse::<jiff::Timestamp>().ok().and_then(|at| u64::try_from(at.as_millisecond()).ok());
        at.map(Self::At)
            .ok_or_else(|| "expected a time in RFC 3339 such as 2026-01-31T09:00:00Z, or an age such as 2h".to_owned())
    }
}

impl Moment {
    /// The time in milliseconds since 1970, if it is `now_ms` now.
    pub fn ms(self, now_ms: u64) -> u64 {
        match self {
            Self::At(ms) => ms,
            Self::Ago(ago) => now_ms.saturating_sub(millis(ago)),
        }
    }
}

impl Filter {
    /// Returns the range of entry ids in a partition that can match. `newest` is the partition's newest entry. `None`
    /// if no dead letter can match.
    pub fn stretch(&self, now_ms: u64, newest: EntryId) -> Option<IdRange> {
        let first = EntryId { ms: self.since.map_or(0, |since| since.ms(now_ms)), seq: 0 };
        let until = self.until.or(self.older_than.map(Moment::Ago));
        let last = until.map_or(newest, |until| newest.min(EntryId { ms: until.ms(now_ms), seq: u64::MAX }));
        (first <= last).then_some(IdRange { first, last })
    }

    /// Whether a dead letter within that range matches. The cheapest tests come first.
    pub fn wants(&self, view: &DeadLetterView<'_>) -> bool {
        let letter = view.letter;
        let is = |wanted: &Option<String>, fact: &dyn Fn() -> Option<String>| {
            wanted.as_ref().is_none_or(|wanted| fact().as_ref() == Some(wanted))
        };
        (!self.replayable || letter.replayable)
            && (self.id.is_empty() || self.id.contains(&letter.id))
            && (self.job_type.is_empty() || self.job_type.iter().any(|wanted| wanted.as_str() == letter.job_type))
            && self.text.as_ref().is_none_or(|text| letter.job.contains(text) || letter.error.contains(text))
            && (self.error.is_empty() || view.error_kind().is_some_and(|kind| self.error.contains(&kind)))
            && (self.status.is_empty()
                || view.error_kind().is_some_and(|kind| self.status.iter().any(|status| status.fits(kind))))
            && self.http_status.is_none_or(|Statuses { first, last }| {
                view.http_status().is_some_and(|status| (first..=last).contains(&status))
            })
            && self.problem.as_ref().is_none_or(|wanted| {
                let ends = |found: &str| found.strip_suffix(wanted.as_str()).is_some_and(|rest| rest.ends_with('/'));
                view.problem().is_some_and(|found| found == wanted.as_str() || ends(&found))
            })
            && is(&self.batch, &|| view.batch().map(Into::into))
            && is(&self.customer_reference, &|| view.customer_reference().map(Into::into))
            && is(&self.caller, &|| view.caller().map(Into::into))
    }

    /// Whether every dead letter matches.
    pub fn is_empty(&self) -> bool {
        self.only_time() && self.since.is_none() && self.until.is_none() && self.older_than.is_none()
    }

    /// Whether the range of entry ids decides alone.
    pub fn only_time(&self) -> bool {
        let Self {
            job_type,
            error,
            status,
            http_status,
            problem,
            batch,
            caller,
            customer_reference,
            text,
            id,
            replayable,
            ..
        } = self;
        let lists = job_type.is_empty() && error.is_empty() && status.is_empty() && id.is_empty();
        let texts = [problem, batch, caller, customer_reference, text].into_iter().all(Option::is_none);
        lists && texts && http_status.is_none() && !replayable
    }

    /// The filter for the audit stream. For a field that may be personal data, it records only that the field was
    /// given.
    pub fn recorded(&self, now_ms: u64) -> Value {
        let names = |kinds: &[JobType]| kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>();
        let mut filter = json!({});
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                filter[name] = value;
            }
        };
        let moment = |moment: Moment| Value::from(format_ms(moment.ms(now_ms)));
        set("type", (!self.job_type.is_empty()).then(|| json!(names(&self.job_type))));
        let kinds: Vec<_> = self.error.iter().map(|kind| kind.as_str()).collect();
        set("error", (!kinds.is_empty()).then(|| json!(kinds)));
        let statuses: Vec<_> = self.status.iter().map(|status| status.as_str()).collect();
        set("status", (!statuses.is_empty()).then(|| json!(statuses)));
        set("http_status", self.http_status.map(|s| json!([s.first, s.last])));
        set("problem", self.problem.clone().map(Value::from));
        set("batch", self.batch.clone().map(Value::from));
        set("since", self.since.map(moment));
        set("until", self.until.or(self.older_than.map(Moment::Ago)).map(moment));
        set("id", (!self.id.is_empty()).then(|| json!(self.id)));
        set("replayable", self.replayable.then_some(Value::Bool(true)));
        for (name, given) in
            [("caller", &self.caller), ("customer_reference", &self.customer_reference), ("text", &self.text)]
        {
            set(name, given.as_ref().map(|_| Value::from("given")));
        }
        filter
    }
}
