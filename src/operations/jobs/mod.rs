//! One job, or those that fit a selector: where they are, what they wait for, and how to cancel them.

mod bounds;
mod cancel;
mod delay;
mod estimate;
mod explain;
mod find;
mod hold;
mod list;
mod live;
mod place;
mod words;

pub use bounds::SearchBounds;
pub use cancel::{CancelDetail, Cancelled, JobCancelled, JobToCancel, cancel, cancel_job, end_cancellation, examine};
pub use estimate::{CancelEstimate, estimate, estimate_within};
pub use explain::{Explanation, explain, explain_within};
pub use hold::Hold;
pub use list::{
    JobFilter, JobList, JobListRequest, JobSummary, ListCursor, MOST_LISTED, PersonSeals, SealedPerson, Stage, list,
};
pub use place::{DeadLetterSummary, EndedJob, History, JobPlace, LastError, LiveJob, Searched};

pub(super) use cancel::cancel_each;
pub(super) use find::Finder;
pub(super) use list::Sieve;
pub(super) use live::Live;

pub use super::in_force::{IN_FORCE_WITHIN, InForce, in_force};
pub use crate::contract::DelayReason;
