//! One job, or those that fit a selector: where they are, what they wait for, and how to cancel them.

mod cancel;
mod delay;
mod delay_reason;
mod estimate;
mod explain;
mod find;
mod hold;

pub use cancel::{CancelDetail, Cancelled, JobCancelled, JobToCancel, cancel, cancel_job, examine};
pub use delay_reason::DelayReason;
pub use estimate::{CancelEstimate, estimate};
pub use explain::{DeadLetter, Ended, Explanation, History, JobError, JobPlace, LiveJob, Searched, explain};
pub use hold::Hold;

pub use super::in_force::{IN_FORCE_WITHIN, InForce, in_force};

use crate::contract::{Job, Origin, ParseContext, parse_job};

/// The job as a worker reads it; `None` where a worker would reject it. `lenient` is `limits.allow_missing_caller_id`.
fn parse(job: &[u8], origin: Origin, generation: u8, lenient: bool) -> Option<Job> {
    let default_id = origin.to_string();
    let context = ParseContext { allow_missing_caller_id: lenient, default_id: &default_id, generation };
    parse_job(job, context).ok()
}
