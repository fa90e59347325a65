//! Maintenance of a partition: promotes due jobs, renews leases, trims streams and updates gauges.

use super::{health::Pulse, shared::Shared};
use crate::{
    config::CompletionsConfig,
    contract::Lane,
    limits::{Bucket, SharedBucket},
    queue::{
        IdIndex, Link, Load, LoadAlarm, Source, ids,
        learned::{self, LearnedLimit, MAX_LEARNED},
        rescue, upkeep,
    },
    telemetry::LimitFigures,
};
use redis::RedisError;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// Maximum number of steps of forgetting ids at a time. Each covers a few hundred ids.
const MOST_FORGETTING: usize = 100;
const SOURCES: [Source; 2] = [Source::Due, Source::Jobs];

/// The maintenance that must be on time: promotes due jobs and renews leases.
pub(super) struct Timekeeper {
    shared: Arc<Shared>,
    partition: usize,
    link: Link,
    /// The shared buckets, which have queues.
    buckets: [(SharedBucket, Bucket); 2],
    promoting: Pulse,
    /// Not part of readiness: with nothing to renew, its recovery would be noticed late.
    renewing: Pulse,
}

impl Timekeeper {
    pub(super) fn new(shared: Arc<Shared>, partition: usize) -> Self {
        let link = shared.link("keep time", partition);
        let buckets = SharedBucket::ALL.map(|which| (which, shared.limits.shared(which)));
        let (promoting, renewing) = (shared.health.pulse(), shared.health.pulse_aside());
        Self { shared, partition, link, buckets, promoting, renewing }
    }

    /// Runs until it is aborted after the last delivery has ended, because leases must be renewed until then.
    pub(super) async fn run(mut self) {
        let mut renewals = interval((self.shared.lease / 4).max(Duration::from_millis(100)));
        renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next = Instant::now();
        loop {
            let shared = Arc::clone(&self.shared);
            tokio::select! {
                _ = renewals.tick() => {
                    match self.renew().await {
                        Ok(()) => self.renewing.well(),
                        Err(error) => Self::failed(&shared, &mut self.renewing, "renew", &error).await,
                    }
                }
                () = sleep_until(next) => next = self.promote().await,
                () = shared.partitions[self.partition].parked.notified() => next = self.promote().await,
            }
        }
    }

    /// Promotes due jobs and returns the time of the next look: at most a second from now, because other workers delay
    /// jobs, too.
    async fn promote(&mut self) -> Instant {
        let keys = &self.shared.partitions[self.partition].keys;
        match upkeep::promote(&mut self.link, keys, &self.buckets).await {
            Ok(promotion) => {
                if promotion.unreadable > 0 {
                    tracing::warn!(
                        partition = keys.partition,
                        entries = promotion.unreadable,
                        "rejected delayed entries without a state"
                    );
                }
                promotion.failures.iter().for_each(|failure| self.shared.script_failed(failure));
                match promotion.failures.first() {
                    Some(failure) => {
                        self.promoting.hindered("promote", failure.to_string());
                    }
                    None => self.promoting.well(),
                }
                self.shared.metrics.delayed(keys.partition, promotion.parked);
                let wait = match promotion.next_due {
                    _ if promotion.promoted >= upkeep::MAX_PROMOTE => Duration::ZERO,
                    // Redis rounds up. One more millisecond avoids a look that comes slightly early.
                    Some(due) => due.min(LONGEST_SLEEP).max(Duration::from_millis(1)),
                    None => LONGEST_SLEEP,
                };
                Instant::now() + wait
            }
            Err(error) => {
                Self::failed(&self.shared, &mut self.promoting, "promote", &error).await;
                Instant::now()
            }
        }
    }

    async fn renew(&mut self) -> Result<(), RedisError> {
        let partition = &self.shared.partitions[self.partition];
        for lane in Lane::ALL {
            for source in SOURCES {
                let ids = partition.leases.of(lane, source);
                for chunk in ids.chunks(rescue::MAX_RENEW) {
                    let asked_at_ms = self.shared.clock.elapsed_ms();
                    let stream = partition.keys.stream(lane, source);
                    let renewal = rescue::renew(&mut self.link, stream, &self.shared.consumer, chunk).await?;
                    partition.leases.renewed((lane, source), chunk, &renewal, asked_at_ms);
                }
            }
        }
        Ok(())
    }

    async fn failed(shared: &Shared, pulse: &mut Pulse, what: &'static str, error: &RedisError) {
        if error.code() == Some("NOGROUP") {
            // The fetchers recreate the group.
            return;
        }
        shared.metrics.redis_error("housekeeping");
        shared.whole_script_failed(what, error);
        tokio::time::sleep(pulse.ill(what, error)).await;
    }
}

/// The maintenance that may be late: trims streams and updates gauges.
pub(super) struct Housekeeper {
    shared: Arc<Shared>,
    partition: usize,
    link: Link,
    pulse: Pulse,
    completions: CompletionsConfig,
    /// By [`Lane`].
    alarms: [LoadAlarm; 2],
}

impl Housekeeper {
    pub(super) fn new(shared: Arc<Shared>, partition: usize, mut completions: CompletionsConfig) -> Self {
        let link = shared.link("keep house", partition);
        let partitions = u64::try_from(shared.partitions.len()).unwrap_or(1).max(1);
        completions.max_bytes /= partitions;
        let pulse = shared.health.pulse_aside();
        Self { shared, partition, link, pulse, completions, alarms: Default::default() }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        if !self.shared.control.loaded(&stop).await {
            return;
        }
        let mut figures = interval(Duration::from_secs(2));
        let mut trims = interval(Duration::from_secs(30));
        let mut retirements = interval(Duration::from_secs(300));
        let window = self.shared.queue.dedupe_window;
        let mut forgetting = interval((window / 4).clamp(Duration::from_millis(100), Duration::from_secs(5)));
        let shared = Arc::clone(&self.shared);
        let written = &shared.partitions[self.partition].completions_written;
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
                Ok(()) => self.pulse.well(),
                Err(error) if error.code() == Some("NOGROUP") => {}
                Err(error) => {
                    self.shared.metrics.redis_error("housekeeping");
                    tokio::time::sleep(self.pulse.ill("housekeeping", &error)).await;
                }
            }
        }
    }

    async fn figures(&mut self) -> Result<(), RedisError> {
        let keys = &self.shared.partitions[self.partition].keys;
        for lane in Lane::ALL {
            let backlog = upkeep::backlog(&mut self.link, keys, lane).await?;
            let waiting = backlog.entries.saturating_sub(backlog.in_flight);
            self.shared.metrics.backlog(lane, keys.partition, waiting, backlog.oldest);
            let load = Load { pending: backlog.entries, max_pending: self.shared.max_pending };
            watch_load(&self.shared, &mut self.alarms[lane as usize], keys.partition, lane, load);
        }
        self.limit_figures().await?;
        if self.partition == 0 {
            let (breakers, allowed) = self.shared.weather.figures(&self.shared.clock);
            self.shared.metrics.weather(&breakers, allowed);
            let held: usize = self.shared.partitions.iter().map(|partition| partition.leases.len()).sum();
            self.shared.metrics.in_flight(i64::try_from(held).unwrap_or(i64::MAX));
        }
        Ok(())
    }

    async fn limit_figures(&mut self) -> Result<(), RedisError> {
        let keys = &self.shared.partitions[self.partition].keys;
        let learned = learned::learned(&mut self.link, keys, MAX_LEARNED).await?;
        let now_ms = self.shared.clock.now_ms();
        let count = |is: &dyn Fn(&LearnedLimit) -> bool| {
            u64::try_from(learned.iter().filter(|limit| is(limit)).count()).unwrap_or(u64::MAX)
        };
        let figures = LimitFigures {
            learned: count(&|limit| limit.rate_per_s.is_some()),
            closed: count(&|limit| limit.closed_until_ms > now_ms),
        };
        self.shared.metrics.limits(keys.partition, figures);
        for which in SharedBucket::ALL {
            let rate = learned.iter().find(|limit| limit.bucket == which.name()).and_then(|limit| limit.rate_per_s);
            let queued = upkeep::queued(&mut self.link, keys, which).await?;
            self.shared.metrics.shared_limit(which.name(), keys.partition, rate.unwrap_or(0.0), queued);
        }
        Ok(())
    }

    /// Forgets reserved ids, faster than workers can reserve them.
    async fn forget_ids(&mut self) -> Result<(), RedisError> {
        let keys = &self.shared.partitions[self.partition].keys;
        for _ in 0..MOST_FORGETTING {
            let index = IdIndex::of(&self.shared.queue);
            let more_former = ids::forget(&mut self.link, keys, index.dedupe_window()).await?;
            if !ids::forget_slices(&mut self.link, keys, index).await? && !more_former {
                break;
            }
        }
        Ok(())
    }

    async fn trim(&mut self) -> Result<(), RedisError> {
        self.trim_completions().await?;
        let keys = &self.shared.partitions[self.partition].keys;
        upkeep::trim_dead(&mut self.link, keys, self.shared.queue.dead_retention).await?;
        Ok(())
    }

    async fn trim_completions(&mut self) -> Result<(), RedisError> {
        let keys = &self.shared.partitions[self.partition].keys;
        let CompletionsConfig { retention, max_bytes } = self.completions;
        let trimmed = upkeep::trim_completions(&mut self.link, keys, retention, max_bytes).await?;
        if trimmed.past_readers {
            self.shared.metrics.completions_trimmed_unread(trimmed.removed);
            tracing::warn!(
                partition = keys.partition,
                removed = trimmed.removed,
                "completions.max_bytes removed completions that a reader group has not read"
            );
        }
        Ok(())
    }

    async fn retire(&mut self) -> Result<(), RedisError> {
        let keys = &self.shared.partitions[self.partition].keys;
        let idle = (self.shared.lease * 10).max(Duration::from_secs(600));
        for lane in Lane::ALL {
            for source in SOURCES {
                upkeep::retire_idle(&mut self.link, keys.stream(lane, source), idle).await?;
            }
        }
        Ok(())
    }
}

/// Reports a lane's load. Logs once when it exceeds the maximum, and once when it no longer does.
fn watch_load(shared: &Shared, alarm: &mut LoadAlarm, partition: u16, lane: Lane, load: Load) {
    let changed = alarm.look(load);
    shared.metrics.over_max_pending(lane, partition, alarm.is_raised());
    let (lane, Load { pending, max_pending }) = (lane.as_str(), load);
    match changed {
        Some(true) => tracing::warn!(lane, partition, pending, max_pending, "a lane holds more than queue.max_pending"),
        Some(false) => {
            tracing::info!(lane, partition, pending, max_pending, "the lane is below queue.max_pending again");
        }
        None => {}
    }
}
