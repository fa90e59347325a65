//! Selects dead letters.

use super::{DeadLetterView, IdRange};
use crate::{
    config::{format_duration, parse_duration},
    contract::{EntryId, ErrorKind, JobType, MerchantScope, format_ms, millis},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Value, json};
use std::{fmt, str::FromStr, time::Duration};

/// Selects the dead letters that match every field that is set.
///
/// Its JSON is what a program sends, `{"error":["upstream"],"since":"2h"}`. It never holds the merchants, which only a face may
/// set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Any of these job types. Empty means all.
    #[serde(rename = "type", skip_serializing_if = "Vec::is_empty")]
    pub job_type: Vec<JobType>,
    /// Any of these kinds of error, such as `upstream`, `timeout` or `invalid_job`. Empty means all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub error: Vec<ErrorKind>,
    /// Any of these ends of the job. Empty means all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<DeadStatus>,
    /// XCO's last answer had this status, such as `503` or `5xx`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_status: Option<Statuses>,
    /// The problem document has this type, or a type that ends with `/` and this text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The job belongs to this batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<String>,
    /// The job has this caller: its `caller_id`, or else its customer reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// The job is about this customer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer_reference: Option<String>,
    /// Written at or after this time: RFC 3339, or an age such as `2h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Moment>,
    /// Written at or before this time: RFC 3339, or an age such as `2h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Moment>,
    /// Written at least this long ago.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "as_duration",
        deserialize_with = "read_duration"
    )]
    pub older_than: Option<Duration>,
    /// This text occurs in the JSON of the job or of the error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Any of these job ids. Empty means all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub id: Vec<String>,
    /// Only dead letters that can be replayed without an edit.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub replayable: bool,
    /// Only those of these merchants.
    #[serde(skip)]
    pub merchants: MerchantScope,
}

/// Reads a text as one of the filter's values, for `Deserialize`.
fn from_text<'de, D: Deserializer<'de>, T: FromStr<Err = String>>(deserializer: D) -> Result<T, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
}

#[allow(clippy::ref_option, reason = "serde gives it so")]
fn as_duration<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    duration.map(format_duration).serialize(serializer)
}

fn read_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text: Option<String> = Option::deserialize(deserializer)?;
    text.map(|text| parse_duration(&text).map_err(de::Error::custom)).transpose()
}

/// How the job of a dead letter ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadStatus {
    /// It failed: the status of its completion is `failed`.
    Failed,
    /// It was rejected before any call: the status of its completion is `rejected`.
    Rejected,
    /// It failed because it brought workers down too often. [`Self::Failed`] holds these as well.
    CrashLoop,
}

impl DeadStatus {
    /// Every way in which the job of a dead letter ends.
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

/// `503` or `5xx`
impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}xx", self.first / 100) }
    }
}

impl Serialize for Statuses {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Statuses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer)
    }
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

/// `2h`, or RFC 3339
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(ms) => f.write_str(&format_ms(*ms)),
            Self::Ago(ago) => f.write_str(&format_duration(*ago)),
        }
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer)
    }
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
            && self.merchants.covers_tree(&letter.job)
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
            merchants,
            since: _,
            until: _,
            older_than: _,
        } = self;
        let lists = job_type.is_empty() && error.is_empty() && status.is_empty() && id.is_empty();
        let texts = [problem, batch, caller, customer_reference, text].into_iter().all(Option::is_none);
        lists && texts && http_status.is_none() && !replayable && merchants.is_all()
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
        set("merchants", self.merchants.ids().map(|ids| json!(ids.collect::<Vec<_>>())));
        for (name, given) in
            [("caller", &self.caller), ("customer_reference", &self.customer_reference), ("text", &self.text)]
        {
            set(name, given.as_ref().map(|_| Value::from("given")));
        }
        filter
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_filter_is_the_same_after_its_json() {
        let text = r#"{"type":["StartOtp"],"error":["in_doubt"],"status":["crash_loop"],"http_status":"5xx","since":"2h","until":"2026-01-31T09:05:07.042Z","older_than":"1m","id":["a"],"replayable":true}"#;
        let filter: Filter = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&filter).unwrap(), text);
        assert_eq!(filter.http_status, Some("5xx".parse().unwrap()));
        assert_eq!(serde_json::from_str::<Filter>("{}").unwrap(), Filter::default());
        for wrong in [
            r#"{"merchants":null}"#,
            r#"{"since":"soon"}"#,
            r#"{"error":["none"]}"#,
            r#"{"http_status":503}"#,
            r#"{"x":1}"#,
        ] {
            assert!(serde_json::from_str::<Filter>(wrong).is_err(), "{wrong}");
        }
    }
}
