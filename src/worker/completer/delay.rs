//! Writes ends that delay a job outside its lane: after a 429, or because of a rule or a breaker.

use super::{
    super::{
        active_job::{ActiveJob, CompleterTask, DelayedBy, End},
        ended_delivery::{DelayedDeliveries, ReadyEnd},
        lease::LeaseKey,
        settlement::{self, latest_ms},
    },
    Completer,
};
use crate::{
    contract::Lane,
    jobs::Waiting,
    limits::Turn,
    queue::{
        self, Deferral, Deferred, QueuePosition, ScriptFailure, Source, breakers, is_transient,
        rules::{self, MAX_HOLD, PausedDelivery},
    },
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

impl Completer {
    /// Handles a 429: closes the bucket and delays the job in one step. Returns an end if the job's deadline comes
    /// first.
    pub(super) async fn defer(
        &mut self,
        mut active: Box<ActiveJob>,
        retry_after: Option<Duration>,
    ) -> Option<ReadyEnd> {
        let context = Arc::clone(&self.context);
        context.metrics.rate_limited(active.job.job_type);
        context.latency.rate_limited();
        active.state.wait(Waiting::Limit, context.clock.now_ms());
        let place = active
            .bulk_age()
            .zip(active.bucket.shared)
            .map(|(age, bucket)| (QueuePosition { bucket, age }, latest_ms(&active, context.clock.now_ms())));
        if place.is_none() {
            active.state.reserve(Turn::AGAIN);
        }
        let deferral = Deferral {
            entry: active.entry,
            origin: active.state.origin.to_string(),
            bucket: active.bucket.clone(),
            retry_after,
            learn: context.limits.now().learns(),
            deadline_ms: active.deadline_ms,
            state: active.state.to_json(),
            place,
            job: std::mem::take(&mut active.raw),
        };
        self.park_deferred(active, deferral).await
    }

    /// Closes the bucket and delays the job in one step. Also used for retries of that write. Returns an end if the
    /// job's deadline comes first.
    pub(super) async fn park_deferred(
        &mut self,
        mut active: Box<ActiveJob>,
        mut deferral: Deferral,
    ) -> Option<ReadyEnd> {
        let context = Arc::clone(&self.context);
        let keys = &context.partitions[self.partition].keys;
        let cancelled = active.is_cancelled();
        // A cancelled job must not wait. The bucket is closed, and this worker completes the job.
        deferral.deadline_ms = if cancelled { Some(1) } else { active.deadline_ms };
        let deferred = loop {
            match queue::defer(&mut self.link, keys, active.lane, active.source, &context.consumer, &deferral).await {
                Ok(deferred) => break Ok(deferred),
                Err(error) if is_transient(&error) => self.failed("defer", &error).await,
                Err(error) => {
                    // The bucket is not closed: Redis refuses a command that every 429 needs. Other ends must not wait
                    // for it.
                    context.metrics.redis_error("defer");
                    break Err(ScriptFailure::of_whole("defer", &error));
                }
            }
        };
        self.loop_health.ok();
        active.free_slot();
        let key = (active.lane, active.source, active.entry);
        match deferred {
            Ok(Deferred::Delayed { .. } | Deferred::NotOurs) => {
                self.done(std::iter::once(key), 1);
                context.partitions[self.partition].delayed.notify_one();
                None
            }
            Ok(Deferred::TooLate) => {
                active.raw = deferral.job;
                active.state.reserved = false;
                let end = if cancelled { End::Cancelled } else { End::Expired { limited: true } };
                Some(settlement::of_job(&mut active, end, context.clock.now_ms()))
            }
            Ok(Deferred::Failed(why)) => {
                // The bucket is closed for as long as XCO asked. The next try must not start that time anew.
                deferral.retry_after = Some(Duration::ZERO);
                let wait = self.refused(&[key], &why);
                self.try_again(CompleterTask::DeferAgain { active, deferral: Box::new(deferral) }, wait);
                None
            }
            Err(why) => {
                let wait = self.refused(&[key], &why);
                // XCO counts from its answer.
                deferral.retry_after = deferral.retry_after.map(|asked| asked.saturating_sub(wait));
                self.try_again(CompleterTask::DeferAgain { active, deferral: Box::new(deferral) }, wait);
                None
            }
        }
    }

    /// Delays jobs because of a rule or a breaker, and records which one.
    #[allow(clippy::vec_box, reason = "each was handed over so")]
    pub(super) async fn hold(&mut self, paused: Vec<(Box<ActiveJob>, DelayedBy, u64)>) {
        let context = Arc::clone(&self.context);
        let now_ms = context.clock.now_ms();
        let mut groups: HashMap<(Lane, Source, String), Vec<PausedDelivery>> = HashMap::new();
        for (mut active, by, due_ms) in paused {
            active.state.resume(now_ms);
            active.state.wait(Waiting::Paused, now_ms);
            let name = match by {
                DelayedBy::Rule(name) => name,
                DelayedBy::Breaker(route) => {
                    active.state.by_breaker = true;
                    context.partitions[self.partition].aside.joined(route, active.lane);
                    breakers::hold_name(route, active.lane)
                }
            };
            // Reservations will be long past when the job is resumed, so it will ask for new ones.
            active.state.spend_slots();
            groups.entry((active.lane, active.source, name)).or_default().push(PausedDelivery {
                entry: active.entry,
                origin: active.state.origin.to_string(),
                due_ms,
                state: active.state.to_json(),
                job: std::mem::take(&mut active.raw),
            });
        }
        for ((lane, source, name), mut holds) in groups {
            while !holds.is_empty() {
                let rest = holds.split_off(holds.len().min(MAX_HOLD));
                self.park_paused(DelayedDeliveries { lane, source, name: name.clone(), holds }).await;
                holds = rest;
            }
        }
        context.partitions[self.partition].delayed.notify_one();
    }

    pub(super) async fn park_paused(&mut self, DelayedDeliveries { lane, source, name, holds }: DelayedDeliveries) {
        let context = Arc::clone(&self.context);
        let keys = &context.partitions[self.partition].keys;
        let refused = loop {
            let whose = (name.as_str(), context.consumer.as_str());
            match rules::delay_paused(&mut self.link, keys, (lane, source), whose, &holds).await {
                Ok(refused) => break refused,
                Err(error) if is_transient(&error) => self.failed("hold", &error).await,
                Err(error) => {
                    // Nothing was written: Redis refuses a command that every delay needs. Other ends must not wait for
                    // it.
                    context.metrics.redis_error("hold");
                    let why = ScriptFailure::of_whole("hold", &error);
                    break (0..holds.len()).map(|place| (place, why.clone())).collect();
                }
            }
        };
        self.loop_health.ok();
        let why = refused.first().map(|(_, why)| why.clone());
        let places: BTreeSet<usize> = refused.into_iter().map(|(place, _)| place).collect();
        let (mut again, mut parked) = (Vec::new(), Vec::new());
        for (place, hold) in holds.into_iter().enumerate() {
            if places.contains(&place) {
                again.push(hold);
            } else {
                parked.push((lane, source, hold.entry));
            }
        }
        let count = parked.len();
        self.done(parked.into_iter(), count);
        if let Some(why) = why {
            let keys: Vec<LeaseKey> = again.iter().map(|hold| (lane, source, hold.entry)).collect();
            let wait = self.refused(&keys, &why);
            self.try_again(CompleterTask::HoldAgain(DelayedDeliveries { lane, source, name, holds: again }), wait);
        }
    }
}
