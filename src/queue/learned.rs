//! What 429s have taught: the typed face of `lua/learned.lua`.

use super::{
    Keys, Link,
    script::{Script, script},
};
use redis::RedisResult;
use std::sync::LazyLock;

/// The most buckets that are remembered as having met a 429, and told of.
pub const MAX_LEARNED: usize = 1_000;

static SCRIPT: LazyLock<Script> = LazyLock::new(|| script!("learned" on "limiter"));

/// A bucket that met a 429 within the time for which a learned rate is remembered.
#[derive(Debug, Clone, PartialEq)]
pub struct LearnedLimit {
    /// The bucket's name: it may hold a caller, so it is for operators' eyes and not for metrics.
    pub bucket: String,
    /// What it learned, grown since; `None` where 429s are not to teach (`limits.learn`). Where a lower rate is configured, that
    /// one holds.
    pub rate_per_s: Option<f64>,
    /// No call before then, milliseconds on Redis's clock; in the past where it is open.
    pub closed_until_ms: u64,
    /// Closures in a row.
    pub strikes: u32,
    /// When it met its last 429, milliseconds on Redis's clock.
    pub last_429_ms: u64,
}

/// The buckets of a partition that met a 429 lately, the latest first, [`MAX_LEARNED`] at most.
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
