//! How many jobs a cancellation would cover.

use super::{
    list::{JobFilter, Sieve},
    live::Live,
};
use crate::{
    config::Config,
    contract::Lane,
    operations::{Actor, Backend, Error, Progress},
    queue::{
        Keys, Source, find,
        rules::{self, MAX_CANCEL_DELAYED},
    },
    rules::{Rule, RuleAction, RuleOrigin, RuleSet, Selector, Subject},
};
use redis::RedisResult;
use serde::Serialize;

/// Entries that one step reads.
const STEP: usize = 500;

/// Maximum number of entries of the lanes that an estimate reads.
const MOST_COUNTED: usize = 200_000;

/// How many jobs a selector fits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CancelEstimate {
    /// The selector.
    pub jobs: Selector,
    /// Delayed jobs that fit: they end at once.
    pub delayed: u64,
    /// Jobs in a lane that fit: they end as they come up.
    pub waiting: u64,
    /// Jobs in flight that fit: the current call finishes; no further call is made.
    pub in_flight: u64,
    /// Number of entries of the lanes that were read for it.
    pub looked_at: u64,
    /// All entries of the lanes were read. Otherwise more jobs may fit, and the cancellation covers them, too.
    pub exact: bool,
}

impl CancelEstimate {
    /// How many jobs fit.
    pub const fn total(&self) -> u64 {
        self.delayed + self.waiting + self.in_flight
    }

    /// No job fits, and all were read.
    pub const fn is_empty(&self) -> bool {
        self.total() == 0 && self.exact
    }
}

/// Counts the jobs that a selector fits and that no operator has cancelled yet. Changes nothing. Reads every delayed job, and at most
/// 200,000 entries of the lanes.
///
/// # Errors
/// [`Error::Redis`].
pub async fn estimate(
    backend: &mut Backend<'_>,
    config: &Config,
    jobs: &Selector,
    progress: &dyn Progress,
) -> Result<CancelEstimate, Error> {
    estimate_within(backend, config, jobs, MOST_COUNTED, progress).await
}

/// [`estimate`] that reads at most `most` entries of the lanes.
///
/// # Errors
/// [`Error::Redis`].
pub async fn estimate_within(
    backend: &mut Backend<'_>,
    config: &Config,
    jobs: &Selector,
    most: usize,
    progress: &dyn Progress,
) -> Result<CancelEstimate, Error> {
    let failed = backend.failed();
    let mut counted = count(backend, config, jobs, most, progress).await.map_err(&failed)?;
    if counted.is_empty() {
        // A job moves while they are counted. The second look finds one that moved during the first.
        counted = count(backend, config, jobs, most, progress).await.map_err(&failed)?;
    }
    Ok(counted)
}

async fn count(
    backend: &mut Backend<'_>,
    config: &Config,
    jobs: &Selector,
    most: usize,
    progress: &dyn Progress,
) -> RedisResult<CancelEstimate> {
    let now_ms = rules::now_ms(&mut backend.link).await?;
    let fits = Fits::new(jobs, Actor::new("", "").order(now_ms, None), now_ms, config);
    let (jobs, exact) = (jobs.clone(), true);
    let mut counted = CancelEstimate { jobs, delayed: 0, waiting: 0, in_flight: 0, looked_at: 0, exact };
    let mut left = most;
    for partition in 0..backend.partitions() {
        let keys = backend.keys_of(partition);
        for lane in fits.lanes() {
            for source in [Source::Due, Source::Jobs] {
                count_stream(backend, &keys, (lane, source), &fits, (&mut counted, &mut left), progress).await?;
            }
        }
        counted.delayed += fits.delayed(backend, &keys, progress, false).await?;
    }
    Ok(counted)
}

async fn count_stream(
    backend: &mut Backend<'_>,
    keys: &Keys,
    (lane, source): (Lane, Source),
    fits: &Fits<'_>,
    (counted, left): (&mut CancelEstimate, &mut usize),
    progress: &dyn Progress,
) -> RedisResult<()> {
    let read = find::last_read(&mut backend.link, keys.stream(lane, source)).await?;
    let mut after = None;
    loop {
        let page = find::page(&mut backend.link, keys, lane, source, after, STEP.min((*left).max(1))).await?;
        let Some(last) = page.last().map(|entry| entry.id) else { return Ok(()) };
        if *left == 0 {
            counted.exact = false;
            return Ok(());
        }
        *left = left.saturating_sub(page.len());
        let count = u64::try_from(page.len()).unwrap_or(0);
        counted.looked_at += count;
        progress.advance(count);
        for entry in page {
            let is_read = read.is_some_and(|read| entry.id <= read);
            if fits.covers(&Live::in_stream(entry, keys.partition)) {
                *(if is_read { &mut counted.in_flight } else { &mut counted.waiting }) += 1;
            }
        }
        after = Some(last);
    }
}

/// Tells which jobs a cancellation covers.
pub(super) struct Fits<'a> {
    selector: &'a Selector,
    sieve: Sieve,
    rules: RuleSet,
    now_ms: u64,
    lenient: bool,
}

impl<'a> Fits<'a> {
    /// For a cancellation by that order.
    pub(super) fn new(selector: &'a Selector, order: RuleOrigin, now_ms: u64, config: &Config) -> Self {
        let rule = Rule { verb: RuleAction::Cancel, selector: selector.clone(), order };
        let rules = std::iter::once(rule).collect();
        let Selector { lane: _, job_type, caller, customer, batch, id } = selector.clone();
        let job_type = job_type.into_iter().collect();
        let sieve = Sieve::new(&JobFilter { job_type, batch, caller, customer, id, ..JobFilter::default() });
        Self { selector, sieve, rules, now_ms, lenient: config.limits.allow_missing_caller_id }
    }

    /// The lanes that may hold such jobs.
    pub(super) fn lanes(&self) -> impl Iterator<Item = Lane> + use<> {
        let wanted = self.selector.lane;
        Lane::ALL.into_iter().filter(move |lane| wanted.is_none_or(|wanted| wanted == *lane))
    }

    /// Whether the cancellation covers a job that is not cancelled yet.
    fn covers(&self, live: &Live) -> bool {
        // Most jobs of a long queue belong to others, and parsing them would take minutes.
        self.sieve.lets_through(&live.job)
            && live.state.as_ref().is_none_or(|state| !state.cancelled)
            && live.parse(self.lenient).is_some_and(|(job, id)| {
                let subject = Subject::of(&job, &id, live.lane, live.origin.entry.ms);
                self.rules.cancels(&subject, self.now_ms).is_some()
            })
    }

    /// How many delayed jobs of a partition fit. With `call_up` they are marked as cancelled, and come back at once.
    pub(super) async fn delayed(
        &self,
        backend: &mut Backend<'_>,
        keys: &Keys,
        progress: &dyn Progress,
        call_up: bool,
    ) -> RedisResult<u64> {
        let (mut cursor, mut count) = (0, 0);
        loop {
            let (next, page) = rules::scan_delayed(&mut backend.link, keys, cursor, STEP).await?;
            progress.advance(u64::try_from(page.len()).unwrap_or(0));
            let delayed = page.into_iter().map(Live::delayed);
            let origins: Vec<_> = delayed.filter(|live| self.covers(live)).map(|live| live.origin).collect();
            if call_up {
                for origins in origins.chunks(MAX_CANCEL_DELAYED) {
                    count += rules::cancel_delayed(&mut backend.link, keys, origins).await?;
                }
            } else {
                count += u64::try_from(origins.len()).unwrap_or(0);
            }
            cursor = next;
            if cursor == 0 {
                return Ok(count);
            }
        }
    }
}
