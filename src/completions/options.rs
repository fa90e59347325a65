//! What to read of the completion streams, from where, and as whose member.

use super::Filter;
use crate::contract::EntryId;
use std::{collections::BTreeMap, time::Duration};

/// The id before every entry.
pub(super) const ZERO: EntryId = EntryId { ms: 0, seq: 0 };

/// Where to begin reading. An existing group continues where it was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Start {
    /// At the oldest completion that is kept.
    Beginning,
    /// After the call of [`Subscriber::start`](super::Subscriber::start).
    #[default]
    Now,
    /// After this entry, in every partition. Entry ids are times.
    After(EntryId),
    /// After the given entry in each partition. Partitions that are not listed are read from the beginning.
    AfterEach(BTreeMap<u16, EntryId>),
}

/// One reader's membership in a consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// Name of the group; created if it does not exist. Completions are kept until every group has acknowledged them
    /// (within `completions.max_bytes`), so destroy a group that is no longer read with `XGROUP DESTROY`.
    pub group: String,
    /// Name of this reader, unique within the group. A reader that restarts under the same name first gets the
    /// completions that it has not acknowledged.
    pub consumer: String,
    /// Time without an acknowledgement after which a completion goes to another reader; default 60 s.
    pub claim_after: Duration,
}

impl Membership {
    /// A membership with the default `claim_after`.
    pub fn new(group: impl Into<String>, consumer: impl Into<String>) -> Self {
        Self { group: group.into(), consumer: consumer.into(), claim_after: Duration::from_secs(60) }
    }
}

/// What a subscriber reads, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to begin.
    pub start: Start,
    /// Membership in a group; `None` to read alone.
    pub membership: Option<Membership>,
    /// Which completions to deliver. In a group, those that do not match are acknowledged without delivery.
    pub filter: Filter,
    /// Maximum number of completions in a batch; default 128.
    pub batch: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { start: Start::default(), membership: None, filter: Filter::default(), batch: 128 }
    }
}
