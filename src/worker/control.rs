//! The operators' rules, as this worker knows them, and their effect on delayed jobs.
//!
//! The rules are stored in one hash in Redis. A worker checks their version twice a second and keeps the last ones
//! while Redis is unreachable. Without rules, a job costs one look at a flag.

use super::{clock::RedisClock, clock_steps, shared::Shared};
use crate::{
    contract::Lane,
    control::{Rule, Rules, Verb},
    queue::{Link, breakers, control},
};
use redis::RedisResult;
use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::watch as signal,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

const LOOK: Duration = Duration::from_millis(500);

/// How long after a change each look also searches for jobs that an ended rule delayed, because another worker may not
/// have seen the change. Also the interval of that search without a change.
const AFTERMATH: Duration = Duration::from_secs(10);

/// The rules in force.
#[derive(Debug)]
pub(super) struct Control {
    any: AtomicBool,
    rules: RwLock<Arc<Rules>>,
    /// Number of times that the rules were loaded.
    loads: signal::Sender<u64>,
}

impl Default for Control {
    fn default() -> Self {
        Self { any: AtomicBool::new(false), rules: RwLock::default(), loads: signal::Sender::new(0) }
    }
}

impl Control {
    /// Whether there are any rules. This is the only check that every batch of jobs costs.
    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    pub(super) fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A receiver that is notified of every change.
    pub(super) fn changes(&self) -> signal::Receiver<u64> {
        self.loads.subscribe()
    }

    fn set(&self, rules: Rules) {
        let any = !rules.is_empty();
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
        self.any.store(any, Ordering::Release);
        self.loads.send_modify(|loads| *loads += 1);
    }

    /// Waits until the rules are known. Returns false if `stop` came first.
    pub(super) async fn loaded(&self, stop: &CancellationToken) -> bool {
        let mut loads = self.changes();
        tokio::select! {
            known = loads.wait_for(|loads| *loads > 0) => known.is_ok(),
            () = stop.cancelled() => false,
        }
    }

    /// Whether a pause forbids reading from a lane.
    pub(super) fn is_lane_paused(&self, lane: Lane, clock: &RedisClock) -> bool {
        self.any() && self.rules().lane_paused(lane, clock.now_ms()).is_some()
    }

    /// Waits until the lane is no longer paused.
    pub(super) async fn lane_resumed(&self, lane: Lane, clock: &RedisClock) {
        let mut changes = self.changes();
        while self.is_lane_paused(lane, clock) {
            // The pause may end by itself, on Redis's clock.
            let _ = tokio::time::timeout(LOOK, changes.changed()).await;
        }
    }
}

/// Follows the rules until `stop`.
pub(super) async fn watch(shared: Arc<Shared>, stop: CancellationToken) {
    let link = shared.connector.link(false);
    let mut watcher = Watcher { shared, link, loaded: false, version: None, changed: Instant::now() };
    let mut pulse = watcher.shared.health.pulse();
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut released = Instant::now();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = looks.tick() => {}
        }
        match watcher.look(&mut released).await {
            Ok(()) => pulse.well(),
            Err(error) => {
                watcher.shared.metrics.redis_error("control");
                let wait = pulse.ill("control", &error);
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(wait) => {}
                }
            }
        }
    }
}

struct Watcher {
    shared: Arc<Shared>,
    link: Link,
    loaded: bool,
    version: Option<String>,
    changed: Instant,
}

impl Watcher {
    async fn look(&mut self, released: &mut Instant) -> RedisResult<()> {
        let shared = Arc::clone(&self.shared);
        let keys = &shared.partitions[0].keys;
        let version = control::version(&mut self.link, keys).await?;
        if !self.loaded {
            // Before the first job is read, because a step of the clock may affect the age of jobs.
            for partition in 0..shared.partitions.len() {
                clock_steps::look(&shared, &mut self.link, partition).await?;
            }
        }
        if !self.loaded || self.version != version {
            // Later rules have absolute times, so the clock must be exact and not only approximate.
            shared.clock.set(control::now_ms(&mut self.link).await?);
            let (version, rules) = control::load(&mut self.link, keys).await?;
            if self.loaded || !rules.is_empty() {
                tracing::info!(rules = rules.all().count(), "operators' rules changed");
            }
            shared.control.set(rules);
            (self.loaded, self.version) = (true, version);
            self.changed = Instant::now();
        }
        if shared.control.any() || self.changed.elapsed() < AFTERMATH || released.elapsed() >= AFTERMATH {
            *released = Instant::now();
            self.release().await?;
            self.tidy().await?;
        }
        Ok(())
    }

    /// Resumes jobs that were delayed by a rule that has ended, or by a breaker that is closed.
    async fn release(&mut self) -> RedisResult<()> {
        let rules = self.shared.control.rules();
        for partition in &self.shared.partitions {
            for name in control::holding_rules(&mut self.link, &partition.keys).await? {
                let holds = match breakers::held_route(&name) {
                    Some(route) => !self.shared.weather.is_closed(route, self.shared.clock.monotonic_ms()),
                    None => rules.pause_holds(&name, self.shared.clock.now_ms()),
                };
                if holds {
                    continue;
                }
                while control::release(&mut self.link, &partition.keys, &name, control::MAX_CALL_UP).await? > 0 {
                    partition.parked.notify_one();
                }
                partition.parked.notify_one();
            }
        }
        Ok(())
    }

    /// Removes rules that have ended, and cancellations whose jobs have all completed.
    async fn tidy(&mut self) -> RedisResult<()> {
        let rules = self.shared.control.rules();
        let mut moot = rules.over(self.shared.clock.now_ms());
        if rules.all().any(|(verb, ..)| verb == Verb::Cancel) {
            let mut oldest_ms = u64::MAX;
            for partition in &self.shared.partitions {
                oldest_ms =
                    oldest_ms.min(control::oldest_ms(&mut self.link, &partition.keys).await?.unwrap_or(u64::MAX));
            }
            let ended = rules.all().filter(|(verb, _, order)| *verb == Verb::Cancel && order.at_ms < oldest_ms);
            moot.extend(ended.map(|(verb, selector, order)| Rule {
                verb,
                selector: selector.clone(),
                order: order.clone(),
            }));
        }
        for rule in moot {
            let name = Rule::name(rule.verb, &rule.selector);
            let keys = &self.shared.partitions[0].keys;
            control::drop_rule(&mut self.link, keys, &name, Some(&rule.value())).await?;
        }
        Ok(())
    }
}
