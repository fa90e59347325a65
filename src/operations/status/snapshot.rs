//! The status snapshot: how the queue is at one moment.

use crate::{
    operations::{jobs::DelayReason, rule_in_force::RuleInForce},
    queue::workers::{Difference, Heartbeat, SILENT_MS},
};
use serde::Serialize;
use std::collections::BTreeMap;

/// How the queue is at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Snapshot {
    /// When it was collected, RFC 3339, on Redis's clock.
    pub at: String,
    /// How many partitions the queue has.
    pub partitions: u16,
    /// The lanes by their names.
    pub lanes: BTreeMap<&'static str, LaneFigures>,
    /// Jobs that come back to their lane later.
    pub delayed: Delayed,
    /// Completions per second.
    pub rates: Rates,
    /// All completions that were ever counted: by job type, then by status.
    pub completions: BTreeMap<String, BTreeMap<String, u64>>,
    /// Dead letters.
    pub dead_letters: DeadLetters,
    /// The breakers.
    pub breaker: BreakerFigures,
    /// Limits that met a 429, the latest first; at most 20.
    pub learned_limits: Vec<LearnedLimitFigures>,
    /// Limits and concurrency that operators changed.
    pub overrides: Vec<OverrideInForce>,
    /// Operators' rules in force, pauses first; at most 20.
    pub orders: Vec<RuleInForce>,
    /// How many rules are in force.
    pub orders_total: usize,
    /// Backfills that run or were interrupted, the latest first: those among the latest 20.
    pub backfills: Vec<BackfillFigures>,
    /// The workers, by their names.
    pub workers: Vec<WorkerFigures>,
    /// Settings in which the running workers differ.
    pub differing_settings: Vec<Difference>,
}

/// A lane, over all partitions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LaneFigures {
    /// Entries that no worker has read.
    pub waiting: u64,
    /// Entries that a worker has.
    pub in_flight: u64,
    /// Age of the oldest entry in milliseconds.
    pub oldest_ms: u64,
    /// An operator paused the whole lane.
    pub paused: bool,
}

/// Delayed jobs, over all partitions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Delayed {
    /// How many there are.
    pub total: u64,
    /// How many wait for what.
    pub by_reason: BTreeMap<DelayReason, u64>,
    /// All of them were read. Otherwise the counts by reason are projected from a sample.
    pub exact: bool,
}

/// Completions per second since the snapshot before.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Rates {
    /// The time since the snapshot before, in milliseconds.
    pub over_ms: u64,
    /// All completions.
    pub per_second: f64,
    /// By status.
    pub by_status: BTreeMap<String, f64>,
}

/// Dead letters, over all partitions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DeadLetters {
    /// How many there are.
    pub total: u64,
    /// How many of them, the latest, were read for `by_kind`.
    pub looked_at: u64,
    /// By the kind of error.
    pub by_kind: BTreeMap<String, u64>,
}

/// The breaker of all calls, and those of single routes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BreakerFigures {
    /// Workers call XCO no more, for now.
    pub open: bool,
    /// For how many milliseconds still.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_for_ms: Option<u64>,
    /// The routes whose breaker is not closed on some worker, by the job type that calls them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub routes: BTreeMap<&'static str, RouteBreaker>,
}

/// A route's breaker that is not closed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RouteBreaker {
    /// For how many milliseconds it stays open. `None`: one call at a time is tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_for_ms: Option<u64>,
}

/// A limit that met a 429.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LearnedLimitFigures {
    /// The partition that it belongs to.
    pub partition: u16,
    /// The name of its bucket. It may hold a caller.
    pub bucket: String,
    /// The learned rate as grown by now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls_per_second: Option<f64>,
    /// For how many milliseconds no call is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_for_ms: Option<u64>,
    /// When XCO last answered 429, in RFC 3339.
    pub last_429_at: String,
}

/// A limit, or the concurrency, that an operator changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OverrideInForce {
    /// `total.rate`, `concurrency`, …
    pub name: &'static str,
    /// The value in force.
    pub value: String,
    /// Who set it.
    pub who: String,
    /// From which host or address.
    pub from: String,
    /// When, RFC 3339, on Redis's clock.
    pub at: String,
    /// Why, in the operator's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A backfill with rows that have not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackfillFigures {
    /// The batch.
    pub batch: String,
    /// When a run of it began last, RFC 3339.
    pub begun_at: String,
    /// Number of valid rows; `None` if an older version began the backfill.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid: Option<u64>,
    /// Rows that have ended, as far as a run or a report has collected them.
    pub ended: u64,
    /// Of these, the rows without success.
    pub unsuccessful: u64,
    /// Valid rows that have not ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending: Option<u64>,
}

/// A worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WorkerFigures {
    /// The worker's name in the consumer group.
    pub name: String,
    /// What it reports of itself, without the version of its rules.
    #[serde(flatten)]
    pub heartbeat: Heartbeat,
    /// Milliseconds since it started.
    pub uptime_ms: u64,
    /// Milliseconds since its last heartbeat.
    pub silent_ms: u64,
}

impl WorkerFigures {
    /// Its last heartbeat is old: it may be gone.
    pub const fn is_silent(&self) -> bool {
        self.silent_ms > SILENT_MS
    }
}
