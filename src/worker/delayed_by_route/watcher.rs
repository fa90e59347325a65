//! The loop that follows XCO's state: it opens the slots again, shares what this worker found with the others, and calls up
//! the jobs that stepped aside.

use super::super::context::WorkerContext;
use crate::{
    contract::{JobType, Lane},
    limits::Permit,
    queue::{Link, breakers, rules},
};
use redis::RedisResult;
use std::{sync::Arc, time::Duration};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// Runs until `stop`: updates the number of allowed calls, shares breakers with other workers and resumes delayed jobs.
pub(in crate::worker) async fn watch(context: Arc<WorkerContext>, stop: CancellationToken) {
    let mut link = context.connector.link(false);
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
                let now_ms = context.clock.monotonic_ms();
                context.slots.allow(context.upstream_health.allowed(now_ms));
                context.health.tell_breakers(context.upstream_health.not_closed(now_ms));
                Ok(())
            }
            _ = probes.tick() => call_up_probes(&context, &mut link).await,
            () = context.upstream_health.changed() => tell(&context, &mut link).await,
            _ = exchanges.tick() => exchange(&context, &mut link, std::mem::take(&mut first)).await,
        };
    }
}

/// Shares breakers that opened with the other workers, and resumes jobs whose breaker closed.
async fn tell(context: &WorkerContext, link: &mut Link) -> RedisResult<()> {
    for (scope, open_ms) in context.upstream_health.take_opened(context.clock.monotonic_ms()) {
        breakers::tell(link, &context.partitions[0].keys, scope, open_ms).await?;
    }
    release(context, link).await
}

async fn exchange(context: &WorkerContext, link: &mut Link, first: bool) -> RedisResult<()> {
    let open = breakers::open(link, &context.partitions[0].keys).await?;
    context.upstream_health.adopt(&open, context.clock.monotonic_ms());
    for partition in &context.partitions {
        // Jobs that another worker delayed are found by the rule watcher, later.
        if first || context.upstream_health.is_troubled() || !partition.aside.is_empty() {
            for (route, lane, count) in breakers::count_held(link, &partition.keys).await? {
                partition.aside.set(route, lane, count);
            }
        }
    }
    release(context, link).await
}

/// Resumes the jobs of routes whose breaker is closed.
async fn release(context: &WorkerContext, link: &mut Link) -> RedisResult<()> {
    for partition in &context.partitions {
        for lane in Lane::ALL {
            for route in JobType::ALL {
                while partition.aside.has(route, lane)
                    && context.upstream_health.is_closed(route, context.clock.monotonic_ms())
                {
                    let name = breakers::hold_name(route, lane);
                    let left = rules::resume_paused(link, &partition.keys, &name, rules::MAX_CANCEL_DELAYED).await?;
                    partition.aside.set(route, lane, left);
                    partition.delayed.notify_one();
                }
            }
        }
    }
    Ok(())
}

/// Resumes one job of each half-open route, as a probe of whether the route has recovered.
async fn call_up_probes(context: &WorkerContext, link: &mut Link) -> RedisResult<()> {
    if !context.upstream_health.is_troubled() {
        return Ok(());
    }
    for route in JobType::ALL {
        for lane in [Lane::Interactive, Lane::Bulk] {
            let holder = context.partitions.iter().find(|partition| partition.aside.has(route, lane));
            if let Some(partition) = holder
                && context.upstream_health.look(route, lane, context.clock.monotonic_ms()) == Permit::Probe
            {
                let name = breakers::hold_name(route, lane);
                let left = rules::resume_paused(link, &partition.keys, &name, 1).await?;
                partition.aside.set(route, lane, left);
                partition.delayed.notify_one();
            }
        }
    }
    Ok(())
}
