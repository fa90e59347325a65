//! Brings jobs forward that wait for a limit which was raised.
//!
//! A waiting job has a reservation, made at the rate of that time. Without this, a backlog would keep the former rate until it is gone.
//! A job that comes too early does no harm: it waits again, and keeps its turn.

use crate::{
    config::Config,
    jobs::{JobState, Waiting},
    limits::{Bucket, LimitName, Limits, SharedBucket},
    operations::{Backend, jobs::Live},
    queue::{
        Keys,
        learned::{self, MAX_LEARNED},
        list::{DelayedPosition, FIRST_COUNT, delayed_page, next_count},
        overrides::{self, BroughtForward, MAX_BRING_FORWARD},
        rules::{self, DelayedJob},
    },
    rules::NO_END_MS,
};
use redis::RedisResult;
use std::collections::{HashMap, HashSet};

/// Maximum number of delayed jobs that are looked at, over all partitions.
const MOST_LOOKED_AT: usize = 100_000;

/// A job that would come earlier by less than this stays where it is, in milliseconds.
const WORTH_MS: u64 = 1_000;

/// Maximum number of buckets in one call.
const MOST_BUCKETS: usize = 500;

/// Gives the jobs that wait for these limits the times that follow from `limits`. Returns how many jobs were moved.
pub(super) async fn bring_forward(
    backend: &mut Backend<'_>,
    config: &Config,
    limits: &Limits,
    names: &[LimitName],
) -> RedisResult<u64> {
    if names.is_empty() {
        return Ok(0);
    }
    let (mut moved, mut left) = (0, MOST_LOOKED_AT);
    for keys in backend.keys() {
        let mut walk = Walk::new(config, limits, names);
        moved += walk.run(backend, &keys, &mut left).await?;
    }
    Ok(moved)
}

/// The way through one partition's delayed jobs, by due time.
struct Walk<'a> {
    config: &'a Config,
    limits: &'a Limits,
    names: &'a [LimitName],
    /// Buckets that follow a learned rate, which grows by itself.
    learned: HashSet<String>,
    /// Each bucket that was met, and how many of its jobs were seen.
    seen: HashMap<String, (Bucket, u64)>,
}

impl<'a> Walk<'a> {
    fn new(config: &'a Config, limits: &'a Limits, names: &'a [LimitName]) -> Self {
        Self { config, limits, names, learned: HashSet::new(), seen: HashMap::new() }
    }

    async fn run(&mut self, backend: &mut Backend<'_>, keys: &Keys, left: &mut usize) -> RedisResult<u64> {
        let link = &mut backend.link;
        self.learned = learned::learned(link, keys, MAX_LEARNED).await?.into_iter().map(|found| found.bucket).collect();
        let now_ms = rules::now_ms(link).await?;
        let (mut moved, mut after, mut count) = (0, None, FIRST_COUNT);
        loop {
            let page = delayed_page(link, keys, after, count.min(*left).min(MAX_BRING_FORWARD)).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            *left = left.saturating_sub(page.len());
            let bytes =
                page.iter().filter_map(|(_, job)| job.as_ref()).map(|job| job.state.len() + job.job.len()).sum();
            count = next_count(bytes, page.len());
            let jobs: Vec<_> = page.into_iter().filter_map(|(at, job)| self.earlier(at, job?, now_ms)).collect();
            if !jobs.is_empty() {
                moved += overrides::bring_forward(link, keys, &jobs, &[]).await?;
            }
            if *left == 0 {
                // How many reservations the buckets still have is not known.
                return Ok(moved);
            }
        }
        if moved > 0 {
            let levels: Vec<_> = self.levels(now_ms).collect();
            for some in levels.chunks(MOST_BUCKETS) {
                overrides::bring_forward(link, keys, &[], some).await?;
            }
        }
        Ok(moved)
    }

    /// When a job comes instead, if it waits for one of the limits and that is clearly earlier.
    fn earlier(&mut self, position: DelayedPosition, job: DelayedJob, now_ms: u64) -> Option<BroughtForward> {
        let live = Live::delayed(job);
        let state = live.state.as_ref()?;
        if !waits_for_reservation(state) {
            return None;
        }
        let bucket = if state.reserved_total {
            self.limits.shared(SharedBucket::Total)
        } else {
            live.bucket(self.config, self.limits)?
        };
        if !self.is_meant(&bucket) || self.learned.contains(&bucket.name) {
            return None;
        }
        let interval_us = bucket.interval_us;
        let (_, seen) = self.seen.entry(bucket.name.clone()).or_insert((bucket, 0));
        let due_ms = now_ms.saturating_add(seen.saturating_mul(interval_us) / 1000);
        *seen += 1;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time; the cast saturates")]
        let now_due_ms = position.score as u64;
        let is_worth_it = due_ms.saturating_add(WORTH_MS) <= now_due_ms && now_due_ms < NO_END_MS;
        is_worth_it.then_some(BroughtForward { origin: position.origin, score: position.score, due_ms })
    }

    /// Whether the bucket has one of the limits. A caller's bucket for one job type counts with the caller's.
    fn is_meant(&self, bucket: &Bucket) -> bool {
        let name = match bucket.shared {
            Some(SharedBucket::Client) => LimitName::Client,
            Some(SharedBucket::Total) => LimitName::Total,
            None => LimitName::Caller,
        };
        self.names.contains(&name)
    }

    /// For each bucket the time in microseconds until which the jobs that were seen have their reservations.
    fn levels(&self, now_ms: u64) -> impl Iterator<Item = (&str, u64)> {
        self.seen.iter().map(move |(name, (bucket, seen))| {
            let ahead_us = seen.saturating_mul(bucket.interval_us).saturating_add(bucket.tolerance_us);
            (name.as_str(), now_ms.saturating_mul(1000).saturating_add(ahead_us))
        })
    }
}

/// Whether a job has a reservation for which it waits. Bulk jobs in the queue of a shared bucket have none, and come by themselves.
fn waits_for_reservation(state: &JobState) -> bool {
    !state.cancelled && state.holds_slot() && state.waiting.is_some_and(|(waiting, _)| waiting == Waiting::Limit)
}
