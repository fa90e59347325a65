//! Types of flag values. Each value is checked while the command line is parsed.

use crate::{
    config::{format_duration, parse_duration},
    contract::{EntryId, JobType, Status, run_at_ms},
};
use std::{fmt, fs, io::Read, str::FromStr, time::Duration};

/// Maximum size of the file in `@FILE`: the maximum size of a job.
const MAX_TEXT_BYTES: u64 = 64 * 1024;

/// Minimum similarity (0 to 1) of a wrong name to a valid one for the valid one to be suggested.
const NEAR: f64 = 0.6;

/// Parses the name of a job type, such as `CheckUser`.
pub(super) fn parse_job_type(text: &str) -> Result<JobType, String> {
    JobType::from_name(text).ok_or_else(|| format!("known are {}", JobType::ALL.map(JobType::as_str).join(", ")))
}

/// Parses the name of a status, such as `succeeded`.
pub(super) fn parse_status(text: &str) -> Result<Status, String> {
    Status::from_name(text).ok_or_else(|| format!("known are {}", Status::ALL.map(Status::as_str).join(", ")))
}

/// Finds a value by its name. The error for a wrong name lists all names, and suggests the most similar one.
pub(super) fn parse_name<T: Copy, const N: usize>(
    text: &str,
    all: [T; N],
    name: impl Fn(T) -> &'static str,
) -> Result<T, String> {
    if let Some(value) = all.into_iter().find(|value| name(*value) == text) {
        return Ok(value);
    }
    let known = all.map(&name);
    let likeness = |name: &&str| strsim::normalized_damerau_levenshtein(text, name);
    let nearest = known.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    let known = known.join(", ");
    Err(match nearest.filter(|name| likeness(name) >= NEAR) {
        Some(nearest) => format!("did you mean {nearest}? Known are {known}"),
        None => format!("known are {known}"),
    })
}

/// A duration or a range of durations: `50ms`, `20ms..80ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DurationRange {
    /// The shortest duration.
    pub min: Duration,
    /// The longest duration, at least `min`.
    pub max: Duration,
}

impl FromStr for DurationRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (min, max) = text.split_once("..").unwrap_or((text, text));
        let (min, max) = (parse_duration(min)?, parse_duration(max)?);
        if min <= max { Ok(Self { min, max }) } else { Err("the first is greater than the second".to_owned()) }
    }
}

impl fmt::Display for DurationRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", format_duration(self.min), format_duration(self.max))
    }
}

/// Where to begin in the completion stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartFrom {
    /// At the oldest completion in the stream.
    Beginning,
    /// At the next completion that is written.
    Now,
    /// After the entry with this id.
    After(EntryId),
}

impl FromStr for StartFrom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "beginning" => Ok(Self::Beginning),
            "now" => Ok(Self::Now),
            id => id
                .parse()
                .map(Self::After)
                .map_err(|_| "beginning, now, or the id of a stream entry such as 1732265000000-0".to_owned()),
        }
    }
}

/// Parses a time in the format of a job's `run_at`. A space instead of `T` is accepted.
pub(super) fn parse_moment(text: &str) -> Result<String, String> {
    let text = text.trim().replacen(' ', "T", 1);
    run_at_ms(&text).map(|_| text).map_err(str::to_owned)
}

/// JSON from the command line, or from a file if the value is `@FILE`. It has no `Debug`, because it may contain personal data.
#[derive(Clone)]
pub struct JsonArgument(pub serde_json::Value);

impl FromStr for JsonArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut from_file = String::new();
        let json = match text.strip_prefix('@') {
            None => text,
            Some(path) => {
                let file = fs::File::open(path).map_err(|error| format!("cannot be opened: {}", error.kind()))?;
                let read = file.take(MAX_TEXT_BYTES + 1).read_to_string(&mut from_file);
                read.map_err(|error| format!("cannot be read: {}", error.kind()))?;
                from_file.as_str()
            }
        };
        if json.len() as u64 > MAX_TEXT_BYTES {
            return Err("more than 64 KiB: a job is no larger".to_owned());
        }
        // serde_json's own message may quote the text.
        serde_json::from_str(json)
            .map(Self)
            .map_err(|error| format!("not JSON at line {}, column {}", error.line(), error.column()))
    }
}

/// `KEY=VALUE`; the value may be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetaEntry {
    /// The text before the first `=`.
    pub key: String,
    /// The text after the first `=`.
    pub value: String,
}

impl FromStr for MetaEntry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok(Self { key: key.to_owned(), value: value.to_owned() }),
            _ => Err("wanted is KEY=VALUE".to_owned()),
        }
    }
}
