//! Which letters are meant.

use super::facts::Facts;
use crate::{
    cli::values::parse_job_type,
    config::parse_duration,
    contract::{EntryId, ErrorKind, JobType, format_ms},
    queue::dead::Stretch,
};
use clap::Args;
use serde_json::{Value, json};
use std::{str::FromStr, time::Duration};

/// Flags that say which letters are meant: those that fit all of them.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Which letters")]
pub(super) struct Filter {
    /// Of these types
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_job_type, value_delimiter = ',')]
    pub job_type: Vec<JobType>,
    /// With these kinds of error: `upstream`, `timeout`, `invalid_job`, …
    #[arg(long, value_name = "KIND", value_parser = parse_kind, value_delimiter = ',')]
    pub error: Vec<ErrorKind>,
    /// Whose last answer had this status: `503`, or `5xx`
    #[arg(long, value_name = "STATUS")]
    pub http_status: Option<Statuses>,
    /// Whose problem document has this type, or one that ends with `/` and this
    #[arg(long, value_name = "TYPE")]
    pub problem: Option<String>,
    /// Of this batch
    #[arg(long, value_name = "NAME")]
    pub batch: Option<String>,
    /// Of this caller: the job's `caller_id`, else its customer reference
    #[arg(long, value_name = "CALLER")]
    pub caller: Option<String>,
    /// Of this customer
    #[arg(long, value_name = "REFERENCE")]
    pub customer_reference: Option<String>,
    /// From then on: RFC 3339, or so long ago (`2h`)
    #[arg(long, value_name = "WHEN")]
    pub since: Option<Moment>,
    /// Until then: RFC 3339, or so long ago
    #[arg(long, value_name = "WHEN")]
    pub until: Option<Moment>,
    /// At least so old
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, conflicts_with = "until")]
    pub older_than: Option<Duration>,
    /// With this text somewhere in the job or the error, as their JSON has it
    #[arg(long, value_name = "TEXT")]
    pub text: Option<String>,
    /// Of the job with this id
    #[arg(long, value_name = "ID")]
    pub id: Vec<String>,
    /// That may be replayed as they are
    #[arg(long)]
    pub replayable: bool,
}

/// One status, or a hundred of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Statuses {
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
            _ => Err("a status such as 503, or 5xx".to_owned()),
        }
    }
}

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// Milliseconds since 1970.
    At(u64),
    /// So long ago.
    Ago(Duration),
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(ago) = parse_duration(text) {
            return Ok(Self::Ago(ago));
        }
        let at = text.parse::<jiff::Timestamp>().ok().and_then(|at| u64::try_from(at.as_millisecond()).ok());
        at.map(Self::At).ok_or_else(|| "RFC 3339 such as 2026-01-31T09:00:00Z, or an age such as 2h".to_owned())
    }
}

impl Moment {
    fn ms(self, now_ms: u64) -> u64 {
        match self {
            Self::At(ms) => ms,
            Self::Ago(ago) => now_ms.saturating_sub(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

fn parse_kind(text: &str) -> Result<ErrorKind, String> {
    serde_json::from_value(Value::from(text)).map_err(|_| "no kind of error; `--by error.kind` lists them".to_owned())
}

impl Filter {
    /// The stretch of a partition's letters that can fit, when its newest is `newest`; `None` if none can.
    pub(super) fn stretch(&self, now_ms: u64, newest: EntryId) -> Option<Stretch> {
        let first = EntryId { ms: self.since.map_or(0, |since| since.ms(now_ms)), seq: 0 };
        let until = self.until.or(self.older_than.map(Moment::Ago));
        let last = until.map_or(newest, |until| newest.min(EntryId { ms: until.ms(now_ms), seq: u64::MAX }));
        (first <= last).then_some(Stretch { first, last })
    }

    /// Whether a letter of that stretch fits. What is cheapest to tell is asked first.
    pub(super) fn wants(&self, facts: &Facts<'_>) -> bool {
        let letter = facts.letter;
        let is = |wanted: &Option<String>, fact: &dyn Fn() -> Option<String>| {
            wanted.as_ref().is_none_or(|wanted| fact().as_ref() == Some(wanted))
        };
        (!self.replayable || letter.replayable)
            && (self.id.is_empty() || self.id.contains(&letter.id))
            && (self.job_type.is_empty() || self.job_type.iter().any(|wanted| wanted.as_str() == letter.job_type))
            && self.text.as_ref().is_none_or(|text| letter.job.contains(text) || letter.error.contains(text))
            && (self.error.is_empty() || facts.error_kind().is_some_and(|kind| self.error.contains(&kind)))
            && self.http_status.is_none_or(|Statuses { first, last }| {
                facts.http_status().is_some_and(|status| (first..=last).contains(&status))
            })
            && self.problem.as_ref().is_none_or(|wanted| {
                let ends = |found: &str| found.strip_suffix(wanted.as_str()).is_some_and(|rest| rest.ends_with('/'));
                facts.problem().is_some_and(|found| found == wanted.as_str() || ends(&found))
            })
            && is(&self.batch, &|| facts.batch().map(Into::into))
            && is(&self.customer_reference, &|| facts.customer_reference().map(Into::into))
            && is(&self.caller, &|| facts.caller().map(Into::into))
    }

    /// Whether every letter fits.
    pub(super) fn is_empty(&self) -> bool {
        self.only_time() && self.since.is_none() && self.until.is_none() && self.older_than.is_none()
    }

    /// Whether nothing but the stretch decides.
    pub(super) fn only_time(&self) -> bool {
        let Self {
            job_type, error, http_status, problem, batch, caller, customer_reference, text, id, replayable, ..
        } = self;
        let lists = job_type.is_empty() && error.is_empty() && id.is_empty();
        let texts = [problem, batch, caller, customer_reference, text].into_iter().all(Option::is_none);
        lists && texts && http_status.is_none() && !replayable
    }

    /// For the audit stream: what may be about a person is said to have been asked for, and not what it was.
    pub(super) fn recorded(&self, now_ms: u64) -> Value {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{super::facts::letter, *};
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        filter: Filter,
    }

    fn filter(flags: &str) -> Filter {
        Command::try_parse_from(format!("x {flags}").split_whitespace()).ok().unwrap().filter
    }

    #[test]
    fn a_letter_fits_what_is_asked_for_and_nothing_else() {
        let one = letter(
            r#"{"batch":"b","caller_id":"192.0.2.7","customer_reference":"r","args":{"email":"ada@example.com"}}"#,
            r#"{"kind":"upstream","http_status":503,"problem":{"type":"https://x/problems/busy"}}"#,
        );
        let facts = Facts::new(&one);
        for flags in [
            "",
            "--type CheckUser",
            "--type StartOtp,CheckUser --error timeout,upstream",
            "--http-status 503 --problem busy",
            "--http-status 5xx --problem https://x/problems/busy",
            "--batch b --caller 192.0.2.7 --customer-reference r --text ada@ --id a --id z --replayable",
        ] {
            assert!(filter(flags).wants(&facts), "{flags}");
        }
        for flags in [
            "--type StartOtp",
            "--error timeout",
            "--http-status 500",
            "--http-status 4xx",
            "--problem usy",
            "--batch c",
            "--caller r",
            "--customer-reference s",
            "--text bob",
            "--id b",
        ] {
            assert!(!filter(flags).wants(&facts), "{flags}");
        }
        for wrong in ["--http-status 9xx", "--http-status 42", "--since tomorrow", "--error oops", "--type X"] {
            assert!(Command::try_parse_from(format!("x {wrong}").split_whitespace()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_bound_the_stretch_and_never_go_past_the_newest() {
        let newest = EntryId { ms: 5_000, seq: 3 };
        let of = |flags: &str| filter(flags).stretch(10_000, newest).map(|s| (s.first.ms, s.last.ms, s.last.seq));
        assert_eq!(of(""), Some((0, 5_000, 3)));
        assert_eq!(of("--since 6s"), Some((4_000, 5_000, 3)));
        assert_eq!(of("--older-than 6s"), Some((0, 4_000, u64::MAX)));
        assert_eq!(of("--until 1970-01-01T00:00:02Z --since 9s"), Some((1_000, 2_000, u64::MAX)));
        assert_eq!(of("--since 1s"), None);
    }

    #[test]
    fn what_is_recorded_is_about_nobody() {
        let recorded = filter("--text ada@example.com --caller 192.0.2.7 --customer-reference r --type CheckUser")
            .recorded(0)
            .to_string();
        assert!(!recorded.contains("ada") && !recorded.contains("192"), "{recorded}");
        assert!(recorded.contains("CheckUser") && recorded.contains(r#""text":"given""#), "{recorded}");
    }
}
