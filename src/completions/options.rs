//! What to read of the completion streams, from where, and as whose member.

use super::Filter;
use crate::contract::EntryId;
use std::{collections::BTreeMap, time::Duration};

/// Before every entry.
pub(super) const ZERO: EntryId = EntryId { ms: 0, seq: 0 };

/// Where to begin. A group that is there already goes on where it was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Start {
    /// With the oldest completion that is kept.
    Beginning,
    /// With what comes after [`Subscriber::start`] has been called.
    #[default]
    Now,
    /// After this entry, in every partition: entry ids are times.
    After(EntryId),
    /// After the entry that was read last of each partition; partitions not named from the beginning.
    AfterEach(BTreeMap<u16, EntryId>),
}

/// A reader's place in a consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The group, made where it is missing. Completions are kept until every group has acknowledged them (within
    /// `completions.max_bytes`): a group that is read no more should be destroyed with `XGROUP DESTROY`.
    pub group: String,
    /// This reader's name, its own within the group. Under the same name it is given again what it did not acknowledge.
    pub consumer: String,
    /// After this long without an acknowledgement a completion goes to another reader; default 60 s.
    pub claim_after: Duration,
}

impl Membership {
    /// A place with the default `claim_after`.
    pub fn new(group: impl Into<String>, consumer: impl Into<String>) -> Self {
        Self { group: group.into(), consumer: consumer.into(), claim_after: Duration::from_secs(60) }
    }
}

/// What to read, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to begin.
    pub start: Start,
    /// As a member of a group; else alone.
    pub membership: Option<Membership>,
    /// What is wanted. In a group, what is not wanted is acknowledged unseen.
    pub filter: Filter,
    /// The most completions of one batch; default 128.
    pub batch: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { start: Start::default(), membership: None, filter: Filter::default(), batch: 128 }
    }
}
