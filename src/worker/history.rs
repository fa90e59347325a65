//! The worker's part in the history of the queue: adds how long jobs took, and records a step if no other process has.

use super::context::WorkerContext;
use crate::{
    jobs::{JobState, delayed_because},
    queue::{
        Keys, Link,
        history::{self, Ring},
        rules::now_ms,
    },
};
use redis::RedisResult;
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// How long after the beginning of a step it is recorded, so that a slightly slow clock sees the step begun.
const AFTER: Duration = Duration::from_millis(200);
/// The wait after an error of Redis.
const RETRY: Duration = Duration::from_secs(5);

/// Records until `stop`. Only operators' views depend on it.
pub(super) async fn record(context: Arc<WorkerContext>, stop: CancellationToken) {
    // Rules and permissions are checked first.
    if !context.control.loaded(&stop).await {
        return;
    }
    let mut link = context.link("keep house", 0);
    let keys: Vec<Keys> = context.partitions.iter().map(|partition| partition.keys.clone()).collect();
    let Some(first) = keys.first() else { return };
    loop {
        let wait = if let Ok(now_ms) = step(&context, &mut link, &keys).await {
            until_next(now_ms)
        } else {
            context.metrics.redis_error("history");
            RETRY
        };
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(wait) => {}
        }
    }
    // What jobs took that end after this is missing: at most the last seconds of a worker.
    let _ = history::add_latency(&mut link, first, &context.latency).await;
}

/// One step. Returns Redis's clock.
async fn step(context: &WorkerContext, link: &mut Link, keys: &[Keys]) -> RedisResult<u64> {
    let now_ms = now_ms(link).await?;
    let Some(first) = keys.first() else { return Ok(now_ms) };
    history::add_latency(link, first, &context.latency).await?;
    if history::take_turn(link, first, now_ms).await? {
        let (at_ms, sample) =
            history::collect(link, keys, |state| delayed_because(JobState::from_json(state).as_ref())).await?;
        history::write(link, first, &sample, at_ms).await?;
    }
    Ok(now_ms)
}

/// The time until the next step has begun.
fn until_next(now_ms: u64) -> Duration {
    let step_ms = Ring::Hour.step_s() * 1000;
    Duration::from_millis(step_ms - now_ms % step_ms) + AFTER
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_is_recorded_shortly_after_it_began() {
        for (now_ms, wait_ms) in [(0, 10_200), (9_999, 201), (10_000, 10_200), (10_200, 10_000)] {
            assert_eq!(until_next(now_ms), Duration::from_millis(wait_ms), "{now_ms}");
        }
    }
}
