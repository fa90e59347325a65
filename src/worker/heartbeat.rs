//! What this worker says of itself, once a second.

use super::shared::Shared;
use crate::queue::{
    control::now_ms,
    workers::{self, Heartbeat, Running},
};
use redis::RedisResult;
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

const BEAT: Duration = Duration::from_secs(1);
/// Beats in a minute.
const MINUTE: usize = 60;

/// Beats until `stop`, then takes this worker off the list. Nothing depends on it but what operators see.
pub(super) async fn beat(shared: Arc<Shared>, stop: CancellationToken) {
    let mut link = shared.connector.link(false);
    let keys = &shared.partitions[0].keys;
    let host = shared.consumer.rsplitn(3, '-').nth(2).unwrap_or("host").to_owned();
    let mut started_at_ms = None;
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut past: VecDeque<(u64, u64)> = VecDeque::with_capacity(MINUTE);
    for count in 0_u64.. {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = beats.tick() => {}
        }
        let (calls, failures) = shared.weather.calls();
        let (calls_before, failures_before) = past.front().copied().unwrap_or((0, 0));
        let (interactive, bulk) = shared.slots.running();
        let beat: RedisResult<()> = async {
            let now_ms = now_ms(&mut link).await?;
            let heartbeat = Heartbeat {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                host: host.clone(),
                pid: std::process::id(),
                started_at_ms: *started_at_ms.get_or_insert(now_ms),
                seen_at_ms: now_ms,
                slots: number(shared.slots.total()),
                allowed: number(shared.slots.allowed()),
                running: Running { interactive: number(interactive), bulk: number(bulk) },
                calls_last_minute: calls - calls_before,
                failures_last_minute: failures - failures_before,
                breaker: shared.weather.breaker(shared.clock.monotonic_ms()).to_owned(),
                breaker_routes: shared.weather.troubled_routes(shared.clock.monotonic_ms()),
                breaker_reason: shared.weather.is_refused().then(|| "refused".to_owned()),
            };
            workers::beat(&mut link, keys, &shared.consumer, &heartbeat).await?;
            if count % 30 == 0 {
                workers::forget_gone(&mut link, keys, now_ms).await?;
            }
            Ok(())
        }
        .await;
        if beat.is_err() {
            shared.metrics.redis_error("heartbeat");
        }
        past.push_back((calls, failures));
        if past.len() > MINUTE {
            past.pop_front();
        }
    }
    // Not told, it is taken off the list after a minute.
    let _ = workers::forget(&mut link, keys, &shared.consumer).await;
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
