//! One row of the table of keys: name, type, default, text, and where the value goes.

use super::super::{
    Config, Rate, format_duration,
    tokens::TicketKeyFile,
    value::{Input, Problems},
};
use crate::contract::JobType;
use std::{collections::BTreeMap, fmt, time::Duration};

/// A configuration while its sources are read, with the values that are resolved after the last source.
#[derive(Default)]
pub(in crate::config) struct ConfigDraft {
    pub(in crate::config) config: Config,
    pub(in crate::config) buckets: BTreeMap<BucketKey, BucketDraft>,
    pub(in crate::config) client_secret_file: Option<String>,
    pub(in crate::config) api_key_file: Option<String>,
    pub(in crate::config) ticket_key_files: Vec<TicketKeyFile>,
}

/// A bucket whose rate and burst `limits.*` may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::config) enum BucketKey {
    Caller,
    Client,
    Total,
    Type(JobType),
}

#[derive(Default, Clone, Copy)]
pub(in crate::config) struct BucketDraft {
    pub(in crate::config) rate: Option<Rate>,
    pub(in crate::config) burst: Option<u32>,
}

impl ConfigDraft {
    pub(super) fn bucket(&mut self, bucket: BucketKey) -> &mut BucketDraft {
        self.buckets.entry(bucket).or_default()
    }
}

/// Reads a value and stores it in the draft. The job type matters only to a key with a `*`.
pub(super) type Set = fn(&mut ConfigDraft, JobType, &Input<'_>) -> Result<(), Problems>;

/// What a key takes, for the documentation.
pub(super) enum ValueKind {
    Text,
    Secret,
    File,
    Url,
    Boolean,
    Rate,
    Listen,
    Integer(i64, i64),
    Duration(Duration, Duration),
    Words(&'static [&'static str]),
    /// A type that only one key has, in words.
    Other(&'static str),
}

impl fmt::Display for ValueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => f.write_str("text"),
            Self::Secret => f.write_str("text, a secret"),
            Self::File => f.write_str("name of a file"),
            Self::Url => f.write_str("`https://` URL"),
            Self::Boolean => f.write_str("`true` or `false`"),
            Self::Rate => f.write_str("rate, such as `10/s`"),
            Self::Listen => f.write_str("address and port, or `off`"),
            Self::Integer(least, most) => write!(f, "whole number, {least} to {most}"),
            Self::Duration(least, most) => {
                write!(f, "duration, {} to {}", format_duration(*least), format_duration(*most))
            }
            Self::Words(words) => {
                let quoted: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
                f.write_str(&quoted.join(" or "))
            }
            Self::Other(words) => f.write_str(words),
        }
    }
}

/// What a key takes and where its value goes.
pub(super) struct Field {
    pub(super) kind: ValueKind,
    pub(super) set: Set,
}

/// The default of a key, in TOML's spelling.
#[derive(Clone, Copy)]
pub(super) enum Preset {
    /// The key is not set unless a source sets it.
    Unset,
    /// The same value everywhere.
    Value(&'static str),
    /// Another value for each job type.
    ByType(fn(JobType) -> &'static str),
}

impl Preset {
    pub(super) fn of(self, job_type: JobType) -> Option<&'static str> {
        match self {
            Self::Unset => None,
            Self::Value(text) => Some(text),
            Self::ByType(of) => Some(of(job_type)),
        }
    }
}

/// One key. A `*` in its name stands for each job type in turn.
pub(super) struct Spec {
    /// The name within its section: `url`, `caller.rate`, `types.*.burst`.
    pub(super) name: &'static str,
    pub(super) preset: Preset,
    pub(super) field: Field,
    /// What the key does. Makes sense when read alone.
    pub(super) text: &'static str,
    /// Messages never quote the value.
    pub(super) secret: bool,
}

impl Spec {
    /// The names that the row stands for, each with its job type: one for each type if the name has a `*`.
    pub(super) fn names(&self) -> impl Iterator<Item = (String, JobType)> {
        // A key without a `*` does not look at the type.
        let types = if self.name.contains('*') { JobType::ALL.as_slice() } else { &JobType::ALL[..1] };
        let name = self.name;
        types.iter().map(move |job_type| (name.replace('*', job_type.config_key()), *job_type))
    }
}

/// A table of the configuration file.
pub(super) struct Section {
    pub(super) name: &'static str,
    /// What all keys of the section have in common; may be empty.
    pub(super) text: &'static str,
    pub(super) keys: &'static [Spec],
}

/// A key with a default.
pub(super) const fn key(name: &'static str, preset: &'static str, field: Field, text: &'static str) -> Spec {
    Spec { name, preset: Preset::Value(preset), field, text, secret: false }
}

/// A key without a default.
pub(super) const fn unset(name: &'static str, field: Field, text: &'static str) -> Spec {
    Spec { name, preset: Preset::Unset, field, text, secret: false }
}

/// A key whose default depends on the job type.
pub(super) const fn by_type(
    name: &'static str,
    preset: fn(JobType) -> &'static str,
    field: Field,
    text: &'static str,
) -> Spec {
    Spec { name, preset: Preset::ByType(preset), field, text, secret: false }
}

/// The same key, whose value no message may quote.
pub(super) const fn secret(spec: Spec) -> Spec {
    Spec { name: spec.name, preset: spec.preset, field: spec.field, text: spec.text, secret: true }
}

pub(super) const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

pub(super) const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(super) const fn minutes(count: u64) -> Duration {
    seconds(60 * count)
}

pub(super) const fn hours(count: u64) -> Duration {
    minutes(60 * count)
}

pub(super) const fn days(count: u64) -> Duration {
    hours(24 * count)
}

/// A field of `Config` that `$read` reads; with `some` before the place, one that is an `Option`.
macro_rules! field {
    ($kind:expr, some $($place:ident).+, $read:expr) => {
        $crate::config::schema::field::Field {
            kind: $kind,
            set: |draft, _, input| {
                let read: fn(&$crate::config::value::Input<'_>) -> Result<_, String> = $read;
                draft.config.$($place).+ = Some(read(input)?);
                Ok(())
            },
        }
    };
    ($kind:expr, $($place:ident).+, $read:expr) => {
        $crate::config::schema::field::Field {
            kind: $kind,
            set: |draft, _, input| {
                let read: fn(&$crate::config::value::Input<'_>) -> Result<_, String> = $read;
                draft.config.$($place).+ = read(input)?;
                Ok(())
            },
        }
    };
}

/// A field whose kind needs no parameters.
macro_rules! simple {
    ($kind:ident, $read:expr, $($place:tt)+) => {
        $crate::config::schema::field::field!($crate::config::schema::field::ValueKind::$kind, $($place)+, $read)
    };
}

macro_rules! boolean {
    ($($place:tt)+) => { $crate::config::schema::field::simple!(Boolean, |input| input.boolean(), $($place)+) };
}

macro_rules! text {
    ($($place:tt)+) => { $crate::config::schema::field::simple!(Text, |input| input.text(), $($place)+) };
}

macro_rules! secret_text {
    ($($place:tt)+) => { $crate::config::schema::field::simple!(Secret, |input| input.secret_text(), $($place)+) };
}

macro_rules! file {
    ($($place:tt)+) => { $crate::config::schema::field::simple!(File, |input| input.text().map(Into::into), $($place)+) };
}

macro_rules! listen {
    ($($place:tt)+) => { $crate::config::schema::field::simple!(Listen, |input| input.listen(), $($place)+) };
}

/// A whole number between two bounds, both included.
macro_rules! integer {
    ($least:literal..=$most:expr, $($place:tt)+) => {
        $crate::config::schema::field::field!(
            $crate::config::schema::field::ValueKind::Integer($least, $most), $($place)+, |input| input.integer($least..=$most)
        )
    };
}

/// A duration between two bounds, both included.
macro_rules! duration {
    ($least:expr, $most:expr, $($place:tt)+) => {
        $crate::config::schema::field::field!(
            $crate::config::schema::field::ValueKind::Duration($least, $most), $($place)+, |input| input.duration($least..=$most)
        )
    };
}

/// One of a few words.
macro_rules! word {
    ([$(($word:literal, $value:expr)),+], $($place:tt)+) => {
        $crate::config::schema::field::field!(
            $crate::config::schema::field::ValueKind::Words(&[$($word),+]),
            $($place)+,
            |input| input.word(&[$(($word, $value)),+])
        )
    };
}

pub(super) use {boolean, duration, field, file, integer, listen, secret_text, simple, text, word};
