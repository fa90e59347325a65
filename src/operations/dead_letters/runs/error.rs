//! Why a run cannot be planned or started.

use crate::{operations::Error, queue::runs::MAX_LIVE};

/// Why a run cannot be planned, started, or looked at.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The queue cannot be used, or no dead letter fits ([`Error::NoDeadLetter`]).
    #[error(transparent)]
    Operation(#[from] Error),
    /// The plan has expired, is not known, or nothing that it counted is left.
    #[error("the plan is out of date: it has expired, or nothing is left of what it counted")]
    PlanOutdated,
    /// The maximum number of runs goes on.
    #[error("{MAX_LIVE} replays and discards go on already")]
    TooManyRuns,
    /// A run with this name was asked to do something else.
    #[error("a run with this name does something else")]
    NameTaken,
    /// There is no run with this name, or not for this user.
    #[error("no run has this name")]
    UnknownRun,
    /// The request is larger than what can be kept.
    #[error("the filter and the edits are longer than 256 KiB")]
    TooLarge,
}

impl RunError {
    /// The remedy, if one is known.
    pub const fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Operation(error) => error.remedy(),
            Self::PlanOutdated => Some("plan again: a plan holds for ten minutes"),
            Self::TooManyRuns => Some("wait until one has ended, or stop one"),
            Self::NameTaken => Some("use another Idempotency-Key for another request"),
            Self::UnknownRun => Some("a run is kept for a week after its last change"),
            Self::TooLarge => Some("select the dead letters by type, error or time instead of by id"),
        }
    }
}
