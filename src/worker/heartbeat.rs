//! The heartbeat: publishes the state of this worker once a second.

use super::context::WorkerContext;
use crate::queue::{
    rules::now_ms,
    workers::{self, Heartbeat, RunningJobs},
};
use redis::RedisResult;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

const BEAT: Duration = Duration::from_secs(1);
/// Number of beats in a minute.
const MINUTE: usize = 60;
/// The other workers' settings are compared once in this number of beats.
const COMPARE: u64 = 10;

/// Sends heartbeats until `stop`, then removes this worker from the list. Only operators' views depend on it.
pub(super) async fn beat(context: Arc<WorkerContext>, stop: CancellationToken) {
    let mut link = context.connector.link(false);
    let keys = &context.partitions[0].keys;
    let host = context.consumer.rsplitn(3, '-').nth(2).unwrap_or("host").to_owned();
    let mut started_at_ms = None;
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut past: VecDeque<(u64, u64)> = VecDeque::with_capacity(MINUTE);
    let mut told = String::new();
    let mut rules = context.control.changes();
    let mut count = 0_u64;
    loop {
        // An operator waits for the news that changed rules are loaded: it does not wait for the next beat.
        let is_extra = tokio::select! {
            () = stop.cancelled() => break,
            _ = beats.tick() => false,
            Ok(()) = rules.changed() => true,
        };
        let (calls, failures) = context.upstream_health.calls();
        let (calls_before, failures_before) = past.front().copied().unwrap_or((0, 0));
        let (interactive, bulk) = context.slots.running();
        let beat: RedisResult<()> = async {
            let now_ms = now_ms(&mut link).await?;
            let heartbeat = Heartbeat {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                host: host.clone(),
                pid: std::process::id(),
                started_at_ms: *started_at_ms.get_or_insert(now_ms),
                seen_at_ms: now_ms,
                slots: number(context.slots.total()),
                allowed: number(context.slots.allowed()),
                running: RunningJobs { interactive: number(interactive), bulk: number(bulk) },
                calls_last_minute: calls - calls_before,
                failures_last_minute: failures - failures_before,
                breaker: context.upstream_health.breaker(context.clock.monotonic_ms()).to_owned(),
                breaker_routes: context.upstream_health.troubled_routes(context.clock.monotonic_ms()),
                breaker_reason: context.upstream_health.is_refused().then(|| "refused".to_owned()),
                lease_ms: u64::try_from(context.lease.as_millis()).ok(),
                settings: context.settings.clone(),
                configured_slots: Some(number(context.limits.configured_concurrency())),
                rules_version: context.control.version(),
                looks_at_recent: true,
            };
            workers::beat(&mut link, keys, &context.consumer, &heartbeat).await?;
            if is_extra {
                return Ok(());
            }
            if count == 0 || count % COMPARE == 1 {
                let others = workers::workers(&mut link, &context.partitions[0].keys).await?;
                // A worker that is listed may be alive, even if it was silent lately.
                let all_look = others.values().all(|beat| beat.looks_at_recent);
                context.all_look_at_recent.store(all_look, Ordering::Release);
                compare(&context, &others, now_ms, &mut told);
            }
            if count.is_multiple_of(30) {
                workers::forget_gone(&mut link, keys, now_ms).await?;
            }
            Ok(())
        }
        .await;
        if beat.is_err() {
            context.metrics.redis_error("heartbeat");
        }
        if is_extra {
            continue;
        }
        count += 1;
        past.push_back((calls, failures));
        if past.len() > MINUTE {
            past.pop_front();
        }
    }
    // If this fails, the entry is removed after a minute.
    let _ = workers::forget(&mut link, keys, &context.consumer).await;
}

/// Logs once when settings differ between workers, and again when the difference changes.
fn compare(context: &WorkerContext, others: &BTreeMap<String, Heartbeat>, now_ms: u64, told: &mut String) {
    let living = others.iter().filter(|(name, beat)| **name != context.consumer && beat.is_recent(now_ms));
    let parties = living.map(|(name, beat)| (name.as_str(), &beat.settings));
    let found = workers::differences(parties.chain([(context.consumer.as_str(), &context.settings)]));
    let keys: Vec<_> = found.iter().map(|difference| difference.setting.as_str()).collect();
    let keys = keys.join(", ");
    if keys != *told && !keys.is_empty() {
        let all: Vec<_> = found.iter().map(ToString::to_string).collect();
        tracing::warn!(
            settings = keys,
            "workers of this queue have different settings, and each applies its own: {}",
            all.join("; ")
        );
    }
    *told = keys;
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
