//! What a program or an operator can do with the queue: each is a function with a typed request, a typed report and a typed
//! error. Faces (the command line, later HTTP) parse, authorise and render.
//!
//! Nothing here reads the environment, a terminal or a clock of the host, and nothing prints. Who acts is an [`Actor`] that the
//! face names. A report's JSON, by `Serialize`, is what `--json` prints.

mod actor;
pub mod audit;
mod backend;
mod error;
pub mod health_checks;
mod local_redis;
pub mod pauses;
mod text;

pub use actor::Actor;
pub use backend::Backend;
pub use error::{Error, redis_place};
pub use text::{age, printable};
