//! Validates a job object. A producer's own job and a child in `next` follow the same rules.

use super::{
    args,
    draft::{Caller, DraftScope, JobDraft, Meta, Nodes},
    faults::{Faults, Path, fields, nearest, required, text, whole},
    formats, next,
};
use crate::contract::{
    Args, CallerId, JobType,
    json::{Node, json_string_bytes},
};

/// The maximum of `ttl_ms`: 30 days.
const MAX_TTL_MS: u64 = 30 * 24 * 60 * 60 * 1000;

const MAX_META_BYTES: usize = 2048;

const NAMES: [&str; 16] = [
    "type",
    "args",
    "v",
    "id",
    "caller_id",
    "customer_reference",
    "merchant_id",
    "ttl_ms",
    "run_at",
    "max_attempts",
    "reply",
    "batch",
    "meta",
    "traceparent",
    "tracestate",
    "next",
];

/// Validates the job object at `path`.
pub(super) fn validate<'n>(
    node: &'n Node<'n>,
    path: &Path<'_>,
    scope: DraftScope<'_>,
    faults: &mut Faults,
) -> JobDraft<'n> {
    if !is_other_version(node) {
        return judge_fields(node, path, scope, faults);
    }
    // The other fields of an unknown version cannot be validated, but the readable ones go into the rejection.
    faults.add(&path.key("v"), "must be 1: no other version of the contract is known here");
    let mut unjudged = Faults::default();
    let draft = judge_fields(node, path, DraftScope { generations_left: 0, ..scope }, &mut unjudged);
    JobDraft { unsupported: true, ..draft }
}

fn is_other_version(node: &Node<'_>) -> bool {
    let Node::Object(members) = node else { return false };
    members.iter().any(|(key, value)| match value {
        // `1.0` is also version 1.
        Node::Number(v) if key == "v" => v.as_f64().is_none_or(|v| v.to_bits() != 1_f64.to_bits()),
        _ => false,
    })
}

fn judge_fields<'n>(node: &'n Node<'n>, path: &Path<'_>, scope: DraftScope<'_>, faults: &mut Faults) -> JobDraft<'n> {
    let Some(found) = fields(node, &NAMES, path, faults) else { return JobDraft::default() };
    let [
        type_,
        args,
        v,
        id,
        caller_id,
        reference,
        merchant,
        ttl,
        run_at,
        attempts,
        reply,
        batch,
        meta,
        parent,
        state,
        next,
    ] = found;
    // An empty PHP array stands for an empty object.
    let next = next.filter(|next| !matches!(next, Node::Array(values) if values.is_empty()));
    let mut draft = JobDraft { nodes: Nodes { args, run_at, next }, ..JobDraft::default() };

    if let Some(v) = v.filter(|v| !matches!(v, Node::Number(_))) {
        faults.add(&path.key("v"), format!("must be the number 1, not {}", v.kind()));
    }
    let at = path.key("type");
    draft.job_type = required(type_, &at, faults).and_then(|node| job_type(node, &at, faults));
    let at = path.key("args");
    let args = required(args, &at, faults);
    match draft.job_type {
        Some(job_type) => draft.args = args.and_then(|args| args::validate(job_type, args, &at, faults)),
        // The type is unknown, so only one rule applies: `args` must be an object.
        None => drop(args.filter(|args| !matches!(args, Node::Object(_))).map(|args| fields(args, &[], &at, faults))),
    }

    draft.id = text(id, &path.key("id"), faults, |id| formats::job_id(id, scope.max_id_bytes));
    draft.caller_id = text(caller_id, &path.key("caller_id"), faults, formats::caller_id);
    let at = path.key("customer_reference");
    draft.customer_reference = text(reference, &at, faults, formats::customer_reference);
    draft.merchant_id = text(merchant, &path.key("merchant_id"), faults, formats::merchant_id);
    draft.ttl_ms = whole(ttl, (1, MAX_TTL_MS), &path.key("ttl_ms"), faults);
    draft.run_at_ms = text(run_at, &path.key("run_at"), faults, formats::run_at_ms);
    draft.max_attempts = whole(attempts, (1, 100), &path.key("max_attempts"), faults).and_then(|n| n.try_into().ok());
    draft.reply = boolean(reply, &path.key("reply"), faults);
    draft.batch = text(batch, &path.key("batch"), faults, formats::batch);
    draft.meta = meta.and_then(|meta| judge_meta(meta, &path.key("meta"), faults));
    draft.traceparent = trace(parent, &path.key("traceparent"), faults).filter(|text| formats::is_traceparent(text));
    let state = trace(state, &path.key("tracestate"), faults).filter(|text| formats::is_tracestate(text));
    draft.tracestate = state.filter(|_| draft.traceparent.is_some());
    // A child without an id of its own always has a derived id.
    if draft.reply && id.is_none() && scope.parent.is_none() {
        faults.add(&path.key("reply"), "needs `id`: the reply's key is made of it");
    }

    let unreadable = (caller_id.is_some() && draft.caller_id.is_none())
        || (reference.is_some() && draft.customer_reference.is_none());
    let own = own_caller(&draft, unreadable);
    let caller = settle_caller(own, &draft, path, scope, faults);
    if let Some(next) = next {
        draft.children = next::validate(next, (draft.job_type, &caller, scope), &path.key("next"), faults, validate);
    }
    draft.carries_code = draft.args.as_ref().is_some_and(|args| args.code().is_some())
        || draft.children.iter().any(|child| child.draft.carries_code);
    draft.caller = match caller {
        Caller::Known(caller) => Some(caller),
        Caller::Nobody | Caller::Unreadable => None,
    };
    if !faults.is_empty() {
        forget_ambiguous(&mut draft, path, faults);
    }
    draft
}

/// Returns `caller_id`, else the job's customer reference, else the one in its arguments.
fn own_caller(draft: &JobDraft<'_>, unreadable: bool) -> Caller {
    if let Some(caller) = &draft.caller_id {
        return Caller::Known(caller.clone());
    }
    if unreadable {
        return Caller::Unreadable;
    }
    let in_args = draft.args.as_ref().and_then(Args::customer_reference);
    match draft.customer_reference.as_ref().or(in_args) {
        Some(reference) => Caller::Known(CallerId::from(reference)),
        // Invalid arguments may contain a reference, except those of the three types that never have one.
        None if draft.args.is_none() && !is_always_called_for(draft.job_type) => Caller::Unreadable,
        None => Caller::Nobody,
    }
}

const fn is_always_called_for(job_type: Option<JobType>) -> bool {
    match job_type {
        Some(job_type) => job_type.facts().needs_caller,
        None => false,
    }
}

/// Determines the caller. A child keeps its parent's caller, and a type that needs a caller must have one.
fn settle_caller(
    own: Caller,
    draft: &JobDraft<'_>,
    path: &Path<'_>,
    scope: DraftScope<'_>,
    faults: &mut Faults,
) -> Caller {
    let caller = match (scope.parent, own) {
        (Some(Caller::Known(parent)), _) => {
            if draft.caller_id.as_ref().is_some_and(|named| named != parent) {
                faults.add(
                    &path.key("caller_id"),
                    "must be left out or be its parent's: a child keeps its parent's caller",
                );
            }
            Caller::Known(parent.clone())
        }
        (Some(Caller::Unreadable), Caller::Nobody) => Caller::Unreadable,
        (_, own) => own,
    };
    let needs = is_always_called_for(draft.job_type) || draft.args.as_ref().and_then(Args::code).is_some();
    if needs && !scope.allow_missing_caller_id && matches!(caller, Caller::Nobody) {
        faults.add_missing_caller(&path.key("caller_id"));
    }
    caller
}

/// Clears each field that occurs twice. The intended value is unknown, so the field is not echoed.
fn forget_ambiguous(draft: &mut JobDraft<'_>, path: &Path<'_>, faults: &Faults) {
    let unsure = |name: &str| faults.at(&path.key(name).pointer());
    draft.id.take_if(|_| unsure("id"));
    draft.job_type.take_if(|_| unsure("type"));
    draft.caller_id.take_if(|_| unsure("caller_id"));
    draft.customer_reference.take_if(|_| unsure("customer_reference"));
    draft.merchant_id.take_if(|_| unsure("merchant_id"));
    draft.batch.take_if(|_| unsure("batch"));
    draft.meta.take_if(|_| unsure("meta"));
    draft.traceparent.take_if(|_| unsure("traceparent"));
    draft.reply &= !unsure("reply");
}

fn job_type(node: &Node<'_>, path: &Path<'_>, faults: &mut Faults) -> Option<JobType> {
    let Node::String(name) = node else {
        faults.add(path, format!("must be a string, not {}", node.kind()));
        return None;
    };
    let job_type = JobType::from_name(name);
    if job_type.is_none() {
        let known = format!("must be one of {}", JobType::names());
        match nearest(name, JobType::ALL.into_iter().map(JobType::as_str)) {
            Some(near) => faults.add(path, format!("{known}; did you mean {near}?")),
            None => faults.add(path, known),
        }
    }
    job_type
}

fn boolean(node: Option<&Node<'_>>, path: &Path<'_>, faults: &mut Faults) -> bool {
    match node {
        None => false,
        Some(Node::Bool(value)) => *value,
        Some(other) => {
            faults.add(path, format!("must be true or false, not {}", other.kind()));
            false
        }
    }
}

/// Reads a trace field as text. An invalid trace context is not a fault: W3C asks to start a new trace.
fn trace<'n>(node: Option<&'n Node<'n>>, path: &Path<'_>, faults: &mut Faults) -> Option<&'n str> {
    let node = node?;
    if node.as_str().is_none() {
        faults.add(path, format!("must be a string, not {}", node.kind()));
    }
    node.as_str()
}

/// Validates `meta`. Numbers and booleans are taken as text in their original spelling.
fn judge_meta<'n>(node: &'n Node<'n>, path: &Path<'_>, faults: &mut Faults) -> Option<Meta<'n>> {
    let members = match node {
        Node::Object(members) => members.as_slice(),
        Node::Array(values) if values.is_empty() => &[],
        _ => {
            faults.add(path, format!("must be an object of strings, not {}", node.kind()));
            return None;
        }
    };
    let mut bytes = 1 + members.len().max(1);
    let mut valid = true;
    let mut meta = Vec::with_capacity(members.len().min(64));
    for (key, value) in members {
        let text = match value {
            Node::String(text) => text.as_ref(),
            Node::Written(text) => text,
            Node::Bool(true) => "true",
            Node::Bool(false) => "false",
            other => {
                valid = false;
                faults.add(&path.key(key), format!("must be a string, a number or a boolean, not {}", other.kind()));
                ""
            }
        };
        bytes += json_string_bytes(key) + 1 + json_string_bytes(text);
        meta.push((key.as_ref(), text));
        if key == "verification_code" {
            valid = false;
            faults.add(&path.key(key), "must not stand here: `meta` is echoed, and a code is not");
        }
    }
    if bytes > MAX_META_BYTES {
        faults.add(path, format!("must be at most {MAX_META_BYTES} bytes as JSON"));
        return None;
    }
    // Quadratic, but the size bound above keeps the number of members small.
    for (index, (key, _)) in members.iter().enumerate() {
        if members[..index].iter().any(|(earlier, _)| earlier == key) {
            valid = false;
            faults.add(&path.key(key), "must not appear more than once");
        }
    }
    valid.then_some(Meta(meta))
}
