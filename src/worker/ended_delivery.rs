//! Ends of deliveries as they are handed to Redis, and handed to it again where it refused them.

use super::lease::LeaseKey;
use crate::{
    contract::{JobType, Lane, Status},
    queue::{Finish, Source, rules::PausedDelivery},
};

/// A delivery's end, ready for Redis.
#[derive(Debug)]
pub(super) struct ReadyEnd {
    pub(super) key: LeaseKey,
    pub(super) finish: Finish,
    pub(super) note: EndMetric,
}

/// The metric to count once the end is written.
#[derive(Debug)]
pub(super) enum EndMetric {
    Completed {
        job_type: Option<JobType>,
        status: Status,
        queued_ms: u64,
        total_ms: u64,
        /// What the calls took, if there was one. A call may take less than a millisecond.
        xco_ms: Option<u64>,
        dead: bool,
    },
    Retry(JobType),
    Limited(JobType),
    Duplicate,
    Nothing,
}

/// Deliveries of one stream that a rule or a breaker delays, ready to be written.
#[derive(Debug)]
pub(super) struct DelayedDeliveries {
    pub(super) lane: Lane,
    pub(super) source: Source,
    /// Name of the rule or the breaker.
    pub(super) name: String,
    pub(super) holds: Vec<PausedDelivery>,
}
