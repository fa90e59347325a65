//! Delays jobs whose route has a breaker that is not closed.
//!
//! They are delayed in Redis like jobs that an operator pauses: they take no worker slot, spend no attempt and do not
//! block other jobs of their lane. When the route recovers they are resumed, oldest first. Their number is limited:
//! once a lane has delayed its maximum, no new jobs are read from it, so a backlog of a million creations stays in the
//! stream.

use super::shared::Shared;
use crate::{
    contract::{JobType, Lane},
    limits::Permit,
    queue::{Link, breakers, control},
};
use redis::RedisResult;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// Maximum delay of a job before it checks the breaker itself, in milliseconds. Usually it is resumed earlier.
pub(super) const LONGEST_MS: u64 = 60_000;

/// Maximum number of delayed jobs of a lane and partition. Higher for interactive jobs: people wait for them, and they
/// have deadlines.
const fn most(lane: Lane) -> u64 {
    match lane {
        Lane::Interactive => 10_000,
        Lane::Bulk => 1_000,
    }
}

/// Number of delayed jobs in one partition, by route and lane: the last count from Redis plus the jobs that this worker
/// delayed since.
#[derive(Debug, Default)]
pub(super) struct Aside([[AtomicU64; 2]; JobType::ALL.len()]);

impl Aside {
    fn count(&self, route: JobType, lane: Lane) -> &AtomicU64 {
        &self.0[route as usize][lane as usize]
    }

    /// Counts one more delayed job.
    pub(super) fn joined(&self, route: JobType, lane: Lane) {
        self.count(route, lane).fetch_add(1, Ordering::Relaxed);
    }

    fn set(&self, route: JobType, lane: Lane, count: u64) {
        self.count(route, lane).store(count, Ordering::Relaxed);
    }

    fn has(&self, route: JobType, lane: Lane) -> bool {
        self.count(route, lane).load(Ordering::Relaxed) > 0
    }

    fn is_empty(&self) -> bool {
        self.0.iter().flatten().all(|count| count.load(Ordering::Relaxed) == 0)
    }

    /// Whether the lane has reached its maximum, so that no new jobs may be read from it.
    pub(super) fn is_full(&self, lane: Lane) -> bool {
        let of_lane = self.0.iter().map(|route| route[lane as usize].load(Ordering::Relaxed));
        of_lane.sum::<u64>() >= most(lane)
    }
}

/// Runs until `stop`: updates the number of allowed calls, shares breakers with other workers and resumes delayed jobs.
pub(super) async fn watch(shared: Arc<Shared>, stop: CancellationToken) {
    let mut link = shared.connector.link(false);
    let mut looks = interval(Duration::from_millis(50));
    let mut probes = interval(Duration::from_millis(100));
    let mut exchanges = interval(Duration::from_millis(500));
    for timer in [&mut looks, &mut probes, &mut exchanges] {
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    let mut first = true;
    loop {
        // Failures are ignored. Other workers detect a broken route themselves, and jobs are resumed in the next round.
        let _: RedisResult<()> = tokio::select! {
            () = stop.cancelled() => return,
            _ = looks.tick() => {
                let now_ms = shared.clock.monotonic_ms();
                shared.slots.allow(shared.weather.allowed(now_ms));
                shared.health.tell_breakers(shared.weather.not_closed(now_ms));
                Ok(())
            }
            _ = probes.tick() => call_up_probes(&shared, &mut link).await,
            () = shared.weather.changed() => tell(&shared, &mut link).await,
            _ = exchanges.tick() => exchange(&shared, &mut link, std::mem::take(&mut first)).await,
        };
    }
}

/// Shares breakers that opened with the other workers, and resumes jobs whose breaker closed.
async fn tell(shared: &Shared, link: &mut Link) -> RedisResult<()> {
    for (scope, open_ms) in shared.weather.take_opened(shared.clock.monotonic_ms()) {
        breakers::tell(link, &shared.partitions[0].keys, scope, open_ms).await?;
    }
    release(shared, link).await
}

async fn exchange(shared: &Shared, link: &mut Link, first: bool) -> RedisResult<()> {
    let open = breakers::open(link, &shared.partitions[0].keys).await?;
    shared.weather.adopt(&open, shared.clock.monotonic_ms());
    for partition in &shared.partitions {
        // Jobs that another worker delayed are found by the rule watcher, later.
        if first || shared.weather.is_troubled() || !partition.aside.is_empty() {
            for (route, lane, count) in breakers::count_held(link, &partition.keys).await? {
                partition.aside.set(route, lane, count);
            }
        }
    }
    release(shared, link).await
}

/// Resumes the jobs of routes whose breaker is closed.
async fn release(shared: &Shared, link: &mut Link) -> RedisResult<()> {
    for partition in &shared.partitions {
        for lane in Lane::ALL {
            for route in JobType::ALL {
                while partition.aside.has(route, lane) && shared.weather.is_closed(route, shared.clock.monotonic_ms()) {
                    let name = breakers::hold_name(route, lane);
                    let left = control::release(link, &partition.keys, &name, control::MAX_CALL_UP).await?;
                    partition.aside.set(route, lane, left);
                    partition.parked.notify_one();
                }
            }
        }
    }
    Ok(())
}

/// Resumes one job of each half-open route, as a probe of whether the route has recovered.
async fn call_up_probes(shared: &Shared, link: &mut Link) -> RedisResult<()> {
    if !shared.weather.is_troubled() {
        return Ok(());
    }
    for route in JobType::ALL {
        for lane in [Lane::Interactive, Lane::Bulk] {
            let holder = shared.partitions.iter().find(|partition| partition.aside.has(route, lane));
            if let Some(partition) = holder
                && shared.weather.look(route, lane, shared.clock.monotonic_ms()) == Permit::Probe
            {
                let name = breakers::hold_name(route, lane);
                let left = control::release(link, &partition.keys, &name, 1).await?;
                partition.aside.set(route, lane, left);
                partition.parked.notify_one();
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_full_with_the_jobs_of_all_routes_and_people_have_more_room() {
        let aside = Aside::default();
        assert!(aside.is_empty() && !aside.is_full(Lane::Bulk));
        aside.set(JobType::CreateUser, Lane::Bulk, 999);
        assert!(!aside.is_full(Lane::Bulk));
        aside.joined(JobType::FinalizeConsent, Lane::Bulk);
        assert!(aside.is_full(Lane::Bulk) && !aside.is_full(Lane::Interactive));
        aside.set(JobType::CreateUser, Lane::Bulk, 0);
        assert!(!aside.is_full(Lane::Bulk) && !aside.is_empty());
        assert!(aside.has(JobType::FinalizeConsent, Lane::Bulk) && !aside.has(JobType::CreateUser, Lane::Bulk));
    }
}
