//! Bytes → [`Job`], or every fault of them at once.
//!
//! | file | judges |
//! |---|---|
//! | `draft` | a job object as far as it could be read |
//! | `envelope` | a job object: its own fields, its caller |
//! | `args`, `user` | the arguments of each type |
//! | `next` | children, and what they inherit |
//! | `formats` | the text of one field |
//! | `faults` | collects what is wrong, with its JSON Pointer |

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
use draft::{Draft, Meta, Scope};
use faults::{Faults, Path};
use serde_json::{Map, Value};
use std::fmt;

/// What a child may weigh beyond that: its derived id and what it inherits are not its producer's doing, and its parent,
/// which was within the bound, has been judged with it.
const INHERITED_BYTES: usize = 2 * 1024;

/// How many generations of children may stand below a producer's own job (contract §2).
const MAX_GENERATIONS: u8 = 4;

/// What parsing needs to know beside the bytes.
#[derive(Debug, Clone, Copy)]
pub struct ParseContext<'a> {
    /// `limits.allow_missing_caller_id`
    pub allow_missing_caller_id: bool,
    /// The id the job has if it names none (its origin): children's ids derive from it.
    pub default_id: &'a str,
    /// How many generations above this job (0 for a producer's own): at most 4 below the first.
    pub generation: u8,
}

/// A job that cannot be run: why, and what of it could be read, so that its completion can be told apart.
///
/// Its `Debug` leaves out `meta`, whose text is the producer's own and may be personal data.
#[derive(Clone, PartialEq)]
pub struct Rejection {
    /// `invalid_job`, `missing_caller_id` or `unsupported_version`.
    pub kind: ErrorKind,
    /// Every fault, in the order of the document (of very many, the first).
    pub faults: Vec<Fault>,
    /// The id, where a valid one could be read.
    pub id: Option<super::JobId>,
    /// The type, where a known one could be read.
    pub job_type: Option<JobType>,
    /// Where valid.
    pub caller_id: Option<CallerId>,
    /// Of the job, else of its arguments, where valid.
    pub customer_reference: Option<CustomerReference>,
    /// Where valid.
    pub merchant_id: Option<MerchantId>,
    /// Where valid.
    pub batch: Option<String>,
    /// Where valid.
    pub meta: Option<serde_json::Map<String, serde_json::Value>>,
    /// Where valid.
    pub traceparent: Option<String>,
    /// `reply: true` and an id to reply to.
    pub reply: bool,
}

/// Parses and validates a job, reporting every fault at once.
///
/// Never panics, on any bytes; time and memory are linear in `bytes`, which may be of any length (more than
/// [`MAX_JOB_BYTES`] is a fault).
///
/// # Errors
///
/// A [`Rejection`] with at least one fault. Another version than 1 is the only fault of its job, whatever else may be
/// wrong; a missing caller decides the kind only where nothing else is wrong.
pub fn parse_job(bytes: &[u8], context: ParseContext<'_>) -> Result<Job, Box<Rejection>> {
    let text = check_text(bytes, context.generation).map_err(Rejection::whole)?;
    let node = Node::parse(text, MAX_DEPTH).map_err(|fault| {
        Rejection::whole(match fault {
            JsonFault::TooDeep => format!("must not nest deeper than {MAX_DEPTH} levels"),
            JsonFault::Syntax(message) => format!("must be one JSON object: {message}"),
        })
    })?;
    let mut faults = Faults::default();
    let scope = Scope {
        allow_missing_caller_id: context.allow_missing_caller_id,
        max_id_bytes: next::max_id_bytes(context.generation),
        generations_left: MAX_GENERATIONS.saturating_sub(context.generation),
        parent: None,
    };
    let draft = envelope::judge(&node, &Path::Root, scope, &mut faults);
    if faults.is_empty() {
        into_job(draft, context.default_id).ok_or_else(|| Rejection::whole("is no valid job".to_owned()))
    } else {
        Err(into_rejection(draft, faults, &node))
    }
}

/// A `run_at` in milliseconds since 1970, or what would be right.
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

/// `None` only if a fault was overlooked.
fn into_job(draft: Draft<'_>, default_id: &str) -> Option<Job> {
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

fn into_rejection(draft: Draft<'_>, faults: Faults, root: &Node<'_>) -> Box<Rejection> {
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

/// The customer reference in arguments that are otherwise invalid.
fn reference_in(args: &Node<'_>) -> Option<CustomerReference> {
    let Node::Object(members) = args else { return None };
    let mut found = members.iter().filter(|(key, _)| key == "customer_reference");
    let (Some((_, Node::String(text))), None) = (found.next(), found.next()) else { return None };
    Some(text).filter(|text| !text.is_empty()).and_then(|text| formats::customer_reference(text).ok())
}

/// `meta` as it is echoed: a code hidden in a string is masked, as everywhere that is kept.
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
    /// Of something that could not be read at all.
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
