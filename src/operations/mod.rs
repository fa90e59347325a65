//! What a program or an operator can do with the queue: each is a function with a typed request, a typed report and a typed
//! error. Faces (the command line, HTTP) parse, authorise and render.
//!
//! Nothing here reads the environment, a terminal or a clock of the host, and nothing prints. Who acts is an [`Actor`] that the
//! face names. A report's JSON, by `Serialize`, is what `--json` prints.

mod actor;
mod attempts;
pub mod audit;
mod backend;
pub mod backfill;
pub mod batches;
pub mod board;
pub mod callers;
pub mod dead_letters;
pub mod enqueue;
pub mod erase;
mod error;
pub mod health_checks;
pub mod history;
mod in_force;
pub mod jobs;
mod kept_completions;
mod lane_load;
pub mod limits;
mod local_redis;
pub mod namespace;
pub mod pauses;
mod progress;
mod rule_in_force;
pub mod sessions;
pub mod status;
mod text;
pub mod verdict;

pub use crate::{
    contract::{MerchantScope, printable},
    dead_letters::masked_completion,
    rules::Selector,
};
pub use actor::Actor;
pub use attempts::PastAttempt;
pub use backend::{Backend, SharedBackend};
pub use error::{Error, Unfinished, redis_place};
pub use in_force::InForce;
pub use kept_completions::KeptCompletions;
pub use lane_load::LaneLoad;
pub use progress::{NoProgress, Progress};
pub use rule_in_force::RuleInForce;
pub use text::age;
