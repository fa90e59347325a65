//! How a delivery ends, ready to be written to Redis, and written again where it was refused.

use super::lease::LeaseKey;
use crate::{
    contract::{JobType, Lane, Status},
    queue::{Finish, Source, control::Hold},
};

/// A delivery's end, ready for Redis.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) key: LeaseKey,
    pub(super) finish: Finish,
    pub(super) note: Note,
}

/// What to count once it is written.
#[derive(Debug)]
pub(super) enum Note {
    Completed { job_type: Option<JobType>, status: Status, queued_ms: u64, total_ms: u64, dead: bool },
    Retry(JobType),
    Limited(JobType),
    Duplicate,
    Nothing,
}

/// Deliveries of one stream that a rule pauses, ready to be parked.
#[derive(Debug)]
pub(super) struct Pause {
    pub(super) lane: Lane,
    pub(super) source: Source,
    /// The rule's name.
    pub(super) rule: String,
    pub(super) holds: Vec<Hold>,
}
