//! Maintenance of a partition: promotion, removing idle consumers, trimming, and the figures for metrics. Each function
//! makes one round trip or a bounded number; the worker's maintenance loops call them.

use super::{
    GROUP, Keys, Link,
    clock::{RedisTime, now_ms},
    entry::text,
    script::{Script, ScriptFailure, script},
};
use crate::{
    contract::{EntryId, Lane, millis},
    limits::{Bucket, SharedBucket},
};
use redis::{RedisResult, Value, cmd, pipe};
use std::{sync::LazyLock, time::Duration};

static PROMOTE: LazyLock<Script> = LazyLock::new(
    || script!("schedule/promote" on "shared/atomic" on "limiter/limiter" on "limiter/turns" on "shared/order"),
);
static HEADS: LazyLock<Script> = LazyLock::new(|| script!("deliveries/heads"));
static RETIRE: LazyLock<Script> = LazyLock::new(|| script!("deliveries/remove_consumer"));

/// Maximum number of jobs that one promotion moves.
pub const MAX_PROMOTE: usize = 500;

/// The result of a promotion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promotion {
    /// Number of jobs moved back to their lanes.
    pub promoted: usize,
    /// Time until the next job is due.
    pub next_due: Option<Duration>,
    /// Number of jobs that are still delayed.
    pub delayed: u64,
    /// Number of promoted jobs whose state could not be read. They are rejected in their lane.
    pub unreadable: u64,
    /// Reasons why jobs could not be promoted.
    pub failures: Vec<ScriptFailure>,
}

/// Moves delayed jobs that are due back to their lanes, and then bulk jobs for which the `shared` buckets have room: at
/// most [`MAX_PROMOTE`] of each kind.
pub async fn promote(link: &mut Link, keys: &Keys, shared: &[(SharedBucket, Bucket)]) -> RedisResult<Promotion> {
    let mut call = PROMOTE.call(4 + 2 * shared.len());
    call.arg(&keys.delayed).arg(&keys.delayed_jobs).arg(keys.due(Lane::Interactive)).arg(keys.due(Lane::Bulk));
    for (which, bucket) in shared {
        call.arg(keys.limit(&bucket.name)).arg(keys.waiting(*which));
    }
    call.arg(MAX_PROMOTE);
    for (_, bucket) in shared {
        call.arg(bucket.interval_us).arg(bucket.tolerance_us);
    }
    let (promoted, next_ms, delayed, unreadable, reasons): (usize, i64, u64, u64, Vec<String>) =
        redis::from_redis_value(PROMOTE.run(link, &call).await?)?;
    Ok(Promotion {
        promoted,
        next_due: u64::try_from(next_ms).ok().map(Duration::from_millis),
        delayed,
        unreadable,
        failures: reasons.iter().map(|why| ScriptFailure::new(PROMOTE.name(), why)).collect(),
    })
}

/// How many entries a partition's lane has, in both streams. O(1).
pub async fn entries(link: &mut Link, keys: &Keys, lane: Lane) -> RedisResult<u64> {
    let mut asked = pipe();
    asked.cmd("XLEN").arg(keys.jobs(lane));
    asked.cmd("XLEN").arg(keys.due(lane));
    let (jobs, due): (u64, u64) = link.pipeline(&asked).await?;
    Ok(jobs + due)
}

/// The figures of one lane in one partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Number of entries in both streams.
    pub entries: u64,
    /// Number of entries that were delivered and have not ended.
    pub in_flight: u64,
    /// Age of the oldest entry.
    pub oldest: Duration,
}

/// Returns the first entry of each of these streams of one partition. One round trip; only the ids are sent.
pub(super) async fn heads(link: &mut Link, streams: &[&str]) -> RedisResult<Vec<Option<EntryId>>> {
    let mut call = HEADS.call(streams.len());
    for stream in streams {
        call.arg(stream);
    }
    let ids: Vec<String> = redis::from_redis_value(HEADS.run(link, &call).await?)?;
    Ok(ids.iter().map(|id| id.parse().ok()).collect())
}

/// Returns the figures of a lane. O(1).
pub async fn backlog(link: &mut Link, keys: &Keys, lane: Lane) -> RedisResult<Backlog> {
    let streams = [keys.due(lane), keys.jobs(lane)];
    let mut asked = pipe();
    asked.cmd("TIME");
    for stream in streams {
        asked.cmd("XLEN").arg(stream);
        asked.cmd("XPENDING").arg(stream).arg(GROUP);
    }
    let replies: Vec<Value> = link.pipeline(&asked).await?;
    let mut figures = Backlog::default();
    let now_ms = replies
        .first()
        .and_then(|time| redis::from_redis_value::<RedisTime>(time.clone()).ok())
        .map_or(0, RedisTime::ms);
    for pair in replies.get(1..).unwrap_or_default().chunks_exact(2) {
        if let Value::Int(length) = pair[0] {
            figures.entries += u64::try_from(length).unwrap_or(0);
        }
        if let Value::Array(summary) = &pair[1]
            && let Some(Value::Int(pending)) = summary.first()
        {
            figures.in_flight += u64::try_from(*pending).unwrap_or(0);
        }
    }
    if figures.entries > 0 {
        for id in heads(link, &streams).await?.into_iter().flatten() {
            figures.oldest = figures.oldest.max(Duration::from_millis(now_ms.saturating_sub(id.ms)));
        }
    }
    Ok(figures)
}

/// Counts the bulk jobs that wait in the queue of a shared bucket. O(1).
pub async fn queued(link: &mut Link, keys: &Keys, bucket: SharedBucket) -> RedisResult<u64> {
    link.query(cmd("ZCARD").arg(keys.waiting(bucket))).await
}

/// Removes consumers of a stream that have no pending deliveries and have been silent for `idle`. Bounded by the size
/// of the group.
pub async fn retire_idle(link: &mut Link, stream: &str, idle: Duration) -> RedisResult<usize> {
    let listed: RedisResult<Vec<std::collections::HashMap<String, Value>>> =
        link.query(cmd("XINFO").arg("CONSUMERS").arg(stream).arg(GROUP)).await;
    let consumers = match listed {
        Ok(consumers) => consumers,
        // The stream does not exist yet.
        Err(error) if error.code() == Some("ERR") => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut retired = 0;
    for consumer in consumers {
        let number = |name: &str| match consumer.get(name) {
            Some(Value::Int(number)) => u64::try_from(*number).unwrap_or(0),
            _ => 0,
        };
        let Some(name) = consumer.get("name").and_then(text) else { continue };
        if number("pending") == 0 && Duration::from_millis(number("idle")) >= idle {
            let mut call = RETIRE.call(1);
            call.arg(stream).arg(name);
            retired += usize::from(RETIRE.run(link, &call).await? == Value::Int(1));
        }
    }
    Ok(retired)
}

/// The result of trimming the completions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// Number of completions removed.
    pub removed: u64,
    /// Whether `max_bytes` forced the removal of completions that a reader group had not read.
    pub past_readers: bool,
}

/// Size at which trimming starts, in sixteenths of `max_bytes`. The rest is room for what is written between two checks.
const FULL_SIXTEENTHS: u64 = 15;
/// Size that one trim reduces the completions to, in sixteenths of `max_bytes`.
const TRIMMED_SIXTEENTHS: u64 = 14;

/// A worker checks again after it has written this part of `max_bytes`.
pub const LOOK_AFTER_PART: u64 = 64;

/// Size in bytes of an entry on a reader group's pending list. `MEMORY USAGE` counts it too, and trimming does not free
/// it.
const PENDING_BYTES: u64 = 600;

/// Maximum number of `XTRIM` calls in one trim. With `~`, each removes at most 10,000 entries.
const MOST_TRIMS: usize = 1000;

/// Trims the completions by age, but never past the slowest reader group, and by `max_bytes`, which may go past it.
/// Each command is short; they are repeated until the bounds are met.
pub async fn trim_completions(
    link: &mut Link,
    keys: &Keys,
    retention: Duration,
    max_bytes: u64,
) -> RedisResult<Trimmed> {
    let now_ms = now_ms(link).await?;
    let retention_ms = millis(retention);
    let oldest_kept = EntryId { ms: now_ms.saturating_sub(retention_ms), seq: 0 };
    let groups = reader_groups(link, &keys.completions).await?;
    let slowest = groups.iter().map(|group| group.read).min();
    let bound = slowest.map_or(oldest_kept, |read| read.min(oldest_kept)).to_string();
    let mut trimmed = Trimmed::default();
    for _ in 0..MOST_TRIMS {
        let removed: u64 = link.query(cmd("XTRIM").arg(&keys.completions).arg("MINID").arg("~").arg(&bound)).await?;
        trimmed.removed += removed;
        if removed == 0 {
            break;
        }
    }

    let pending_bytes = groups.iter().map(|group| group.pending).sum::<u64>().saturating_mul(PENDING_BYTES);
    let mut forced = false;
    let mut full = max_bytes / 16 * FULL_SIXTEENTHS;
    for _ in 0..MOST_TRIMS {
        let mut ask = pipe();
        ask.cmd("MEMORY").arg("USAGE").arg(&keys.completions).arg("SAMPLES").arg(64);
        ask.cmd("XLEN").arg(&keys.completions);
        let (bytes, length): (Option<u64>, u64) = link.pipeline(&ask).await?;
        let bytes = bytes.unwrap_or(0).saturating_sub(pending_bytes);
        if bytes <= full || length == 0 {
            break;
        }
        full = max_bytes / 16 * TRIMMED_SIXTEENTHS;
        let kept = u128::from(length) * u128::from(full) / u128::from(bytes);
        let removed: u64 =
            link.query(cmd("XTRIM").arg(&keys.completions).arg("MAXLEN").arg("~").arg(kept.to_string())).await?;
        trimmed.removed += removed;
        forced |= removed > 0;
        if removed == 0 {
            break;
        }
    }
    if forced && let Some(read) = slowest {
        let first: Vec<(String, Vec<String>)> =
            link.query(cmd("XRANGE").arg(&keys.completions).arg("-").arg("+").arg("COUNT").arg(1)).await?;
        trimmed.past_readers =
            first.first().and_then(|(id, _)| id.parse::<EntryId>().ok()).is_some_and(|first| first > read);
    }
    Ok(trimmed)
}

/// A consumer group that reads completions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaderGroup {
    /// The name of the group.
    pub name: String,
    /// How far the group has read *and* acknowledged: the first entry that it has not acknowledged, else the last one
    /// it received.
    pub read: EntryId,
    /// Whether `read` itself is acknowledged.
    acknowledged: bool,
    /// Number of entries that the group received and has not acknowledged.
    pending: u64,
}

/// Returns the reader groups of a completion stream. Bounded by their number.
pub async fn reader_groups(link: &mut Link, stream: &str) -> RedisResult<Vec<ReaderGroup>> {
    let groups: RedisResult<Vec<std::collections::HashMap<String, Value>>> =
        link.query(cmd("XINFO").arg("GROUPS").arg(stream)).await;
    let groups = match groups {
        Ok(groups) => groups,
        // There are no completions yet.
        Err(error) if error.code() == Some("ERR") => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut readers = Vec::with_capacity(groups.len());
    for group in groups {
        let Some(name) = group.get("name").and_then(text) else { continue };
        let id = |value: Option<&Value>| value.and_then(text).and_then(|id| id.parse::<EntryId>().ok());
        let given = id(group.get("last-delivered-id"));
        let pending: Value = link.query(cmd("XPENDING").arg(stream).arg(name)).await?;
        let summary = if let Value::Array(summary) = pending { summary } else { Vec::new() };
        let open = id(summary.get(1));
        let pending = match summary.first() {
            Some(Value::Int(pending)) => u64::try_from(*pending).unwrap_or(0),
            _ => 0,
        };
        if let Some(read) = given.into_iter().chain(open).min() {
            readers.push(ReaderGroup {
                name: name.to_owned(),
                read,
                acknowledged: open.is_none_or(|open| open > read),
                pending,
            });
        }
    }
    Ok(readers)
}

/// Returns the oldest completion that a group has not read or not acknowledged. `None` if there is none.
pub async fn oldest_unread(link: &mut Link, stream: &str, group: &ReaderGroup) -> RedisResult<Option<EntryId>> {
    let from = if group.acknowledged { format!("({}", group.read) } else { group.read.to_string() };
    let first: Vec<(String, Vec<String>)> =
        link.query(cmd("XRANGE").arg(stream).arg(from).arg("+").arg("COUNT").arg(1)).await?;
    Ok(first.first().and_then(|(id, _)| id.parse().ok()))
}

/// Removes dead letters, and the records of edited ones, older than `retention`. Returns the number of dead letters
/// removed.
pub async fn trim_dead(link: &mut Link, keys: &Keys, retention: Duration) -> RedisResult<u64> {
    let now_ms = now_ms(link).await?;
    let retention_ms = millis(retention);
    let oldest = EntryId { ms: now_ms.saturating_sub(retention_ms), seq: 0 }.to_string();
    let mut trims = pipe();
    for stream in [&keys.dead, &keys.edits] {
        trims.cmd("XTRIM").arg(stream).arg("MINID").arg("~").arg(&oldest);
    }
    let (letters, _): (u64, u64) = link.pipeline(&trims).await?;
    Ok(letters)
}

/// Waits until one replica has everything that this link wrote. Returns the number of replicas that have it. `WAIT`
/// blocks only this connection.
pub async fn wait_for_replica(link: &mut Link, most: Duration) -> RedisResult<u64> {
    link.query(cmd("WAIT").arg(1).arg(millis(most))).await
}
