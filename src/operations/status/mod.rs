//! The status of the queue: depths, ages, rates, delays, errors, limits, rules and workers.

mod collect;
mod snapshot;

pub use collect::Collector;
pub use snapshot::{
    BreakerFigures, DeadLetters, Delayed, LaneFigures, LearnedLimit, Rates, RouteBreaker, RuleInForce, Snapshot,
    WorkerFigures,
};
