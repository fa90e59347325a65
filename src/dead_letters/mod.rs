//! Dead letters: their form, selection, display, and the decision whether one can be replayed. Pure.

mod changes;
mod facts;
mod filter;
mod judge;
mod letter;
mod mask;

pub use changes::{Assignment, Changes, parse_pointer};
pub use facts::Facts;
pub use filter::{Filter, Moment, Statuses};
pub use judge::{Allowed, Ready, Refusal, Refused, judge};
pub use letter::{Letter, Replay, Stretch};
pub use mask::{masked_error, masked_job};

#[cfg(test)]
pub(crate) mod testing {
    use super::Letter;

    /// Returns a dead letter with this job and this error.
    pub(crate) fn letter(job: &str, error: &str) -> Letter {
        let entry = crate::contract::EntryId { ms: 1_732_265_000_000, seq: 0 };
        Letter {
            id: "a".to_owned(),
            job_type: "CheckUser".to_owned(),
            job: job.to_owned(),
            error: error.to_owned(),
            replayable: true,
            ..Letter::empty(0, entry)
        }
    }
}
