//! The status of the queue: depths, ages, rates, delays, errors, limits, rules and workers.

mod collect;
mod snapshot;

pub use collect::SnapshotCollector;
pub use snapshot::{
    BackfillFigures, BreakerFigures, DeadLetters, Delayed, LaneFigures, LearnedLimitFigures, OverrideInForce, Rates,
    RouteBreaker, Snapshot, WorkerFigures,
};
