//! Enqueues jobs: checks each with the workers' parser, finds its lane and partition, adds it, and waits for its completion.
//!
//! | to enqueue | |
//! |---|---|
//! | one job | [`JobChecker::check`], then [`add`] |
//! | one job whose completion is wanted | [`JobChecker::check`], then [`add_and_wait`] |
//! | many requests at once that want completions | [`submit_and_wait`], with one [`CompletionHub`] for all; [`await_completion`] for a job enqueued before |
//! | many jobs | [`JobChecker::check`] for each, then [`add_many`] |
//! | NDJSON of any length | [`NdjsonEnqueue`] |
//! | text that a worker should reject | [`add_unchecked`] |
//!
//! All of them retry alike: a job with an id is sent again after an error that waiting can cure, because workers drop a
//! second job with the same id. A job without an id is sent once: it could otherwise run twice.
//!
//! [`CompletionHub`]: crate::completions::CompletionHub

mod add;
mod check;
mod lines;
mod members;
mod ndjson;
mod wait;

pub use add::{Enqueued, EnqueuedMany, Waited, add, add_and_look, add_and_wait, add_many, add_unchecked};
pub use check::{CheckedJob, EnqueueRequest, InvalidJob, JobChecker, JobDefaults, MAX_REQUEST_BYTES};
pub use lines::{Line, Lines};
pub use ndjson::{LineResult, NdjsonEnqueue, NdjsonError};
pub use wait::{Awaited, Submission, await_completion, submit_and_wait};
