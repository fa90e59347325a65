//! The properties of a dead letter. Each is parsed only when it is needed.

use super::DeadLetter;
use crate::{
    contract::{ErrorKind, format_ms},
    jobs::JobState,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{borrow::Cow, cell::OnceCell};

/// A dead letter with the parts of it that have been parsed.
pub struct DeadLetterView<'a> {
    /// The dead letter itself.
    pub letter: &'a DeadLetter,
    error: OnceCell<RawError<'a>>,
    job: OnceCell<RawJob<'a>>,
}

/// Members as raw JSON, because in a rejected job each may be of any type.
#[derive(Default, Deserialize)]
struct RawError<'a> {
    #[serde(borrow, default)]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    http_status: Option<&'a RawValue>,
    #[serde(borrow, default)]
    problem: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct RawJob<'a> {
    #[serde(borrow, default)]
    caller_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    customer_reference: Option<&'a RawValue>,
    #[serde(borrow, default)]
    batch: Option<&'a RawValue>,
    #[serde(borrow, default)]
    args: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawProblem<'a> {
    #[serde(borrow, default, rename = "type")]
    problem_type: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn text(raw: Option<&RawValue>) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Text<'_>>(raw?.get()).ok().map(|text| text.0)
}

impl<'a> DeadLetterView<'a> {
    /// Wraps a dead letter without parsing it.
    pub const fn new(letter: &'a DeadLetter) -> Self {
        Self { letter, error: OnceCell::new(), job: OnceCell::new() }
    }

    fn error(&self) -> &RawError<'a> {
        self.error.get_or_init(|| serde_json::from_str(&self.letter.error).unwrap_or_default())
    }

    fn job(&self) -> &RawJob<'a> {
        self.job.get_or_init(|| serde_json::from_str(&self.letter.job).unwrap_or_default())
    }

    /// The value of `error.kind` as text.
    pub fn kind(&self) -> Option<Cow<'a, str>> {
        text(self.error().kind)
    }

    /// The value of `error.kind`, if it is a known kind.
    pub fn error_kind(&self) -> Option<ErrorKind> {
        self.error().kind.and_then(|kind| serde_json::from_str(kind.get()).ok())
    }

    /// The value of `error.message`.
    pub fn message(&self) -> Option<Cow<'a, str>> {
        text(self.error().message)
    }

    /// The value of `error.http_status`.
    pub fn http_status(&self) -> Option<u16> {
        self.error().http_status.and_then(|status| status.get().parse().ok())
    }

    /// The `type` of XCO's problem document.
    pub fn problem(&self) -> Option<Cow<'a, str>> {
        let problem: RawProblem<'a> = serde_json::from_str(self.error().problem?.get()).ok()?;
        text(problem.problem_type)
    }

    /// The job's `batch`.
    pub fn batch(&self) -> Option<Cow<'a, str>> {
        text(self.job().batch)
    }

    /// The customer reference of the job, or else of its arguments.
    pub fn customer_reference(&self) -> Option<Cow<'a, str>> {
        text(self.job().customer_reference).or_else(|| {
            let args: RawJob<'a> = serde_json::from_str(self.job().args?.get()).ok()?;
            text(args.customer_reference)
        })
    }

    /// The effective caller: `caller_id`, or else the customer reference.
    pub fn caller(&self) -> Option<Cow<'a, str>> {
        text(self.job().caller_id).or_else(|| self.customer_reference())
    }

    /// The stored state of the job, which a replay needs.
    pub fn state(&self) -> Option<JobState> {
        JobState::from_json(self.letter.state.as_bytes())
    }

    /// How often the job was replayed.
    pub fn replays(&self) -> u32 {
        self.state().map_or(0, |state| state.replay)
    }

    /// When the dead letter was written, on Redis's clock: RFC 3339, cut to `length` characters, for example to the day
    /// or the hour.
    pub fn at(&self, length: usize) -> String {
        let mut at = format_ms(self.letter.entry.ms);
        at.truncate(length);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::dead_letter, *};

    #[test]
    fn facts_are_read_from_what_is_there_and_from_nothing_else() {
        let good = dead_letter(
            r#"{"batch":"b","args":{"customer_reference":"r\n"}}"#,
            r#"{"kind":"upstream","http_status":503,"problem":{"type":"urn:x","status":"y"},"message":"m"}"#,
        );
        let view = DeadLetterView::new(&good);
        assert_eq!((view.kind().as_deref(), view.http_status()), (Some("upstream"), Some(503)));
        assert_eq!((view.problem().as_deref(), view.error_kind()), (Some("urn:x"), Some(ErrorKind::Upstream)));
        assert_eq!((view.batch().as_deref(), view.caller().as_deref()), (Some("b"), Some("r\n")));
        assert_eq!(view.at(13), "2024-11-22T08");
        for (job, error) in [("", ""), ("[1]", "17"), (r#"{"batch":1,"batch":"b","args":[]}"#, r#"{"kind":4}"#)] {
            let odd = dead_letter(job, error);
            let view = DeadLetterView::new(&odd);
            assert_eq!((view.kind(), view.batch(), view.caller(), view.problem()), (None, None, None, None));
        }
        let numbers = dead_letter(r#"{"caller_id":17,"customer_reference":"r"}"#, r#"{"problem":"text"}"#);
        let view = DeadLetterView::new(&numbers);
        assert_eq!((view.caller().as_deref(), view.problem()), (Some("r"), None));
    }
}
