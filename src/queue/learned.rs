//! The rates learned from 429s: the typed wrapper of `lua/learned.lua`.

use super::{
    Keys, Link,
    script::{Script, script},
};
use redis::RedisResult;
use std::sync::LazyLock;

/// Maximum number of buckets that are remembered and returned.
pub const MAX_LEARNED: usize = 1_000;

static SCRIPT: LazyLock<Script> = LazyLock::new(|| script!("learned" on "limiter"));

/// A bucket that met a 429 recently, within the time for which a learned rate is remembered.
#[derive(Debug, Clone, PartialEq)]
pub struct LearnedLimit {
    /// The name of the bucket. It may contain a caller, so show it to operators but do not use it in metrics.
    pub bucket: String,
    /// The learned rate in calls per second, including its growth since the 429. `None` if no rate is learned
    /// (`limits.learn`). A lower configured rate takes precedence.
    pub rate_per_s: Option<f64>,
    /// When the bucket opens again, in milliseconds on Redis's clock. In the past if the bucket is open.
    pub closed_until_ms: u64,
    /// Number of consecutive 429s, where those of concurrent calls count as one.
    pub strikes: u32,
    /// When the bucket met its last 429, in milliseconds on Redis's clock.
    pub last_429_ms: u64,
}

/// Returns the buckets of a partition that met a 429 recently, the latest first, at most [`MAX_LEARNED`].
pub async fn learned(link: &mut Link, keys: &Keys) -> RedisResult<Vec<LearnedLimit>> {
    let mut call = SCRIPT.call(1);
    call.arg(&keys.learned).arg(MAX_LEARNED).arg(keys.limit(""));
    let told: Vec<String> = redis::from_redis_value(SCRIPT.run(link, &call).await?)?;
    Ok(told.chunks_exact(5).filter_map(decode).collect())
}

fn decode(texts: &[String]) -> Option<LearnedLimit> {
    let [bucket, rate, closed, strikes, last] = texts else { return None };
    Some(LearnedLimit {
        bucket: bucket.clone(),
        rate_per_s: rate.parse().ok().filter(|rate| *rate > 0.0),
        closed_until_ms: closed.parse().ok()?,
        strikes: strikes.parse().ok()?,
        last_429_ms: last.parse().ok()?,
    })
}
