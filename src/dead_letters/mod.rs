//! Dead letters: what one is, which are meant, what may be shown of one, whether it may be replayed, and what a replay would
//! do. Pure.

mod changes;
mod estimate;
mod facts;
mod filter;
mod group_by;
mod judge;
mod letter;
mod mask;
mod spending;

pub use changes::{Assignment, Changes, parse_pointer};
pub use estimate::{Estimator, InvalidAt, KindCount, KindCounts, ReplayEstimate};
pub use facts::Facts;
pub use filter::{DeadStatus, Filter, Moment, Statuses};
pub use group_by::{Group, GroupBy, GroupCounts, Groups, OtherGroups};
pub use judge::{Allowed, Ready, Refusal, Refused, judge};
pub use letter::{Letter, Replay, Stretch};
pub use mask::{masked_error, masked_job};
pub use spending::{BucketState, BusyBucket, LimitedBy};

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
