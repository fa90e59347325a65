//! The loop that follows XCO's state: it opens the slots again, shares what this worker found with the others, and calls up
//! the jobs that stepped aside.

use super::super::shared::Shared;
use crate::{
    contract::{JobType, Lane},
    limits::Permit,
    queue::{Link, breakers, control},
};
use redis::RedisResult;
use std::{sync::Arc, time::Duration};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// Runs until `stop`: updates the number of allowed calls, shares breakers with other workers and resumes delayed jobs.
pub(in crate::worker) async fn watch(shared: Arc<Shared>, stop: CancellationToken) {
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
