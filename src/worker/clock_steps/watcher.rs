//! The loop that looks at Redis's clock, and moves the delayed jobs that a step back left in the future.

use super::super::{context::WorkerContext, redis_clock::ClockStep};
use crate::{
    jobs::{JobState, Waiting},
    queue::{
        Link,
        clock_step::{self, BackSteps, ClockAhead, PutBack},
    },
};
use redis::RedisResult;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

const LOOK: Duration = Duration::from_secs(1);

/// Time without a look at the clock after which the clock is no longer trusted.
const GAP: Duration = Duration::from_secs(4);

/// When delayed jobs are searched after a step. Repeated, because other workers use the former clock for up to a second
/// more and may have had to wait for Redis.
const SEARCHES: [Duration; 4] =
    [Duration::ZERO, Duration::from_secs(2), Duration::from_secs(10), Duration::from_secs(30)];

/// Maximum age of a step, in milliseconds, for which a worker that starts searches once.
const YOUNG_MS: u64 = 600_000;

/// Reads the clock of one partition's Redis. Returns whether this reading is the one that recorded a backward step.
pub(in crate::worker) async fn look(context: &WorkerContext, link: &mut Link, partition: usize) -> RedisResult<bool> {
    let part = &context.partitions[partition];
    let asked_at_ms = context.clock.elapsed_ms();
    let found = clock_step::look(link, &part.keys, context.clock.least_ms(partition), GAP).await?;
    let by_own_clock = context.clock.read(partition, asked_at_ms, found.now_ms);
    // A step from before this worker started.
    let from_before = found
        .steps
        .last()
        .filter(|_| found.noted)
        .map(|step| ClockStep { by_ms: i64::try_from(step.by_ms).map_or(i64::MIN, |by_ms| -by_ms) });
    if let Some(step) = by_own_clock.or(from_before) {
        context.metrics.clock_step(step.direction());
        tracing::warn!(
            partition = part.keys.partition,
            by_ms = step.by_ms,
            direction = step.direction(),
            "Redis's clock stepped: check NTP on its host, or a failover to a host with another clock"
        );
    }
    if found.steps != *part.steps.all() {
        part.steps.set(found.steps);
    }
    Ok(found.noted)
}

/// Reads Redis's clock every second until `stop`. After a backward step, moves the jobs that were delayed before it.
pub(in crate::worker) async fn watch(context: Arc<WorkerContext>, stop: CancellationToken) {
    let mut link = context.connector.link(false);
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut partitions: Vec<Watched> = context.partitions.iter().map(|_| Watched::default()).collect();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = looks.tick() => {}
        }
        for (partition, watched) in partitions.iter_mut().enumerate() {
            if let Err(error) = watched.round(&context, &mut link, partition).await {
                context.metrics.redis_error("clock");
                context.whole_script_failed("clock", &error);
                tracing::debug!(%error, "Redis's clock could not be read");
            }
        }
    }
}

/// Progress with the steps of one partition.
#[derive(Debug, Default)]
struct Watched {
    /// The last step that was searched for; `None` before the first look.
    number: Option<u32>,
    /// Times of the searches to come.
    searches: Vec<Instant>,
}

impl Watched {
    async fn round(&mut self, context: &WorkerContext, link: &mut Link, partition: usize) -> RedisResult<()> {
        let noted = look(context, link, partition).await?;
        let steps = context.partitions[partition].steps.all();
        let now = Instant::now();
        if self.number != Some(steps.last_number()) {
            let first = self.number.replace(steps.last_number()).is_none();
            let now_ms = context.clock.now_ms();
            let is_young = steps.last().is_some_and(|step| now_ms.saturating_sub(step.to_ms) < YOUNG_MS);
            if noted {
                self.searches = SEARCHES.iter().map(|after| now + *after).collect();
            } else if is_young || !first && steps.last_number() > 0 {
                // Another worker searches, too. This search is for the case that it has stopped.
                self.searches = vec![now + SEARCHES[1]];
            }
        }
        if self.searches.iter().any(|at| *at <= now) {
            self.put_back(context, link, partition, &steps).await?;
            self.searches.retain(|at| *at > now);
        }
        Ok(())
    }

    /// Moves the jobs that were delayed until after the present time by the size of the step.
    async fn put_back(
        &self,
        context: &WorkerContext,
        link: &mut Link,
        partition: usize,
        steps: &BackSteps,
    ) -> RedisResult<()> {
        let part = &context.partitions[partition];
        let by_ms = steps.last().map_or(0, |step| step.by_ms);
        let mut cursor = Some("0".to_owned());
        let mut moved = 0;
        while let Some(from) = cursor {
            let (next, found) = clock_step::ahead(link, &part.keys, &from).await?;
            cursor = next;
            let now_ms = context.clock.now_ms();
            let jobs: Vec<PutBack> = found.into_iter().filter_map(|job| earlier(job, by_ms, now_ms)).collect();
            if !jobs.is_empty() {
                moved += clock_step::put_back(link, &part.keys, &jobs).await?;
                part.delayed.notify_one();
            }
        }
        if moved > 0 {
            tracing::info!(
                partition = part.keys.partition,
                moved,
                "moved delayed jobs after the step of Redis's clock"
            );
        }
        Ok(())
    }
}

/// The job with the times it would have, had the clock shown then what it shows now. All jobs move by the same amount,
/// which keeps their order.
fn earlier(job: ClockAhead, by_ms: u64, now_ms: u64) -> Option<PutBack> {
    let mut state = JobState::from_json(job.state.as_bytes())?;
    let (why, since_ms) = state.waiting?;
    if !matches!(why, Waiting::Retry | Waiting::Limit | Waiting::Slot) {
        return None;
    }
    let by_ms = by_ms.max(since_ms.saturating_sub(now_ms));
    state.wait(why, since_ms.saturating_sub(by_ms));
    Some(PutBack { job, state: state.to_json(), by_ms })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_delayed_job_is_moved_by_the_step_or_at_least_to_now() {
        let ahead = |why: &str| ClockAhead {
            origin: "bulk:0:5-0".to_owned(),
            state: format!(r#"{{"o":"bulk:0:5-0","a":1,"w":["{why}",90000]}}"#),
        };
        let moved = earlier(ahead("retry"), 60_000, 31_000).unwrap();
        assert_eq!((moved.by_ms, moved.state.as_str()), (60_000, r#"{"o":"bulk:0:5-0","a":1,"w":["retry",30000]}"#));
        let moved = earlier(ahead("limit"), 0, 31_000).unwrap();
        assert_eq!((moved.by_ms, moved.state.as_str()), (59_000, r#"{"o":"bulk:0:5-0","a":1,"w":["limit",31000]}"#));
        for absolute in ["schedule", "paused"] {
            assert_eq!(earlier(ahead(absolute), 60_000, 31_000), None, "{absolute}");
        }
    }
}
