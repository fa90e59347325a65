//! The form of a dead letter in Redis.

use crate::contract::EntryId;

/// A dead letter. Any producer can write to a stream, so a missing field is empty here.
#[derive(Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The partition that has the dead letter.
    pub partition: u16,
    /// The id of its stream entry.
    pub entry: EntryId,
    /// The id of the job.
    pub id: String,
    /// The type of the job.
    pub job_type: String,
    /// The job's JSON, without codes.
    pub job: String,
    /// The JSON of the error.
    pub error: String,
    /// When the job completed, in RFC 3339.
    pub at: String,
    /// Whether the job can be replayed without an edit.
    pub replayable: bool,
    /// The stored state of the job, which a replay needs.
    pub state: String,
}

impl DeadLetter {
    /// Creates a dead letter for an entry without any fields.
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

/// Leaves out what may be personal data.
impl std::fmt::Debug for DeadLetter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Letter").field("partition", &self.partition).field("entry", &self.entry).finish_non_exhaustive()
    }
}

/// A range of stream entry ids. Both ends are included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// The oldest entry of the range.
    pub first: EntryId,
    /// The newest entry of the range.
    pub last: EntryId,
}

/// A dead letter to be enqueued again.
#[derive(Clone)]
pub struct Replay {
    /// The stream entry of the dead letter.
    pub entry: EntryId,
    /// The id of the job.
    pub id: String,
    /// The JSON of the job to enqueue.
    pub job: String,
    /// The state of the job. Its origin is replaced when the job is enqueued.
    pub state: String,
    /// The origin for which the job's id may still be reserved. Empty if it is unknown.
    pub held_by: String,
    /// The batch that counts the job, and the status under which it was counted: `failed`, `rejected`, or `new` if it
    /// was not counted.
    pub batch: Option<(String, &'static str)>,
    /// The job before it was edited. `None` if it was not edited.
    pub original: Option<String>,
}
