//! Overrides in Redis (`{NS:0}:limits`), and their effect on delayed jobs: the typed wrappers of `lua/limits/limits_read.lua`,
//! `lua/limits/limits_change.lua` and `lua/limits/bring_forward.lua`.

use super::{
    Keys, Link,
    script::{Script, integers, script},
};
use crate::{
    contract::Origin,
    limits::{LimitSetting, MAX_OVERRIDE_BYTES, Override, Overrides},
};
use redis::{RedisResult, Value};
use std::sync::LazyLock;

static READ: LazyLock<Script> = LazyLock::new(|| script!("limits/limits_read"));
static CHANGE: LazyLock<Script> = LazyLock::new(|| script!("limits/limits_change"));
static BRING_FORWARD: LazyLock<Script> = LazyLock::new(|| script!("limits/bring_forward" on "limiter/limiter"));

/// Maximum number of jobs that one call of [`bring_forward`] moves.
pub const MAX_BRING_FORWARD: usize = 1_000;

/// The field of the overrides' version, which changes with every change.
const VERSION: &str = "v";

/// What Redis holds of overrides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredOverrides {
    /// The overrides.
    pub overrides: Overrides,
    /// Settings whose field is not an override. They are ignored.
    pub invalid: Vec<LimitSetting>,
    /// Whether the key is not a hash. It is ignored.
    pub is_foreign: bool,
}

/// Returns the version of the overrides, which differs after every change. `None` if there are none.
pub async fn version(link: &mut Link, keys: &Keys) -> RedisResult<Option<String>> {
    let values = read(link, keys, &[VERSION]).await?;
    // A key of another type has a version too, so that workers look at it once, and again when it is repaired.
    Ok(Some(values.first().map_or("foreign", String::as_str).to_owned()).filter(|version| !version.is_empty()))
}

/// Reads the overrides. At most a few kilobytes, whatever the key holds.
pub async fn load(link: &mut Link, keys: &Keys) -> RedisResult<StoredOverrides> {
    let values = read(link, keys, &LimitSetting::ALL.map(LimitSetting::as_str)).await?;
    if values.is_empty() {
        return Ok(StoredOverrides { is_foreign: true, ..StoredOverrides::default() });
    }
    let stored = LimitSetting::ALL.into_iter().zip(values.iter().map(String::as_str));
    let (overrides, invalid) = Overrides::read(stored.filter(|(_, text)| !text.is_empty()));
    Ok(StoredOverrides { overrides, invalid, is_foreign: false })
}

async fn read(link: &mut Link, keys: &Keys, fields: &[&str]) -> RedisResult<Vec<String>> {
    let mut call = READ.call(1);
    call.arg(&keys.limits).arg(MAX_OVERRIDE_BYTES).arg(fields);
    let values: Vec<Vec<u8>> = redis::from_redis_value(READ.run(link, &call).await?)?;
    Ok(values.into_iter().map(|value| String::from_utf8(value).unwrap_or_else(|_| "invalid".to_owned())).collect())
}

/// Sets overrides, all in one step. Every worker takes them up within about a second.
pub async fn set(link: &mut Link, keys: &Keys, overrides: &[(LimitSetting, Override)]) -> RedisResult<()> {
    let mut call = CHANGE.call(1);
    call.arg(&keys.limits);
    for (setting, set) in overrides {
        call.arg(setting.as_str()).arg(set.to_json());
    }
    CHANGE.run(link, &call).await.map(drop)
}

/// Removes overrides, all in one step. Returns how many there were.
pub async fn reset(link: &mut Link, keys: &Keys, settings: &[LimitSetting]) -> RedisResult<u64> {
    let mut call = CHANGE.call(1);
    call.arg(&keys.limits);
    for setting in settings {
        call.arg(setting.as_str()).arg("");
    }
    count(CHANGE.run(link, &call).await?)
}

/// A job that waits for a limit, and when it is to come back instead.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BroughtForward {
    /// Where the job was first enqueued.
    pub origin: Origin,
    /// Its score in `delayed` as it was read: its due time, in milliseconds on Redis's clock.
    pub score: f64,
    /// The new due time, in milliseconds on Redis's clock.
    pub due_ms: u64,
}

/// Gives at most [`MAX_BRING_FORWARD`] jobs earlier due times, in one step. Jobs that have moved are left alone. Each bucket, by
/// name, has no reservation after its time in microseconds on Redis's clock. Returns how many jobs were moved.
pub async fn bring_forward(
    link: &mut Link,
    keys: &Keys,
    jobs: &[BroughtForward],
    buckets: &[(&str, u64)],
) -> RedisResult<u64> {
    let mut call = BRING_FORWARD.call(1 + buckets.len());
    call.arg(&keys.delayed);
    for (bucket, _) in buckets {
        call.arg(keys.limit(bucket));
    }
    call.arg(jobs.len());
    for job in jobs {
        call.arg(job.origin.to_string()).arg(job.score).arg(job.due_ms);
    }
    for (_, until_us) in buckets {
        call.arg(*until_us);
    }
    count(BRING_FORWARD.run(link, &call).await?)
}

fn count(value: Value) -> RedisResult<u64> {
    let found = integers(Value::Array(vec![value]))?;
    Ok(found.first().and_then(|found| u64::try_from(*found).ok()).unwrap_or(0))
}
