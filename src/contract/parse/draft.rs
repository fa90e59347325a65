//! A job object as far as it could be read, and what its rules depend on.

use crate::contract::{Args, CallerId, CustomerReference, JobId, JobType, MerchantId, Outcome, json::Node};
use serde::{Serialize, Serializer};

/// The context that a job's rules depend on.
#[derive(Clone, Copy)]
pub(super) struct DraftScope<'s> {
    pub(super) allow_missing_caller_id: bool,
    /// The longest id that the job may give itself.
    pub(super) max_id_bytes: usize,
    /// How many generations of children are still allowed below this job.
    pub(super) generations_left: u8,
    /// For a child: the caller of its parent.
    pub(super) parent: Option<&'s Caller>,
}

/// The caller whose limit a job uses, as far as it is known.
#[derive(Debug, Clone)]
pub(super) enum Caller {
    Known(CallerId),
    Nobody,
    /// A caller is named, but not validly. Rules that depend on the caller cannot be checked.
    Unreadable,
}

/// The readable part of a job. It is complete and valid if no fault was added while it was read.
#[derive(Debug, Default)]
pub(super) struct JobDraft<'n> {
    pub(super) unsupported: bool,
    pub(super) id: Option<JobId>,
    pub(super) job_type: Option<JobType>,
    pub(super) args: Option<Args>,
    pub(super) caller_id: Option<CallerId>,
    pub(super) caller: Option<CallerId>,
    pub(super) customer_reference: Option<CustomerReference>,
    pub(super) merchant_id: Option<MerchantId>,
    pub(super) ttl_ms: Option<u64>,
    pub(super) run_at_ms: Option<u64>,
    pub(super) max_attempts: Option<u32>,
    pub(super) reply: bool,
    pub(super) batch: Option<&'n str>,
    pub(super) meta: Option<Meta<'n>>,
    pub(super) traceparent: Option<&'n str>,
    pub(super) tracestate: Option<&'n str>,
    pub(super) children: Vec<ChildDraft<'n>>,
    pub(super) carries_code: bool,
    pub(super) nodes: Nodes<'n>,
}

/// A valid `meta`: pairs of name and text.
#[derive(Debug, Clone)]
pub(super) struct Meta<'n>(pub(super) Vec<(&'n str, &'n str)>);

impl Serialize for Meta<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

/// The parts of the input that are copied unchanged into a child's complete JSON.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Nodes<'n> {
    pub(super) args: Option<&'n Node<'n>>,
    pub(super) run_at: Option<&'n Node<'n>>,
    pub(super) next: Option<&'n Node<'n>>,
}

/// A child, and the parent's outcome that enqueues it.
#[derive(Debug)]
pub(super) struct ChildDraft<'n> {
    pub(super) outcome: Outcome,
    pub(super) draft: JobDraft<'n>,
}
