//! The list of workers, `{NS:0}:workers`, where each worker reports its state once per second.

use super::{Keys, Link};
use crate::contract::JobType;
use redis::{RedisResult, cmd, pipe};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// A worker that has been silent for this time is gone.
pub const GONE_MS: u64 = 60_000;

/// Minimum time in seconds for which the list is kept after the last write.
const LIFE_S: u64 = 300;

/// A worker that has been silent for this time may be gone, so its report no longer counts as current.
pub const SILENT_MS: u64 = 10_000;

/// Maximum lease that is accepted from a heartbeat: the longest that the configuration allows.
const LONGEST_LEASE_MS: u64 = 3_600_000;

/// A worker's report about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Version of the worker's program.
    pub version: String,
    /// Name of the worker's host.
    pub host: String,
    /// Process id of the worker.
    pub pid: u32,
    /// When the worker started, in milliseconds on Redis's clock.
    pub started_at_ms: u64,
    /// When this report was written, in milliseconds on Redis's clock.
    pub seen_at_ms: u64,
    /// Maximum number of concurrent calls.
    pub slots: u64,
    /// Current limit on concurrent calls.
    pub allowed: u64,
    /// Number of calls in flight, by lane.
    pub running: RunningJobs,
    /// Number of calls that ended within the last minute.
    pub calls_last_minute: u64,
    /// Number of those calls that failed because of XCO or the network.
    pub failures_last_minute: u64,
    /// State of the circuit breaker of all calls: `closed`, `open`, `half_open`, or `off`.
    pub breaker: String,
    /// State of each route's circuit breaker that is not closed, by the job type of its calls.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub breaker_routes: BTreeMap<JobType, String>,
    /// Why the breaker is not closed, if the reason is not an outage. `refused` means that XCO refuses this client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker_reason: Option<String>,
    /// The worker's `worker.lease` in milliseconds. Its deliveries are not taken over before that time. `None` from
    /// older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    /// The settings that should be the same on all workers, by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// The number of worker slots that its own configuration names. `None` from older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configured_slots: Option<u64>,
    /// Version of the operators' rules and overrides that it has loaded, as [`loaded_rules`] writes it. `None`: it has loaded none yet, or is of
    /// an older version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules_version: Option<String>,
    /// Whether it looks for buckets in the hashes `recent`. Workers of older versions do not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub looks_at_recent: bool,
}

/// What a heartbeat says of the version of rules and overrides: text in any case, empty where there are neither.
pub fn loaded_rules(version: Option<&str>) -> String {
    version.unwrap_or_default().to_owned()
}

impl Heartbeat {
    /// Whether its last heartbeat is recent enough to count on the worker: less than [`SILENT_MS`] ago.
    pub const fn is_recent(&self, now_ms: u64) -> bool {
        self.seen_at_ms.saturating_add(SILENT_MS) > now_ms
    }

    /// Returns the worker's lease, within the accepted bounds.
    pub fn lease(&self) -> Option<Duration> {
        self.lease_ms.map(|ms| Duration::from_millis(ms.clamp(1, LONGEST_LEASE_MS)))
    }

    /// Returns until when other workers may need this report: a minute, or two of the worker's leases if that is
    /// longer, because they look up the lease.
    fn matters_until_ms(&self) -> u64 {
        let leases_ms = self.lease_ms.unwrap_or(0).min(LONGEST_LEASE_MS).saturating_mul(2);
        self.seen_at_ms.saturating_add(leases_ms.max(GONE_MS))
    }
}

/// A setting that is not the same on all workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The key of the setting.
    pub setting: String,
    /// The values of the setting, with the workers that have each.
    pub values: BTreeMap<String, Vec<String>>,
}

/// Returns the settings that differ between the given parties. A party without settings is of an older version and is
/// left out.
pub fn differences<'a>(
    parties: impl Iterator<Item = (&'a str, &'a BTreeMap<String, String>)> + Clone,
) -> Vec<Difference> {
    let mut by_setting: BTreeMap<&str, BTreeMap<String, Vec<String>>> = BTreeMap::new();
    let telling = parties.filter(|(_, settings)| !settings.is_empty());
    for setting in telling.clone().flat_map(|(_, settings)| settings.keys()) {
        if by_setting.contains_key(setting.as_str()) {
            continue;
        }
        let values = by_setting.entry(setting).or_default();
        for (name, settings) in telling.clone() {
            let value = settings.get(setting).map_or_else(|| "not set".to_owned(), Clone::clone);
            values.entry(value).or_default().push(name.to_owned());
        }
    }
    by_setting
        .into_iter()
        .filter(|(_, values)| values.len() > 1)
        .map(|(setting, values)| Difference { setting: setting.to_owned(), values })
        .collect()
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is ", self.setting)?;
        for (number, (value, names)) in self.values.iter().enumerate() {
            let before = if number == 0 { "" } else { "; " };
            let more = if names.len() > 1 { format!(" and {} more", names.len() - 1) } else { String::new() };
            write!(f, "{before}{value} ({}{more})", names.first().map_or("", String::as_str))?;
        }
        Ok(())
    }
}

/// Number of calls in flight, by lane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningJobs {
    /// Calls of interactive jobs.
    pub interactive: u64,
    /// Calls of bulk jobs.
    pub bulk: u64,
}

/// Writes a worker's report. O(1).
pub async fn beat(link: &mut Link, keys: &Keys, consumer: &str, heartbeat: &Heartbeat) -> RedisResult<()> {
    // Strings and numbers only: serialisation cannot fail.
    let text = serde_json::to_string(heartbeat).unwrap_or_default();
    let mut pipe = pipe();
    pipe.cmd("HSET").arg(&keys.workers).arg(consumer).arg(text).ignore();
    let life_s = heartbeat.lease_ms.map_or(0, |ms| ms.min(LONGEST_LEASE_MS) / 500).max(LIFE_S);
    pipe.cmd("EXPIRE").arg(&keys.workers).arg(life_s).ignore();
    link.pipeline(&pipe).await
}

/// Returns the listed workers, by their names in the consumer group. They include workers that died within the last
/// minute. O(workers).
pub async fn workers(link: &mut Link, keys: &Keys) -> RedisResult<BTreeMap<String, Heartbeat>> {
    let listed: BTreeMap<String, String> = link.query(cmd("HGETALL").arg(&keys.workers)).await?;
    Ok(listed.into_iter().filter_map(|(name, text)| Some((name, serde_json::from_str(&text).ok()?))).collect())
}

/// Removes a worker from the list.
pub async fn forget(link: &mut Link, keys: &Keys, consumer: &str) -> RedisResult<()> {
    link.query::<u64>(cmd("HDEL").arg(&keys.workers).arg(consumer)).await.map(drop)
}

/// Removes the workers that have been silent for [`GONE_MS`], or for two of their leases if that is longer. A worker
/// that was only suspended adds itself again.
pub async fn forget_gone(link: &mut Link, keys: &Keys, now_ms: u64) -> RedisResult<()> {
    for (name, heartbeat) in workers(link, keys).await? {
        if heartbeat.matters_until_ms() < now_ms {
            forget(link, keys, &name).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named_with_who_has_what() {
        let settings = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let (a, b) = (settings(&[("x", "1"), ("y", "2")]), settings(&[("x", "1"), ("y", "3"), ("z", "4")]));
        let old = BTreeMap::new();
        let named = |parties: &[(&'static str, &BTreeMap<String, String>)]| -> Vec<String> {
            differences(parties.iter().copied()).iter().map(ToString::to_string).collect()
        };
        assert!(named(&[]).is_empty());
        assert!(named(&[("a", &a), ("c", &a), ("old", &old)]).is_empty());
        let found = named(&[("a", &a), ("b", &b), ("c", &a), ("old", &old)]);
        assert_eq!(found, ["y is 2 (a and 1 more); 3 (b)", "z is 4 (b); not set (a and 1 more)"]);
    }
}
