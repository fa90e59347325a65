//! Learned rates: what 429s have taught a limit. The typed face of `lua/limiter/learned.lua`, and the only decoder of such a record in
//! Rust.

use super::{
    Keys, Link,
    script::{Script, script},
};
use redis::RedisResult;
use std::sync::LazyLock;

/// Maximum number of buckets that are remembered as having met a 429, and of those that one call returns.
pub const MAX_LEARNED: usize = 1_000;

static SCRIPT: LazyLock<Script> = LazyLock::new(|| script!("limiter/learned" on "limiter/limiter"));

/// A bucket that met a 429 within the time for which a learned rate is remembered (ten minutes).
#[derive(Debug, Clone, PartialEq)]
pub struct LearnedLimit {
    /// The bucket's name. It may hold a caller: show it to operators, never in metrics.
    pub bucket: String,
    /// The learned rate as grown by now; `None` where 429s do not teach (`limits.learn`). Where a lower rate is configured, that
    /// one holds.
    pub rate_per_s: Option<f64>,
    /// No call is made before this time, milliseconds on Redis's clock. In the past: the bucket is open.
    pub closed_until_ms: u64,
    /// Number of consecutive 429s, where those of concurrent calls count as one.
    pub strikes: u32,
    /// When the bucket met its last 429, milliseconds on Redis's clock; 0 where that is not known.
    pub last_429_ms: u64,
}

/// The buckets of a partition that met a 429 lately, at most `most` of them ([`MAX_LEARNED`] in any case), the latest first.
pub async fn learned(link: &mut Link, keys: &Keys, most: usize) -> RedisResult<Vec<LearnedLimit>> {
    run(link, keys, most.min(MAX_LEARNED), "").await
}

/// What one bucket has learned; `None` where it met no 429 lately.
pub async fn learned_by(link: &mut Link, keys: &Keys, bucket: &str) -> RedisResult<Option<LearnedLimit>> {
    Ok(run(link, keys, 1, bucket).await?.pop())
}

async fn run(link: &mut Link, keys: &Keys, most: usize, bucket: &str) -> RedisResult<Vec<LearnedLimit>> {
    let mut call = SCRIPT.call(1);
    call.arg(&keys.learned).arg(most).arg(keys.limit("")).arg(bucket);
    let report: Vec<String> = redis::from_redis_value(SCRIPT.run(link, &call).await?)?;
    Ok(report.chunks_exact(5).filter_map(decode).collect())
}

fn decode(texts: &[String]) -> Option<LearnedLimit> {
    let [bucket, rate, closed, strikes, last] = texts else { return None };
    Some(LearnedLimit {
        bucket: bucket.clone(),
        rate_per_s: rate.parse().ok().filter(|rate| *rate > 0.0),
        closed_until_ms: closed.parse().ok()?,
        strikes: strikes.parse().ok()?,
        last_429_ms: last.parse().unwrap_or(0),
    })
}
