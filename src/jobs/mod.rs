//! The five job types: what each calls, and what each answer means. Pure: a job, its state and an answer in, a verdict out.
//!
//! One file a type, its policy beside it. Every delivery of a job makes exactly one call; what must be remembered until
//! the next one is in [`JobState`].
//!
//! # The life of a job
//!
//! ```text
//!            ┌────────────── parked (limit, retry, run_at, pause) ◀───────┐
//!            ▼                                                            │
//!   waiting ─▶ admitted ─▶ one call ─▶ verdict ─┬─ Succeeded, Failed ─▶ completion (+ dead letter, reply, next)
//!            │                 │                ├─ Retry, Defer ───────────┘
//!            │                 │                └─ Continue ─▶ waiting (next step, same job)
//!            │                 └─ worker lost ─▶ waiting, in doubt where the call is unsafe to repeat
//!            └─ duplicate: dropped · expired, rejected, cancelled: completion
//! ```

mod call;
mod check_user;
mod create_user;
mod decide;
mod finalize_consent;
mod outcome;
mod start_otp;
mod state;
mod verify_otp;

#[cfg(test)]
mod tests;

pub use call::{Doubt, Plan, Surroundings};
pub use decide::{doubt_first, judge, lost, panicked, plan};
pub use outcome::{Circumstances, Refusal, Verdict, retry_delay_ms};
pub use state::{Checkpoint, JobState, Waiting, fresh};
