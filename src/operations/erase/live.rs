//! Jobs about a customer that have not ended.

use super::{
    counts::{EraseCounts, MOST_JOBS},
    customer::{CustomerToErase, Matcher},
};
use crate::{
    config::Config,
    contract::{Lane, Origin},
    operations::{
        Backend, NoProgress, Progress,
        jobs::{Finder, Live},
    },
    queue::{Source, find, rules, workers},
};
use redis::RedisResult;
use std::{collections::BTreeSet, time::Duration};
use tokio::time::{Instant, sleep};

/// Entries that one step reads.
const STEP: usize = 500;

/// How often the end of the jobs is looked for.
const LOOK: Duration = Duration::from_millis(200);

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LiveStage {
    Waiting,
    Delayed,
    InFlight,
}

/// A job about the customer.
#[derive(Debug)]
pub(super) struct LiveJob {
    pub(super) id: String,
    pub(super) stage: LiveStage,
    origin: Origin,
    /// A worker would take it. Otherwise a worker rejects it, and it cannot be cancelled.
    is_valid: bool,
}

/// The jobs that were found, at most [`MOST_JOBS`].
#[derive(Debug, Default)]
pub(super) struct LiveJobs {
    pub(super) jobs: Vec<LiveJob>,
    pub(super) counts: EraseCounts,
    /// There are more.
    pub(super) has_more: bool,
}

/// Finds the jobs: first in the lanes, then among the delayed ones, which is the way that jobs take.
pub(super) async fn find(
    backend: &mut Backend<'_>,
    config: &Config,
    matcher: &Matcher<'_>,
    progress: &dyn Progress,
) -> RedisResult<LiveJobs> {
    let lenient = config.limits.allow_missing_caller_id;
    let mut found = LiveJobs::default();
    for keys in backend.keys() {
        for (lane, source) in Lane::ALL.into_iter().flat_map(|lane| [(lane, Source::Due), (lane, Source::Jobs)]) {
            let read = find::last_read(&mut backend.link, keys.stream(lane, source)).await?;
            let mut after = None;
            loop {
                let page = find::page(&mut backend.link, &keys, lane, source, after, STEP).await?;
                let Some(last) = page.last().map(|entry| entry.id) else { break };
                progress.advance(u64::try_from(page.len()).unwrap_or(0));
                for entry in page {
                    let is_read = read.is_some_and(|read| entry.id <= read);
                    let stage = if is_read { LiveStage::InFlight } else { LiveStage::Waiting };
                    found.add_if_named(matcher, stage, &Live::in_stream(entry, keys.partition), lenient);
                }
                after = Some(last);
            }
        }
        let mut cursor = 0;
        loop {
            let (next, page) = rules::scan_delayed(&mut backend.link, &keys, cursor, STEP).await?;
            progress.advance(u64::try_from(page.len()).unwrap_or(0));
            for parked in page {
                found.add_if_named(matcher, LiveStage::Delayed, &Live::delayed(parked), lenient);
            }
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
    }
    Ok(found)
}

impl LiveJobs {
    fn add_if_named(&mut self, matcher: &Matcher<'_>, stage: LiveStage, live: &Live, lenient: bool) {
        let is_named = matcher.may_be_named(&live.job) && matcher.is_named(&live.id());
        if !is_named && !matcher.fits(&live.job) {
            return;
        }
        // A scan may show a job twice, and a job may move meanwhile.
        if self.jobs.iter().any(|job| job.origin == live.origin) {
            return;
        }
        *match stage {
            LiveStage::Waiting => &mut self.counts.waiting,
            LiveStage::Delayed => &mut self.counts.delayed,
            LiveStage::InFlight => &mut self.counts.in_flight,
        } += 1;
        if self.jobs.len() >= MOST_JOBS {
            self.has_more = true;
            return;
        }
        let valid = live.parse(lenient).map(|(_, id)| id);
        let (is_valid, id) = (valid.is_some(), valid.unwrap_or_else(|| live.id()));
        self.jobs.push(LiveJob { id, stage, origin: live.origin, is_valid });
    }

    /// The ids of the jobs.
    pub(super) fn ids(&self) -> impl Iterator<Item = String> + '_ {
        self.jobs.iter().map(|job| job.id.clone())
    }

    /// The jobs that a cancellation ends.
    pub(super) fn cancellable(&self) -> Vec<(String, Origin)> {
        let ends = self.jobs.iter().filter(|job| job.is_valid && job.stage != LiveStage::InFlight);
        ends.map(|job| (job.id.clone(), job.origin)).collect()
    }

    /// Waits until the jobs have ended, at most for `wait`. Returns the ids of the others.
    pub(super) async fn wait_for_ends(
        &self,
        backend: &mut Backend<'_>,
        wait: Duration,
    ) -> RedisResult<BTreeSet<String>> {
        let until = Instant::now() + wait;
        let mut left: Vec<&LiveJob> = self.jobs.iter().collect();
        loop {
            let mut still = Vec::new();
            for job in left {
                if Finder::new(backend, &job.id, &NoProgress).is_live(job.origin).await? {
                    still.push(job);
                }
            }
            left = still;
            if left.is_empty() || Instant::now() >= until || !has_worker(backend).await? {
                return Ok(left.into_iter().map(|job| job.id.clone()).collect());
            }
            sleep(LOOK).await;
        }
    }
}

async fn has_worker(backend: &mut Backend<'_>) -> RedisResult<bool> {
    let keys = backend.common_keys();
    let now_ms = rules::now_ms(&mut backend.link).await?;
    Ok(workers::workers(&mut backend.link, &keys).await?.values().any(|worker| worker.is_recent(now_ms)))
}

/// How many rules name the customer.
pub(super) async fn rules(backend: &mut Backend<'_>, customer: &CustomerToErase) -> RedisResult<u64> {
    let keys = backend.common_keys();
    let rules = rules::load(&mut backend.link, &keys).await?;
    let Some(reference) = &customer.reference else { return Ok(0) };
    let named = rules.all().filter(|(_, selector, _)| {
        [&selector.caller, &selector.customer].into_iter().flatten().any(|text| text == reference)
    });
    Ok(u64::try_from(named.count()).unwrap_or(u64::MAX))
}
