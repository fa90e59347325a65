//! The loop that follows the operators' rules and overrides, and calls up the jobs that are held by rules that are over.

use super::{
    super::{clock_steps, context::WorkerContext},
    LOOK,
};
use crate::{
    queue::{Link, breakers, overrides, rules},
    rules::{Rule, RuleAction},
};
use redis::RedisResult;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How long after a change each look also searches for jobs that an ended rule delayed, because another worker may not
/// have seen the change. Also the interval of that search without a change.
const AFTERMATH: Duration = Duration::from_secs(10);

/// Follows the rules until `stop`.
pub(in crate::worker) async fn watch(context: Arc<WorkerContext>, stop: CancellationToken) {
    let link = context.connector.link(false);
    let mut watcher = Watcher { context, link, loaded: false, version: None, changed: Instant::now() };
    let mut loop_health = watcher.context.health.loop_health();
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut released = Instant::now();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = looks.tick() => {}
        }
        match watcher.look(&mut released).await {
            Ok(()) => loop_health.ok(),
            Err(error) => {
                watcher.context.metrics.redis_error("control");
                let wait = loop_health.failed("control", &error);
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(wait) => {}
                }
            }
        }
    }
}

struct Watcher {
    context: Arc<WorkerContext>,
    link: Link,
    loaded: bool,
    version: Option<String>,
    changed: Instant,
}

impl Watcher {
    async fn look(&mut self, released: &mut Instant) -> RedisResult<()> {
        let context = Arc::clone(&self.context);
        let keys = &context.partitions[0].keys;
        let version = rules::version(&mut self.link, keys).await?;
        if !self.loaded {
            // Before the first job is read, because a step of the clock may affect the age of jobs.
            for partition in 0..context.partitions.len() {
                clock_steps::watcher::look(&context, &mut self.link, partition).await?;
            }
        }
        if !self.loaded || self.version != version {
            // Later rules have absolute times, so the clock must be exact and not only approximate.
            context.clock.set(rules::now_ms(&mut self.link).await?);
            // The version is older than what is loaded, or as old. If something changes in between, the next look loads it.
            let rules = rules::load(&mut self.link, keys).await?;
            let stored = overrides::load(&mut self.link, keys).await?;
            if self.loaded || !rules.is_empty() {
                tracing::info!(rules = rules.all().count(), "operators' rules changed");
            }
            // First the overrides: with the version the worker says that both are in force.
            context.override_limits(&stored);
            context.control.set(rules, version.as_deref());
            (self.loaded, self.version) = (true, version);
            self.changed = Instant::now();
        }
        if context.control.any() || self.changed.elapsed() < AFTERMATH || released.elapsed() >= AFTERMATH {
            *released = Instant::now();
            self.release().await?;
            self.tidy().await?;
        }
        Ok(())
    }

    /// Resumes jobs that were delayed by a rule that has ended, or by a breaker that is closed.
    async fn release(&mut self) -> RedisResult<()> {
        let rules = self.context.control.rules();
        for partition in &self.context.partitions {
            for name in rules::holding_rules(&mut self.link, &partition.keys).await? {
                let holds = match breakers::held_route(&name) {
                    Some(route) => !self.context.upstream_health.is_closed(route, self.context.clock.monotonic_ms()),
                    None => rules.pause_holds(&name, self.context.clock.now_ms()),
                };
                if holds {
                    continue;
                }
                while rules::resume_paused(&mut self.link, &partition.keys, &name, rules::MAX_CANCEL_DELAYED).await? > 0
                {
                    partition.delayed.notify_one();
                }
                partition.delayed.notify_one();
            }
        }
        Ok(())
    }

    /// Removes rules that have ended, and cancellations whose jobs have all completed.
    async fn tidy(&mut self) -> RedisResult<()> {
        let rules = self.context.control.rules();
        let mut moot = rules.over(self.context.clock.now_ms());
        if rules.all().any(|(verb, ..)| verb == RuleAction::Cancel) {
            let mut oldest_ms = u64::MAX;
            for partition in &self.context.partitions {
                oldest_ms = oldest_ms.min(rules::oldest_ms(&mut self.link, &partition.keys).await?.unwrap_or(u64::MAX));
            }
            let ended = rules.all().filter(|(verb, _, order)| *verb == RuleAction::Cancel && order.at_ms < oldest_ms);
            moot.extend(ended.map(|(verb, selector, order)| Rule {
                verb,
                selector: selector.clone(),
                order: order.clone(),
            }));
        }
        for rule in moot {
            let name = Rule::name(rule.verb, &rule.selector);
            let keys = &self.context.partitions[0].keys;
            rules::drop_rule(&mut self.link, keys, &name, Some(&rule.value())).await?;
        }
        Ok(())
    }
}
