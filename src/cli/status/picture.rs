//! What `status` shows, as data.

use crate::{
    control::Selector,
    queue::workers::{Difference, Heartbeat},
};
use serde::Serialize;
use std::collections::BTreeMap;

/// One look at everything.
#[derive(Debug, Default, Serialize)]
pub(super) struct Picture {
    /// RFC 3339, Redis's clock.
    pub(super) at: String,
    pub(super) partitions: u16,
    pub(super) lanes: BTreeMap<&'static str, LaneFigures>,
    pub(super) delayed: Delayed,
    pub(super) rates: Rates,
    /// By type, then by status: completions since ever.
    pub(super) completions: BTreeMap<String, BTreeMap<String, u64>>,
    pub(super) dead_letters: DeadLetters,
    pub(super) breaker: BreakerFigures,
    pub(super) learned_limits: Vec<LearnedLimit>,
    pub(super) orders: Vec<OrderShown>,
    /// Orders there are, should that be more than are listed.
    pub(super) orders_total: usize,
    pub(super) workers: Vec<WorkerShown>,
    /// Settings that living workers do not have alike.
    pub(super) differing_settings: Vec<Difference>,
}

/// A lane, over all partitions.
#[derive(Debug, Default, Serialize)]
pub(super) struct LaneFigures {
    /// Not read yet.
    pub(super) waiting: u64,
    /// In a worker's hands.
    pub(super) in_flight: u64,
    /// Age of the oldest entry.
    pub(super) oldest_ms: u64,
    pub(super) paused: bool,
}

/// What is put aside.
#[derive(Debug, Default, Serialize)]
pub(super) struct Delayed {
    pub(super) total: u64,
    /// `limit`, `retry`, `run_at`, `paused`, `breaker`, `slot`.
    pub(super) by_reason: BTreeMap<&'static str, u64>,
    /// Every one of them was looked at; else the figures by reason are projected from some.
    pub(super) exact: bool,
}

/// Completions a second, since the look before.
#[derive(Debug, Default, Serialize)]
pub(super) struct Rates {
    pub(super) over_ms: u64,
    pub(super) per_second: f64,
    pub(super) by_status: BTreeMap<String, f64>,
}

/// What is among the dead.
#[derive(Debug, Default, Serialize)]
pub(super) struct DeadLetters {
    pub(super) total: u64,
    /// How many of the last were looked at,
    pub(super) looked_at: u64,
    /// for their kinds of error.
    pub(super) by_kind: BTreeMap<String, u64>,
}

/// The breaker of all calls, and those of single routes.
#[derive(Debug, Default, Serialize)]
pub(super) struct BreakerFigures {
    pub(super) open: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) open_for_ms: Option<u64>,
    /// The routes whose breakers are not closed on some worker, by the type whose call it is.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) routes: BTreeMap<&'static str, RouteBreaker>,
}

/// A route's breaker that is not closed.
#[derive(Debug, Default, Serialize)]
pub(super) struct RouteBreaker {
    /// None: one call at a time finds out whether the route is back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) open_for_ms: Option<u64>,
}

/// A bucket that met 429s.
#[derive(Debug, Serialize)]
pub(super) struct LearnedLimit {
    pub(super) partition: u16,
    pub(super) bucket: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) calls_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) closed_for_ms: Option<u64>,
    pub(super) last_429_at: String,
}

/// A pause or cancellation in force.
#[derive(Debug, Serialize)]
pub(super) struct OrderShown {
    pub(super) order: &'static str,
    pub(super) jobs: Selector,
    pub(super) who: String,
    pub(super) from: String,
    pub(super) at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) until: Option<String>,
}

/// A worker.
#[derive(Debug, Serialize)]
pub(super) struct WorkerShown {
    pub(super) name: String,
    #[serde(flatten)]
    pub(super) heartbeat: Heartbeat,
    pub(super) uptime_ms: u64,
    pub(super) silent_ms: u64,
}
