//! Which workers there are: `{NS:0}:workers`, where each says once a second how it is.

use super::{Keys, Link};
use crate::contract::JobType;
use redis::{RedisResult, cmd, pipe};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A worker that has been silent for so long is gone.
pub const GONE_MS: u64 = 60_000;

/// How long the list is kept when nobody writes to it any more.
const LIFE_S: u64 = 300;

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
    pipe.cmd("EXPIRE").arg(&keys.workers).arg(LIFE_S).ignore();
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

/// Takes those off the list that have been silent for [`GONE_MS`]. One that was only asleep puts itself back.
pub async fn forget_gone(link: &mut Link, keys: &Keys, now_ms: u64) -> RedisResult<()> {
    for (name, heartbeat) in workers(link, keys).await? {
        if heartbeat.seen_at_ms.saturating_add(GONE_MS) < now_ms {
            forget(link, keys, &name).await?;
        }
    }
    Ok(())
}
