//! A job that has not ended, as it is read from its lane or from the delayed jobs.

use crate::{
    config::Config,
    contract::{Job, Lane, MerchantId, Origin, ParseContext, parse_job},
    jobs::{CallInputs, JobState, next_call},
    limits::{Bucket, Limits},
    queue::{RawEntry, rules::DelayedJob},
};
use serde_json::Value;

/// A derived id is shorter, in bytes.
const MAX_ID_BYTES: usize = 256;

/// A job that has not ended.
#[derive(Debug)]
pub(in crate::operations) struct Live {
    /// Where the job was first enqueued.
    pub(in crate::operations) origin: Origin,
    /// The lane it is in.
    pub(in crate::operations) lane: Lane,
    /// `None`: no worker has read it.
    pub(in crate::operations) state: Option<JobState>,
    /// Since when it is in its stream, or delayed, in milliseconds on Redis's clock.
    pub(in crate::operations) since_ms: u64,
    /// Its JSON.
    pub(in crate::operations) job: Vec<u8>,
}

impl Live {
    pub(in crate::operations) fn delayed(parked: DelayedJob) -> Self {
        let state = JobState::from_json(&parked.state);
        let since_ms = state.as_ref().and_then(|state| state.waiting).map(|(_, since_ms)| since_ms);
        let since_ms = since_ms.unwrap_or(parked.origin.entry.ms);
        Self { origin: parked.origin, lane: parked.origin.lane, state, since_ms, job: parked.job }
    }

    /// A job that stands in a stream of that partition.
    pub(in crate::operations) fn in_stream(entry: RawEntry, partition: u16) -> Self {
        let origin = Self::origin_of(&entry, partition);
        Self { origin, lane: entry.lane, state: state_of(&entry), since_ms: entry.id.ms, job: entry.job }
    }

    /// The job as a worker reads it, and its id; `None` where a worker would reject it.
    pub(in crate::operations) fn parse(&self, lenient: bool) -> Option<(Job, String)> {
        let generation = self.state.as_ref().map_or(0, |state| state.generation);
        let job = parse(&self.job, self.origin, generation, lenient)?;
        let id = job.id.as_ref().map_or_else(|| self.origin.to_string(), |id| id.as_str().to_owned());
        Some((job, id))
    }

    /// The bucket that the job's next call spends; `None` where a worker would reject the job.
    pub(in crate::operations) fn bucket(&self, config: &Config, limits: &Limits) -> Option<Bucket> {
        let (state, (job, _)) = self.state.as_ref().zip(self.parse(config.limits.allow_missing_caller_id))?;
        let merchant = job.merchant_id.clone().or_else(|| config.xco.merchant_id.clone());
        let merchant = merchant.unwrap_or_else(|| MerchantId::from_checked(""));
        let planned = next_call(&job, state, CallInputs { merchant: &merchant });
        Some(limits.bucket(planned.rate_class, planned.spender))
    }

    /// The id in the job's JSON, else its origin. An id that is longer than any valid one counts as none.
    pub(in crate::operations) fn id(&self) -> String {
        let id = id_of(&self.job).filter(|id| (1..=MAX_ID_BYTES).contains(&id.len()));
        id.unwrap_or_else(|| self.origin.to_string())
    }

    /// Where a job of a stream entered: as its state says, or here.
    pub(super) fn origin_of(entry: &RawEntry, partition: u16) -> Origin {
        let here = Origin { lane: entry.lane, partition, entry: entry.id };
        state_of(entry).map_or(here, |state| state.origin)
    }
}

/// The job as a worker reads it; `None` where a worker would reject it. `lenient` is `limits.allow_missing_caller_id`.
fn parse(job: &[u8], origin: Origin, generation: u8, lenient: bool) -> Option<Job> {
    let default_id = origin.to_string();
    let context = ParseContext { allow_missing_caller_id: lenient, default_id: &default_id, generation };
    parse_job(job, context).ok()
}

pub(super) fn state_of(entry: &RawEntry) -> Option<JobState> {
    entry.state.as_deref().and_then(JobState::from_json)
}

pub(super) fn id_of(job: &[u8]) -> Option<String> {
    serde_json::from_slice::<Value>(job).ok()?["id"].as_str().map(str::to_owned)
}
