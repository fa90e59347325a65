//! The five job types: the call each one makes, and the meaning of each answer. Pure: takes a job, its state and an
//! answer, returns a verdict.
//!
//! Each type has its own file, which includes its policy. Every delivery of a job makes exactly one call. What the next
//! delivery must know is in [`JobState`].
//!
//! # The life of a job
//!
//! ```text
//!            ┌───────────── delayed (limit, retry, run_at, pause) ◀───────┐
//!            ▼                                                            │
//!   waiting ─▶ admitted ─▶ one call ─▶ verdict ─┬─ Succeeded, Failed ─▶ completion (+ dead letter, reply, next)
//!            │                 │                ├─ Retry, Defer ───────────┘
//!            │                 │                └─ Continue ─▶ waiting (next step, same job)
//!            │                 └─ worker lost ─▶ waiting, in doubt where the call is unsafe to repeat
//!            └─ duplicate: dropped · expired, rejected, cancelled: completion
//! ```

mod attempt;
mod call;
mod check_user;
mod create_user;
mod decide;
mod delay;
mod finalize_consent;
mod next_step;
mod start_otp;
mod state;
mod verify_otp;

#[cfg(test)]
mod tests;

pub use attempt::{Attempt, MOST_ATTEMPTS};
pub use call::{CallInputs, NextCall, RepeatSafety};
pub use decide::{decide, doubt_first, lost, next_call, panicked};
pub use delay::{delayed_because, waits_for};
pub use next_step::{CallCircumstances, CredentialRefusal, NextStep, retry_delay_ms};
pub use state::{Checkpoint, JobState, Waiting, fresh};
