//! One file for each page, with the types of its templates.

pub(super) mod audit;
pub(super) mod batches;
pub(super) mod callers;
pub(super) mod cancel;
pub(super) mod cancel_many;
pub(super) mod dead;
pub(super) mod job;
pub(super) mod jobs;
pub(super) mod limits;
pub(super) mod login;
pub(super) mod overview;
pub(super) mod rules;
