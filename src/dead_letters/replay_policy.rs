//! Decides whether a dead letter can be replayed, and builds the job to enqueue. Pure.

use super::{Changes, DeadLetterView, Replay};
use crate::{
    contract::{ErrorKind, Fault, Job, JobId, JobType, Lane, Origin, ParseContext, parse_job},
    jobs::JobState,
};
use serde::{Serialize, Serializer};

/// The reason why a dead letter is not replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReplayRefusal {
    /// The job needs a code, and codes are not stored.
    NeedsCode,
    /// The job was rejected and has not been changed since.
    Rejected,
    /// The job would send a code for which no customer is waiting.
    NobodyWaits,
    /// An earlier call of the job may have taken effect.
    InDoubt,
    /// The job is not valid.
    Invalid,
}

impl ReplayRefusal {
    /// The name in JSON.
    pub const fn code(self) -> &'static str {
        match self {
            Self::NeedsCode => "needs_code",
            Self::Rejected => "rejected",
            Self::NobodyWaits => "sends_code",
            Self::InDoubt => "in_doubt",
            Self::Invalid => "invalid",
        }
    }
}

impl Serialize for ReplayRefusal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

/// The risks that the operator accepts.
#[derive(Debug, Clone, Copy, Default)]
pub struct AcceptedRisks {
    /// Allow jobs that send a code (`--force`).
    pub codes: bool,
    /// Allow jobs whose call may have taken effect (`--accept-doubt`).
    pub doubt: bool,
    /// Allow jobs without a caller (`limits.allow_missing_caller_id`).
    pub missing_caller: bool,
}

/// A dead letter that can be replayed.
pub struct ReadyReplay {
    /// The entry to write into the queue.
    pub replay: Replay,
    /// The validated job.
    pub job: Job,
    /// The risk that the operator accepted, if the replay has one.
    pub risk: Option<ReplayRefusal>,
}

/// A refusal, with the faults if the job is not valid.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    /// The reason for the refusal.
    pub refusal: ReplayRefusal,
    /// The faults of an invalid job. Empty for other refusals.
    pub faults: Vec<Fault>,
}

impl From<ReplayRefusal> for Refused {
    fn from(refusal: ReplayRefusal) -> Self {
        Self { refusal, faults: Vec::new() }
    }
}

fn invalid(fault: Fault) -> Refused {
    Refused { refusal: ReplayRefusal::Invalid, faults: vec![fault] }
}

fn kept(pointer: &str) -> Refused {
    invalid(Fault { pointer: pointer.to_owned(), detail: "must stay as it was: the job is known by it".to_owned() })
}

/// Decides whether a dead letter can be replayed with these changes.
pub fn decide_replay(
    view: &DeadLetterView<'_>,
    changes: &Changes,
    allowed: AcceptedRisks,
) -> Result<ReadyReplay, Refused> {
    let letter = view.letter;
    let kind = view.error_kind();
    let rejected = kind.is_some_and(ErrorKind::is_rejection);
    if !letter.replayable
        && (!rejected || JobType::from_name(&letter.job_type).is_some_and(|job_type| job_type.facts().is_code))
    {
        return Err(ReplayRefusal::NeedsCode.into());
    }
    if rejected && changes.is_empty() {
        return Err(ReplayRefusal::Rejected.into());
    }
    let (known, state) = match view.state() {
        Some(state) => (true, state),
        None => (false, JobState::new(Origin { lane: Lane::Bulk, partition: letter.partition, entry: letter.entry })),
    };
    let edited = changes.apply(&letter.job).map_err(invalid)?;
    let context = ParseContext {
        allow_missing_caller_id: allowed.missing_caller,
        default_id: &letter.id,
        generation: state.generation,
    };
    let parse = |text: &str| {
        parse_job(text.as_bytes(), context)
            .map_err(|rejection| Refused { refusal: ReplayRefusal::Invalid, faults: rejection.faults })
    };
    let mut text = edited.into_owned();
    let mut job = parse(&text)?;
    if job.id.is_none() {
        // The default id was the job's position in the queue, and the replay gets a new position.
        text = with_id(&text, &letter.id);
        job = parse(&text)?;
    }
    if job.carries_code {
        return Err(ReplayRefusal::NeedsCode.into());
    }
    let id = job.id.as_ref().map_or(letter.id.as_str(), JobId::as_str);
    if id != letter.id && !rejected {
        return Err(kept("/id"));
    }
    let batch_before = view.batch();
    if job.batch.as_deref() != batch_before.as_deref() && !rejected {
        return Err(kept("/batch"));
    }
    let mut risk = None;
    if sends_code(&job) {
        if !allowed.codes {
            return Err(ReplayRefusal::NobodyWaits.into());
        }
        risk = Some(ReplayRefusal::NobodyWaits);
    }
    // A creation in doubt first checks whether the user exists, so it repeats nothing blindly.
    if kind == Some(ErrorKind::InDoubt) || state.doubt && job.job_type != JobType::CreateUser {
        if !allowed.doubt {
            return Err(ReplayRefusal::InDoubt.into());
        }
        risk = Some(ReplayRefusal::InDoubt);
    }
    let replay = Replay {
        entry: letter.entry,
        id: id.to_owned(),
        state: state.replayed().to_json(),
        held_by: if known { state.origin.to_string() } else { String::new() },
        batch: job.batch.clone().map(|batch| {
            let counted = if !rejected {
                "failed"
            } else if batch_before.as_deref() == Some(batch.as_str()) {
                "rejected"
            } else {
                "new"
            };
            (batch, counted)
        }),
        original: (!changes.is_empty()).then(|| letter.job.clone()),
        job: text,
    };
    Ok(ReadyReplay { replay, job, risk })
}

/// Whether the job or any of its children sends a code to a customer.
fn sends_code(job: &Job) -> bool {
    // The parser wrote this JSON in compact form. Inside a string, the quotes would be escaped.
    let sends = |next: &str, job_type: JobType| next.contains(&format!(r#""type":"{job_type}""#));
    let mut senders = JobType::ALL.into_iter().filter(|job_type| job_type.facts().sends_code);
    senders.any(|sender| job.job_type == sender || job.next.iter().any(|next| sends(&next.job, sender)))
}

/// Inserts an id as the first member of the object.
fn with_id(job: &str, id: &str) -> String {
    let id = serde_json::Value::from(id);
    let rest = job.trim_start().strip_prefix('{').unwrap_or_default();
    format!("{{\"id\":{id},{rest}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{super::testing::dead_letter, *};

    const CHECK: &str = r#"{"type":"CheckUser","id":"a","caller_id":"c","args":{"email":"a@b.example"}}"#;
    const FAILED: &str = r#"{"kind":"upstream"}"#;

    fn refusal(
        job: &str,
        error: &str,
        replayable: bool,
        changes: &Changes,
        allowed: AcceptedRisks,
    ) -> Option<ReplayRefusal> {
        let mut one = dead_letter(job, error);
        one.replayable = replayable;
        decide_replay(&DeadLetterView::new(&one), changes, allowed).err().map(|refused| refused.refusal)
    }

    fn set(text: &str) -> Changes {
        Changes { set: vec![text.parse().ok().unwrap()], ..Changes::default() }
    }

    #[test]
    fn what_is_unsafe_to_repeat_is_refused_unless_the_operator_takes_it_upon_them() {
        let none = Changes::default();
        let (no, yes) = (AcceptedRisks::default(), AcceptedRisks { codes: true, doubt: true, missing_caller: false });
        assert_eq!(refusal(CHECK, FAILED, true, &none, no), None);
        assert_eq!(refusal(CHECK, FAILED, false, &none, yes), Some(ReplayRefusal::NeedsCode));
        let start = CHECK.replace("CheckUser", "StartOtp");
        assert_eq!(refusal(&start, FAILED, true, &none, no), Some(ReplayRefusal::NobodyWaits));
        assert_eq!(refusal(&start, FAILED, true, &none, yes), None);
        let then = r#""args":{"email":"x@b.example"}}"#;
        let chain = CHECK.replace(r#""args""#, &format!(r#""next":{{"exists":{{ "type" : "StartOtp",{then}}},"args""#));
        assert_eq!(refusal(&chain, FAILED, true, &none, no), Some(ReplayRefusal::NobodyWaits));
        let doubtful = r#"{"kind":"in_doubt"}"#;
        assert_eq!(refusal(CHECK, doubtful, true, &none, no), Some(ReplayRefusal::InDoubt));
        assert_eq!(refusal(CHECK, doubtful, true, &none, yes), None);
        // A doubt that the dead letter records counts, whatever its error is. A creation checks before it repeats.
        let create = CHECK.replace("CheckUser", "CreateUser").replace(
            r#""args":{"email":"a@b.example"}"#,
            r#""args":{"customer_reference":"r","user":{"email":"a@b.example"}}"#,
        );
        for (job, refused) in [(CHECK, Some(ReplayRefusal::InDoubt)), (create.as_str(), None)] {
            let mut remembering = dead_letter(job, FAILED);
            remembering.state = r#"{"o":"interactive:0:7-0","d":true}"#.to_owned();
            let judged = decide_replay(&DeadLetterView::new(&remembering), &none, no).err();
            assert_eq!(judged.map(|refused| refused.refusal), refused, "{job}");
        }
        assert_eq!(refusal("nonsense", FAILED, true, &none, yes), Some(ReplayRefusal::Invalid));
    }

    #[test]
    fn a_rejected_job_needs_an_edit_that_makes_it_valid() {
        let (rejected, no) = (r#"{"kind":"invalid_job"}"#, AcceptedRisks::default());
        let wrong = CHECK.replace("a@b.example", "a");
        assert_eq!(refusal(&wrong, rejected, false, &Changes::default(), no), Some(ReplayRefusal::Rejected));
        assert_eq!(refusal(&wrong, rejected, false, &set("/args/email=a@b.example"), no), None);
        assert_eq!(refusal(&wrong, rejected, false, &set("/args/email=b"), no), Some(ReplayRefusal::Invalid));
        assert_eq!(
            refusal(&wrong, rejected, false, &set("/args/verification_code=123456"), no),
            Some(ReplayRefusal::Invalid)
        );
        let mut verify = dead_letter(&CHECK.replace("CheckUser", "VerifyOtp"), rejected);
        (verify.job_type, verify.replayable) = ("VerifyOtp".to_owned(), false);
        let with_code = set("/args/verification_code=\"123456\"");
        assert_eq!(
            decide_replay(&DeadLetterView::new(&verify), &with_code, no).err(),
            Some(ReplayRefusal::NeedsCode.into())
        );
        // A job that was accepted once keeps its id and its batch.
        for edit in ["/id=b", "/batch=b"] {
            assert_eq!(refusal(CHECK, FAILED, true, &set(edit), no), Some(ReplayRefusal::Invalid), "{edit}");
        }
    }

    #[test]
    fn a_replay_keeps_the_id_and_remembers_what_came_before() {
        let mut one = dead_letter(&CHECK.replace(r#""id":"a","#, ""), FAILED);
        one.id = "interactive:0:7-0".to_owned();
        one.state = r#"{"o":"interactive:0:7-0","p":"parent","g":1,"n":1}"#.to_owned();
        let ready =
            decide_replay(&DeadLetterView::new(&one), &Changes::default(), AcceptedRisks::default()).ok().unwrap();
        assert!(
            ready.replay.job.starts_with(r#"{"id":"interactive:0:7-0","type":"CheckUser""#),
            "{}",
            ready.replay.job
        );
        assert_eq!(
            (ready.replay.id.as_str(), ready.replay.held_by.as_str()),
            ("interactive:0:7-0", "interactive:0:7-0")
        );
        let state = JobState::from_json(ready.replay.state.as_bytes()).unwrap();
        assert_eq!((state.replay, state.generation, state.parent_id.as_deref()), (2, 1, Some("parent")));
        // A child's derived id may be longer than any id from a producer.
        one.job = CHECK.replace(r#""id":"a""#, &format!(r#""id":"{}""#, "x".repeat(150)));
        one.id = "x".repeat(150);
        assert!(decide_replay(&DeadLetterView::new(&one), &Changes::default(), AcceptedRisks::default()).is_ok());
        one.state = String::new();
        assert!(decide_replay(&DeadLetterView::new(&one), &Changes::default(), AcceptedRisks::default()).is_err());
    }
}
