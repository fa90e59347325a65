//! What the configuration says of limits and concurrency, on the workers if they say so.

use crate::{
    config::{Config, Limit, LimitsConfig, limit_key, read_limit},
    limits::LimitName,
    queue::{
        Keys, Link, overrides, rules,
        workers::{self, Heartbeat},
    },
};
use redis::RedisResult;
use std::collections::BTreeSet;

/// What the configuration says.
#[derive(Debug, Clone)]
pub(in crate::operations) struct Configured {
    /// The limits without overrides.
    pub(in crate::operations) limits: LimitsConfig,
    /// The number of worker slots without overrides. Where workers differ, the largest.
    pub(in crate::operations) concurrency: usize,
}

impl Configured {
    /// Of the running workers where they agree, else of `config`.
    pub(in crate::operations) async fn read(link: &mut Link, keys: &Keys, config: &Config) -> RedisResult<Self> {
        let now_ms = rules::now_ms(link).await?;
        let mut listed = workers::workers(link, keys).await?;
        listed.retain(|_, beat| beat.is_recent(now_ms));
        Ok(Self::of(&listed.into_values().collect::<Vec<_>>(), config))
    }

    fn of(running: &[Heartbeat], config: &Config) -> Self {
        let limit = |name: LimitName| agreed(running, name, config);
        let limits = LimitsConfig {
            caller: limit(LimitName::Caller),
            client: limit(LimitName::Client),
            total: limit(LimitName::Total),
            ..config.limits.clone()
        };
        let slots = running.iter().filter_map(|beat| beat.configured_slots).max();
        let concurrency = slots.and_then(|slots| usize::try_from(slots).ok()).unwrap_or(config.worker.concurrency);
        Self { limits, concurrency }
    }

    /// The limits in force: the configured ones with the overrides.
    pub(in crate::operations) async fn in_force(
        link: &mut Link,
        keys: &Keys,
        config: &Config,
    ) -> RedisResult<LimitsConfig> {
        let stored = overrides::load(link, keys).await?;
        Ok(stored.overrides.apply(&Self::read(link, keys, config).await?.limits))
    }
}

/// A limit as all workers say it; that of `config` if they differ, or none says anything.
fn agreed(running: &[Heartbeat], name: LimitName, config: &Config) -> Option<Limit> {
    let key = limit_key(name.as_str());
    let said: BTreeSet<&str> = running.iter().filter_map(|beat| beat.settings.get(&key)).map(String::as_str).collect();
    let agreed = said.first().filter(|_| said.len() == 1).and_then(|text| read_limit(text).ok());
    agreed.unwrap_or_else(|| name.of(&config.limits))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::parse_rate;
    use serde_json::json;

    fn beat(slots: u64, caller: &str) -> Heartbeat {
        serde_json::from_value(json!({
            "version": "0.1.0", "host": "h", "pid": 1, "started_at_ms": 0, "seen_at_ms": 0, "slots": 64, "allowed": 64,
            "running": {"interactive": 0, "bulk": 0}, "calls_last_minute": 0, "failures_last_minute": 0,
            "breaker": "closed", "configured_slots": slots, "settings": {"limits.caller": caller},
        }))
        .unwrap()
    }

    #[test]
    fn workers_that_agree_are_believed() {
        let mut config = Config::default();
        config.limits.caller = Some(Limit { rate: parse_rate("1/s").unwrap(), burst: 1 });
        let of = |beats: &[Heartbeat]| {
            let found = Configured::of(beats, &config);
            (found.limits.caller.map(|limit| limit.burst), found.concurrency)
        };
        assert_eq!(of(&[]), (Some(1), config.worker.concurrency));
        assert_eq!(of(&[beat(8, "10/s, burst 20"), beat(16, "10/s, burst 20")]), (Some(20), 16));
        assert_eq!(of(&[beat(8, "10/s, burst 20"), beat(8, "9/s, burst 9")]), (Some(1), 8));
        assert_eq!(of(&[beat(8, "none")]), (None, 8));
        assert_eq!(of(&[beat(8, "\u{1b}[2J")]), (Some(1), 8), "not a limit");
    }
}
