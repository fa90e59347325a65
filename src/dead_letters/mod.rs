//! Dead letters: what one is, which are meant, what may be shown of one, whether it may be replayed, and what a replay would
//! do. Pure.

mod dead_letter;
mod edit;
mod estimate;
mod filter;
mod group_by;
mod mask;
mod replay_policy;
mod spending;
mod view;

pub use dead_letter::{DeadLetter, IdRange, Replay};
pub use edit::{Assignment, Changes, parse_pointer};
pub use estimate::{Estimator, InvalidAt, KindCount, KindCounts, ReplayEstimate};
pub use filter::{DeadStatus, Filter, Moment, Statuses};
pub use group_by::{Group, GroupBy, GroupCounts, Groups, OtherGroups};
pub use mask::{masked_completion, masked_error, masked_job, masked_message};
pub use replay_policy::{AcceptedRisks, ReadyReplay, Refused, ReplayRefusal, decide_replay};
pub use spending::{BucketState, BusyBucket, LimitedBy};
pub use view::DeadLetterView;

#[cfg(test)]
pub(crate) mod testing {
    use super::DeadLetter;

    /// Returns a dead letter with this job and this error.
    pub(crate) fn dead_letter(job: &str, error: &str) -> DeadLetter {
        let entry = crate::contract::EntryId { ms: 1_732_265_000_000, seq: 0 };
        DeadLetter {
            id: "a".to_owned(),
            job_type: "CheckUser".to_owned(),
            job: job.to_owned(),
            error: error.to_owned(),
            replayable: true,
            ..DeadLetter::empty(0, entry)
        }
    }
}
