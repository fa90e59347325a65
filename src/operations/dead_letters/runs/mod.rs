//! Replays and discards that a program runs for an operator: planned, started, watched, stopped, and continued after a crash.
//!
//! | file | |
//! |---|---|
//! | `plan` | [`plan_replay`], [`plan_discard`]: what a run would do, kept for ten minutes under an id |
//! | `start` | [`Runs::start`]: begins a run, continues an interrupted one, or returns the one that is known |
//! | `control` | [`get`], [`list`], [`stop`] |
//! | `request`, `name` | what a run is asked to do; what it is called |
//! | `record` | a run as Redis keeps it, and as it is reported |
//! | `work`, `counting` | the task that does it |
//!
//! A run belongs to the process that began it, which writes a heartbeat once a second. When the heartbeat is silent for five
//! seconds, the run is `interrupted`: the same request, or only its name, continues it. No dead letter is lost or replayed twice, because
//! each moves in one atomic step.

mod control;
mod counting;
mod error;
mod name;
mod plan;
mod record;
mod request;
mod start;
mod work;

pub use control::{get, list, stop};
pub use error::RunError;
pub use name::RunName;
pub use plan::{PlannedDiscard, PlannedReplay, plan_discard, plan_replay, planned_count};
pub use record::{RunCounts, RunReport, RunState};
pub use request::RunKind;
pub use start::{Runs, StartRequest, Work};
