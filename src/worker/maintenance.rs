//! Maintenance of a partition: promotes due jobs, renews leases, trims streams and updates gauges.

use super::{context::WorkerContext, redis_health::LoopHealth};
use crate::{
    config::CompletionsConfig,
    contract::Lane,
    limits::SharedBucket,
    queue::{
        IdIndex, Link, Load, LoadAlarm, Source, ids,
        learned::{self, LearnedLimit, MAX_LEARNED},
        maintenance, rescue,
    },
    telemetry::LimitFigures,
};
use redis::RedisError;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

/// How long the scheduler sleeps at most before it looks for due jobs again.
pub(super) const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// Maximum number of steps of forgetting ids at a time. Each covers a few hundred ids.
const MOST_FORGETTING: usize = 100;
const SOURCES: [Source; 2] = [Source::Due, Source::Jobs];

/// The maintenance that must be on time: promotes due jobs and renews leases.
pub(super) struct Scheduler {
    context: Arc<WorkerContext>,
    partition: usize,
    link: Link,
    promoting: LoopHealth,
    /// Not part of readiness: with nothing to renew, its recovery would be noticed late.
    renewing: LoopHealth,
}

impl Scheduler {
    pub(super) fn new(context: Arc<WorkerContext>, partition: usize) -> Self {
        let link = context.link("keep time", partition);
        let (promoting, renewing) = (context.health.loop_health(), context.health.pulse_aside());
        Self { context, partition, link, promoting, renewing }
    }

    /// Runs until it is aborted after the last delivery has ended, because leases must be renewed until then.
    pub(super) async fn run(mut self) {
        let mut renewals = interval((self.context.lease / 4).max(Duration::from_millis(100)));
        renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next = Instant::now();
        loop {
            let context = Arc::clone(&self.context);
            tokio::select! {
                _ = renewals.tick() => {
                    match self.renew().await {
                        Ok(()) => self.renewing.ok(),
                        Err(error) => Self::failed(&context, &mut self.renewing, "renew", &error).await,
                    }
                }
                () = sleep_until(next) => next = self.promote().await,
                () = context.partitions[self.partition].delayed.notified() => next = self.promote().await,
            }
        }
    }

    /// Promotes due jobs and returns the time of the next look: at most a second from now, because other workers delay
    /// jobs, too.
    async fn promote(&mut self) -> Instant {
        let keys = &self.context.partitions[self.partition].keys;
        let limits = self.context.limits.now();
        // The shared buckets have queues.
        let buckets = SharedBucket::ALL.map(|which| (which, limits.shared(which)));
        match maintenance::promote(&mut self.link, keys, &buckets).await {
            Ok(promotion) => {
                if promotion.unreadable > 0 {
                    tracing::warn!(
                        partition = keys.partition,
                        entries = promotion.unreadable,
                        "rejected delayed entries without a state"
                    );
                }
                promotion.failures.iter().for_each(|failure| self.context.script_failed(failure));
                match promotion.failures.first() {
                    Some(failure) => {
                        self.promoting.blocked("promote", failure.to_string());
                    }
                    None => self.promoting.ok(),
                }
                self.context.metrics.delayed(keys.partition, promotion.delayed);
                let wait = match promotion.next_due {
                    _ if promotion.promoted >= maintenance::MAX_PROMOTE => Duration::ZERO,
                    // Redis rounds up. One more millisecond avoids a look that comes slightly early.
                    Some(due) => due.min(LONGEST_SLEEP).max(Duration::from_millis(1)),
                    None => LONGEST_SLEEP,
                };
                Instant::now() + wait
            }
            Err(error) => {
                Self::failed(&self.context, &mut self.promoting, "promote", &error).await;
                Instant::now()
            }
        }
    }

    async fn renew(&mut self) -> Result<(), RedisError> {
        let partition = &self.context.partitions[self.partition];
        for lane in Lane::ALL {
            for source in SOURCES {
                let ids = partition.leases.of(lane, source);
                for chunk in ids.chunks(rescue::MAX_RENEW) {
                    let asked_at_ms = self.context.clock.elapsed_ms();
                    let stream = partition.keys.stream(lane, source);
                    let renewal = rescue::renew(&mut self.link, stream, &self.context.consumer, chunk).await?;
                    partition.leases.renewed((lane, source), chunk, &renewal, asked_at_ms);
                }
            }
        }
        Ok(())
    }

    async fn failed(context: &WorkerContext, loop_health: &mut LoopHealth, what: &'static str, error: &RedisError) {
        if error.code() == Some("NOGROUP") {
            // The fetchers recreate the group.
            return;
        }
        context.metrics.redis_error("housekeeping");
        context.whole_script_failed(what, error);
        tokio::time::sleep(loop_health.failed(what, error)).await;
    }
}

/// The maintenance that may be late: trims streams and updates gauges.
pub(super) struct Cleaner {
    context: Arc<WorkerContext>,
    partition: usize,
    link: Link,
    loop_health: LoopHealth,
    completions: CompletionsConfig,
    /// By [`Lane`].
    alarms: [LoadAlarm; 2],
}

impl Cleaner {
    pub(super) fn new(context: Arc<WorkerContext>, partition: usize, mut completions: CompletionsConfig) -> Self {
        let link = context.link("keep house", partition);
        let partitions = u64::try_from(context.partitions.len()).unwrap_or(1).max(1);
        completions.max_bytes /= partitions;
        let loop_health = context.health.pulse_aside();
        Self { context, partition, link, loop_health, completions, alarms: Default::default() }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        if !self.context.control.loaded(&stop).await {
            return;
        }
        let mut figures = interval(Duration::from_secs(2));
        let mut trims = interval(Duration::from_secs(30));
        let mut retirements = interval(Duration::from_secs(300));
        let window = self.context.queue.dedupe_window;
        let mut forgetting = interval((window / 4).clamp(Duration::from_millis(100), Duration::from_secs(5)));
        let context = Arc::clone(&self.context);
        let written = &context.partitions[self.partition].completions_written;
        for timer in [&mut figures, &mut trims, &mut retirements, &mut forgetting] {
            timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        loop {
            let done = tokio::select! {
                () = stop.cancelled() => return,
                _ = figures.tick() => self.figures().await,
                _ = trims.tick() => self.trim().await,
                () = written.are_many() => self.trim_completions().await,
                _ = forgetting.tick() => self.forget_ids().await,
                _ = retirements.tick() => self.retire().await,
            };
            match done {
                Ok(()) => self.loop_health.ok(),
                Err(error) if error.code() == Some("NOGROUP") => {}
                Err(error) => {
                    self.context.metrics.redis_error("housekeeping");
                    tokio::time::sleep(self.loop_health.failed("housekeeping", &error)).await;
                }
            }
        }
    }

    async fn figures(&mut self) -> Result<(), RedisError> {
        let keys = &self.context.partitions[self.partition].keys;
        for lane in Lane::ALL {
            let backlog = maintenance::backlog(&mut self.link, keys, lane).await?;
            let waiting = backlog.entries.saturating_sub(backlog.in_flight);
            self.context.metrics.backlog(lane, keys.partition, waiting, backlog.oldest);
            let load = Load { pending: backlog.entries, max_pending: self.context.max_pending };
            watch_load(&self.context, &mut self.alarms[lane as usize], keys.partition, lane, load);
        }
        self.limit_figures().await?;
        if self.partition == 0 {
            let (breakers, allowed) = self.context.upstream_health.figures(&self.context.clock);
            self.context.metrics.weather(&breakers, allowed);
            let held: usize = self.context.partitions.iter().map(|partition| partition.leases.len()).sum();
            self.context.metrics.in_flight(i64::try_from(held).unwrap_or(i64::MAX));
        }
        Ok(())
    }

    async fn limit_figures(&mut self) -> Result<(), RedisError> {
        let keys = &self.context.partitions[self.partition].keys;
        let learned = learned::learned(&mut self.link, keys, MAX_LEARNED).await?;
        let now_ms = self.context.clock.now_ms();
        let count = |is: &dyn Fn(&LearnedLimit) -> bool| {
            u64::try_from(learned.iter().filter(|limit| is(limit)).count()).unwrap_or(u64::MAX)
        };
        let figures = LimitFigures {
            learned: count(&|limit| limit.rate_per_s.is_some()),
            closed: count(&|limit| limit.closed_until_ms > now_ms),
        };
        self.context.metrics.limits(keys.partition, figures);
        for which in SharedBucket::ALL {
            let rate = learned.iter().find(|limit| limit.bucket == which.name()).and_then(|limit| limit.rate_per_s);
            let queued = maintenance::queued(&mut self.link, keys, which).await?;
            self.context.metrics.shared_limit(which.name(), keys.partition, rate.unwrap_or(0.0), queued);
        }
        Ok(())
    }

    /// Forgets reserved ids, faster than workers can reserve them.
    async fn forget_ids(&mut self) -> Result<(), RedisError> {
        let keys = &self.context.partitions[self.partition].keys;
        for _ in 0..MOST_FORGETTING {
            let index = IdIndex::of(&self.context.queue);
            let more_former = ids::forget(&mut self.link, keys, index.dedupe_window()).await?;
            if !ids::forget_slices(&mut self.link, keys, index).await? && !more_former {
                break;
            }
        }
        Ok(())
    }

    async fn trim(&mut self) -> Result<(), RedisError> {
        self.trim_completions().await?;
        let keys = &self.context.partitions[self.partition].keys;
        maintenance::trim_dead(&mut self.link, keys, self.context.queue.dead_retention).await?;
        Ok(())
    }

    async fn trim_completions(&mut self) -> Result<(), RedisError> {
        let keys = &self.context.partitions[self.partition].keys;
        let CompletionsConfig { retention, max_bytes } = self.completions;
        let trimmed = maintenance::trim_completions(&mut self.link, keys, retention, max_bytes).await?;
        if trimmed.past_readers {
            self.context.metrics.completions_trimmed_unread(trimmed.removed);
            tracing::warn!(
                partition = keys.partition,
                removed = trimmed.removed,
                "completions.max_bytes removed completions that a reader group has not read"
            );
        }
        Ok(())
    }

    async fn retire(&mut self) -> Result<(), RedisError> {
        let keys = &self.context.partitions[self.partition].keys;
        let idle = (self.context.lease * 10).max(Duration::from_secs(600));
        for lane in Lane::ALL {
            for source in SOURCES {
                maintenance::retire_idle(&mut self.link, keys.stream(lane, source), idle).await?;
            }
        }
        Ok(())
    }
}

/// Reports a lane's load. Logs once when it exceeds the maximum, and once when it no longer does.
fn watch_load(context: &WorkerContext, alarm: &mut LoadAlarm, partition: u16, lane: Lane, load: Load) {
    let changed = alarm.look(load);
    context.metrics.over_max_pending(lane, partition, alarm.is_raised());
    let (lane, Load { pending, max_pending }) = (lane.as_str(), load);
    match changed {
        Some(true) => tracing::warn!(lane, partition, pending, max_pending, "a lane holds more than queue.max_pending"),
        Some(false) => {
            tracing::info!(lane, partition, pending, max_pending, "the lane is below queue.max_pending again");
        }
        None => {}
    }
}
