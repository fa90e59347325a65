//! Which workers there are: `{NS:0}:workers`, where each says once a second how it is.

use super::{Keys, Link};
use crate::contract::JobType;
use redis::{RedisResult, cmd, pipe};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// A worker that has been silent for so long is gone.
pub const GONE_MS: u64 = 60_000;

/// How long the list is kept when nobody writes to it any more, at least.
const LIFE_S: u64 = 300;

/// A worker that has been silent for so long may be gone: what it says does not count as what is so now.
pub const SILENT_MS: u64 = 10_000;

/// No longer lease is believed: the longest that configuration takes.
const LONGEST_LEASE_MS: u64 = 3_600_000;

/// What a worker says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// This program's version.
    pub version: String,
    /// Its machine.
    pub host: String,
    /// Its process.
    pub pid: u32,
    /// Milliseconds on Redis's clock.
    pub started_at_ms: u64,
    /// Milliseconds on Redis's clock.
    pub seen_at_ms: u64,
    /// Calls at once, at most.
    pub slots: u64,
    /// Calls at once, at the moment.
    pub allowed: u64,
    /// Calls under way, by lane.
    pub running: Running,
    /// Calls ended within the last minute.
    pub calls_last_minute: u64,
    /// Of these, failed by XCO's or the network's fault.
    pub failures_last_minute: u64,
    /// The breaker of all calls: `closed`, `open`, `half_open`, or `off`.
    pub breaker: String,
    /// The routes whose breakers are not closed, by the type whose call it is.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub breaker_routes: BTreeMap<JobType, String>,
    /// Why it is not closed, where that is not an outage: `refused`, XCO refuses this client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker_reason: Option<String>,
    /// Its `worker.lease`: before that time is over nobody takes over what it holds. None from workers of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    /// Its settings that all workers should have alike, by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// Version of the operators' rules that it has loaded, as [`loaded_rules`] writes it. `None`: it has loaded none yet, or is of
    /// an older version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules_version: Option<String>,
}

/// What a heartbeat says of the rules' version: text in any case, empty where there are no rules.
pub fn loaded_rules(version: Option<&str>) -> String {
    version.unwrap_or_default().to_owned()
}

impl Heartbeat {
    /// Whether its last heartbeat is recent enough to count on the worker: less than [`SILENT_MS`] ago.
    pub const fn is_recent(&self, now_ms: u64) -> bool {
        self.seen_at_ms.saturating_add(SILENT_MS) > now_ms
    }

    /// Its lease.
    pub fn lease(&self) -> Option<Duration> {
        self.lease_ms.map(|ms| Duration::from_millis(ms.clamp(1, LONGEST_LEASE_MS)))
    }

    /// When nothing depends on it any more: a minute after it came, or two of its leases, while others ask how long those are.
    fn matters_until_ms(&self) -> u64 {
        let leases_ms = self.lease_ms.unwrap_or(0).min(LONGEST_LEASE_MS).saturating_mul(2);
        self.seen_at_ms.saturating_add(leases_ms.max(GONE_MS))
    }
}

/// A setting that workers do not have alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its key.
    pub setting: String,
    /// Its values, and which workers have them.
    pub values: BTreeMap<String, Vec<String>>,
}

/// The settings that differ, of these parties and theirs. A party that tells none is of an older version, and left out.
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

/// Calls under way, by lane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// For people who wait.
    pub interactive: u64,
    /// For nobody.
    pub bulk: u64,
}

/// Says how a worker is. O(1).
pub async fn beat(link: &mut Link, keys: &Keys, consumer: &str, heartbeat: &Heartbeat) -> RedisResult<()> {
    // Strings and numbers: nothing that serialisation could refuse.
    let text = serde_json::to_string(heartbeat).unwrap_or_default();
    let mut pipe = pipe();
    pipe.cmd("HSET").arg(&keys.workers).arg(consumer).arg(text).ignore();
    let life_s = heartbeat.lease_ms.map_or(0, |ms| ms.min(LONGEST_LEASE_MS) / 500).max(LIFE_S);
    pipe.cmd("EXPIRE").arg(&keys.workers).arg(life_s).ignore();
    link.pipeline(&pipe).await
}

/// The workers there are, by the names they have in the consumer group; those gone without a word for a minute at most
/// among them. O(workers).
pub async fn workers(link: &mut Link, keys: &Keys) -> RedisResult<BTreeMap<String, Heartbeat>> {
    let listed: BTreeMap<String, String> = link.query(cmd("HGETALL").arg(&keys.workers)).await?;
    Ok(listed.into_iter().filter_map(|(name, text)| Some((name, serde_json::from_str(&text).ok()?))).collect())
}

/// Takes a worker off the list.
pub async fn forget(link: &mut Link, keys: &Keys, consumer: &str) -> RedisResult<()> {
    link.query::<u64>(cmd("HDEL").arg(&keys.workers).arg(consumer)).await.map(drop)
}

/// Takes those off the list that have been silent for [`GONE_MS`], or two of their leases. One that was only asleep puts itself back.
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
