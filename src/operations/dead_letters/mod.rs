//! Dead letters: jobs that failed for good or were rejected. Looking at them, replaying them, discarding them.
//!
//! | file | |
//! |---|---|
//! | `list`, `group`, `show` | looking: without personal data, unless a caller asks for it and it is recorded |
//! | `export` | dead letters as NDJSON, complete or masked |
//! | `reveal` | [`Reveal`]: whether personal data is shown, for what reason, how often |
//! | `replay` | [`replay::plan`], then [`replay::run`]: back into the queue, at a rate |
//! | `replayer`, `outcomes` | moving them, step by step; how the replayed jobs ended |
//! | `discard` | [`discard::plan`], then [`discard::run`]: removed for good |
//! | `runs` | the same as tasks of a program, with progress that others can read; [`runs::Runs::start`] |
//! | `scan` | [`Scope`]: which dead letters an operation may touch; reading them a page ahead |
//!
//! A replay and a discard have two halves. A plan changes nothing, and is a value: a face shows it, asks, keeps it. A run takes
//! at most the dead letters that its plan counted, and none that were written after the plan's [`Scope`].

pub mod discard;
mod export;
mod group;
mod json;
mod list;
mod outcomes;
pub mod replay;
mod replayer;
mod reveal;
pub mod runs;
mod scan;
mod show;

pub use self::{
    export::{ExportError, export, export_to},
    group::group,
    list::{DeadLetterList, DeadLetterSummary, ErrorSummary, ListCursor, ListRequest, Rest, list},
    reveal::{MAX_REASON, MAX_REVEALS, Reason, Reveal},
    scan::{PartitionRange, Scope, scope},
    show::{DeadLetterDetails, EditDetails, ShowReport, ShowRequest, show},
};
pub use crate::dead_letters::{
    Assignment, Changes, DeadStatus, Filter, Group, GroupBy, Groups, InvalidAt, KindCount, LimitedBy, Moment,
    OtherGroups, ReplayEstimate, ReplayRefusal, Statuses, parse_pointer,
};
#[cfg(test)]
pub(crate) use crate::dead_letters::{DeadLetterView, testing::dead_letter};
