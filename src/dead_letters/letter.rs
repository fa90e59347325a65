//! A dead letter, as it lies in Redis.

use crate::contract::EntryId;

/// A dead letter. Anyone can write to a stream: what a letter lacks is empty here.
#[derive(Clone, PartialEq, Eq)]
pub struct Letter {
    /// Its partition.
    pub partition: u16,
    /// Its entry there.
    pub entry: EntryId,
    /// The job's id.
    pub id: String,
    /// The job's type.
    pub job_type: String,
    /// The job, codes removed.
    pub job: String,
    /// The error's JSON.
    pub error: String,
    /// When the job ended, RFC 3339.
    pub at: String,
    /// Whether it may be replayed as it is.
    pub replayable: bool,
    /// What a replay must know beside the job.
    pub state: String,
}

impl Letter {
    /// An entry without any of a letter's fields.
    pub const fn empty(partition: u16, entry: EntryId) -> Self {
        Self {
            partition,
            entry,
            id: String::new(),
            job_type: String::new(),
            job: String::new(),
            error: String::new(),
            at: String::new(),
            replayable: false,
            state: String::new(),
        }
    }
}

/// Without what may be about a person.
impl std::fmt::Debug for Letter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Letter").field("partition", &self.partition).field("entry", &self.entry).finish_non_exhaustive()
    }
}

/// A stretch of a stream, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// The oldest entry.
    pub first: EntryId,
    /// The newest.
    pub last: EntryId,
}

/// A letter on its way back into the queue.
#[derive(Clone)]
pub struct Replay {
    /// The letter's entry.
    pub entry: EntryId,
    /// The job's id.
    pub id: String,
    /// The job to enqueue.
    pub job: String,
    /// Its state; the origin in it is replaced.
    pub state: String,
    /// The origin that may hold the job's id still; empty where it is not known.
    pub held_by: String,
    /// The batch that counts it, and the status under which it has: `failed`, `rejected`, or `new` where it has not.
    pub batch: Option<(String, &'static str)>,
    /// The job as it was, where it was edited.
    pub original: Option<String>,
}
