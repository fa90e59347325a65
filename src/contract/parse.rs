//! Parses bytes into a [`Job`], or reports all their faults at once.
//!
//! | file | checks |
//! |---|---|
//! | `draft` | a job object as far as it could be read |
//! | `envelope` | a job object: its own fields, its caller |
//! | `args`, `user` | the arguments of each type |
//! | `next` | children, and what they inherit |
//! | `formats` | the text of one field |
//! | `faults` | collects the faults, each with its JSON Pointer |

mod args;
mod draft;
mod envelope;
mod faults;
mod formats;
#[cfg(test)]
mod formats_tests;
mod next;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_next;
#[cfg(test)]
mod tests_sentences;
mod user;

use super::{
    CallerId, CustomerReference, ErrorKind, Fault, Job, JobType, MAX_JOB_BYTES, MerchantId,
    json::{JsonFault, MAX_DEPTH, Node},
    redact::mask_embedded,
};
use draft::{DraftScope, JobDraft, Meta};
use faults::{Faults, Path};
use serde_json::{Map, Value};
use std::fmt;

/// Additional bytes that a child may have. Its producer does not control its derived id and the fields it inherits, and
/// the child was already validated with its parent, which was within the bound.
const INHERITED_BYTES: usize = 2 * 1024;

/// Maximum number of generations of children below a producer's own job (contract §2).
const MAX_GENERATIONS: u8 = 4;

/// What the parser needs to know besides the bytes.
#[derive(Debug, Clone, Copy)]
pub struct ParseContext<'a> {
    /// The configuration key `limits.allow_missing_caller_id`.
    pub allow_missing_caller_id: bool,
    /// The job's id if it names none: its origin. The ids of its children derive from it.
    pub default_id: &'a str,
    /// The number of generations above this job: 0 for a producer's own job, at most 4.
    pub generation: u8,
}

/// A job that cannot run: the reason, and the fields that could be read, so that its completion can be matched to it.
///
/// `Debug` leaves out `meta`, because its text is the producer's own and may be personal data.
#[derive(Clone, PartialEq)]
pub struct Rejection {
    /// `invalid_job`, `missing_caller_id` or `unsupported_version`.
    pub kind: ErrorKind,
    /// All faults in the order of the document. A long list is cut after the first 256.
    pub faults: Vec<Fault>,
    /// The job's id, if it is valid.
    pub id: Option<super::JobId>,
    /// The job's type, if it is known.
    pub job_type: Option<JobType>,
    /// The job's `caller_id`, if it is valid.
    pub caller_id: Option<CallerId>,
    /// The job's `customer_reference`, else the one in its arguments, if it is valid.
    pub customer_reference: Option<CustomerReference>,
    /// The job's `merchant_id`, if it is valid.
    pub merchant_id: Option<MerchantId>,
    /// The job's `batch`, if it is valid.
    pub batch: Option<String>,
    /// The job's `meta`, if it is valid (codes masked).
    pub meta: Option<serde_json::Map<String, serde_json::Value>>,
    /// The job's `traceparent`, if it is valid.
    pub traceparent: Option<String>,
    /// Whether the job has `reply: true` and a valid id to reply to.
    pub reply: bool,
}

/// Parses and validates a job, and reports all faults at once.
///
/// Never panics. Time and memory are linear in the length of `bytes`, which may be any (more than [`MAX_JOB_BYTES`] is
/// a fault).
///
/// # Errors
///
/// Returns a [`Rejection`] with at least one fault. An unsupported version hides all other faults of its job. A missing
/// caller decides the kind only if there is no other fault.
pub fn parse_job(bytes: &[u8], context: ParseContext<'_>) -> Result<Job, Box<Rejection>> {
    let text = check_text(bytes, context.generation).map_err(Rejection::whole)?;
    let node = Node::parse(text, MAX_DEPTH).map_err(|fault| {
        Rejection::whole(match fault {
            JsonFault::TooDeep => format!("must not nest deeper than {MAX_DEPTH} levels"),
            JsonFault::Syntax(message) => format!("must be one JSON object: {message}"),
        })
    })?;
    let mut faults = Faults::default();
    let scope = DraftScope {
        allow_missing_caller_id: context.allow_missing_caller_id,
        max_id_bytes: next::max_id_bytes(context.generation),
        generations_left: MAX_GENERATIONS.saturating_sub(context.generation),
        parent: None,
    };
    let draft = envelope::validate(&node, &Path::Root, scope, &mut faults);
    if faults.is_empty() {
        into_job(draft, context.default_id).ok_or_else(|| Rejection::whole("is no valid job".to_owned()))
    } else {
        Err(into_rejection(draft, faults, &node))
    }
}

/// Parses a `run_at` into milliseconds since 1970. The error describes the valid form.
pub fn run_at_ms(text: &str) -> Result<u64, &'static str> {
    formats::run_at_ms(text)
}

fn check_text(bytes: &[u8], generation: u8) -> Result<&str, String> {
    let most = if generation == 0 { MAX_JOB_BYTES } else { MAX_JOB_BYTES + INHERITED_BYTES };
    if bytes.len() > most {
        return Err(format!("must be at most {MAX_JOB_BYTES} bytes"));
    }
    std::str::from_utf8(bytes).map_err(|_| "must be UTF-8".to_owned())
}

/// Returns `None` only if validation missed a fault.
fn into_job(draft: JobDraft<'_>, default_id: &str) -> Option<Job> {
    let parent_id = next::id_or(draft.id.as_ref(), default_id);
    let next = draft.children.iter().map(|child| next::complete(child, &draft, parent_id)).collect::<Option<_>>()?;
    Some(Job {
        id: draft.id,
        job_type: draft.job_type?,
        args: draft.args?,
        caller_id: draft.caller_id,
        effective_caller: draft.caller,
        customer_reference: draft.customer_reference,
        merchant_id: draft.merchant_id,
        ttl_ms: draft.ttl_ms,
        run_at_ms: draft.run_at_ms,
        max_attempts: draft.max_attempts,
        reply: draft.reply,
        batch: draft.batch.map(str::to_owned),
        meta: draft.meta.as_ref().map(to_map),
        traceparent: draft.traceparent.map(str::to_owned),
        tracestate: draft.tracestate.map(str::to_owned),
        next,
        carries_code: draft.carries_code,
    })
}

fn into_rejection(draft: JobDraft<'_>, faults: Faults, root: &Node<'_>) -> Box<Rejection> {
    let kind = if draft.unsupported {
        ErrorKind::UnsupportedVersion
    } else if faults.invalid() {
        ErrorKind::InvalidJob
    } else {
        ErrorKind::MissingCallerId
    };
    Box::new(Rejection {
        kind,
        customer_reference: draft.customer_reference.or_else(|| draft.nodes.args.and_then(reference_in)),
        reply: draft.reply && draft.id.is_some(),
        id: draft.id,
        job_type: draft.job_type,
        caller_id: draft.caller_id,
        merchant_id: draft.merchant_id,
        batch: draft.batch.map(str::to_owned),
        meta: draft.meta.as_ref().map(to_map),
        traceparent: draft.traceparent.map(str::to_owned),
        faults: faults.into_sorted(root),
    })
}

/// Finds the customer reference in arguments that are otherwise invalid.
fn reference_in(args: &Node<'_>) -> Option<CustomerReference> {
    let Node::Object(members) = args else { return None };
    let mut found = members.iter().filter(|(key, _)| key == "customer_reference");
    let (Some((_, Node::String(text))), None) = (found.next(), found.next()) else { return None };
    Some(text).filter(|text| !text.is_empty()).and_then(|text| formats::customer_reference(text).ok())
}

/// Converts `meta` for the completion. A code inside a string is masked, as in everything that is stored.
fn to_map(meta: &Meta<'_>) -> Map<String, Value> {
    let value = |text: &str| Value::String(mask_embedded(text).unwrap_or_else(|| text.to_owned()));
    meta.0.iter().map(|(key, text)| ((*key).to_owned(), value(text))).collect()
}

impl fmt::Debug for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejection")
            .field("kind", &self.kind)
            .field("faults", &self.faults)
            .field("id", &self.id)
            .field("job_type", &self.job_type)
            .field("batch", &self.batch)
            .field("reply", &self.reply)
            .finish_non_exhaustive()
    }
}

impl Rejection {
    /// Rejects a job of which nothing could be read.
    fn whole(detail: String) -> Box<Self> {
        Box::new(Self {
            kind: ErrorKind::InvalidJob,
            faults: vec![Fault { pointer: String::new(), detail }],
            id: None,
            job_type: None,
            caller_id: None,
            customer_reference: None,
            merchant_id: None,
            batch: None,
            meta: None,
            traceparent: None,
            reply: false,
        })
    }
}
