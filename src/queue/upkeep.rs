//! What keeps a partition healthy: promotion, leases, taking over, trimming, figures. Each function is one round trip or
//! a bounded few; the loops around them are the worker's housekeeper.

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

static PROMOTE: LazyLock<Script> = LazyLock::new(|| script!("promote" on "atomic" on "limiter" on "order"));
static HEADS: LazyLock<Script> = LazyLock::new(|| script!("heads"));
static RETIRE: LazyLock<Script> = LazyLock::new(|| script!("retire"));

/// The most jobs one promotion moves.
pub const MAX_PROMOTE: usize = 500;

/// What a promotion did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promotion {
    /// Jobs moved back to their lanes.
    pub promoted: usize,
    /// Until the next is due.
    pub next_due: Option<Duration>,
    /// Jobs still parked.
    pub parked: u64,
    /// Jobs promoted whose state could not be read: they are rejected in their lane.
    pub unreadable: u64,
    /// Why jobs could not be promoted.
    pub failures: Vec<ScriptFailure>,
}

/// Moves parked jobs whose time has come back to their lanes, and bulk jobs that there is room for in the `shared` buckets:
/// [`MAX_PROMOTE`] at most of each kind.
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
    let (promoted, next_ms, parked, unreadable, reasons): (usize, i64, u64, u64, Vec<String>) =
        redis::from_redis_value(PROMOTE.run(link, &call).await?)?;
    Ok(Promotion {
        promoted,
        next_due: u64::try_from(next_ms).ok().map(Duration::from_millis),
        parked,
        unreadable,
        failures: reasons.iter().map(|why| ScriptFailure::new(PROMOTE.name(), why)).collect(),
    })
}

/// A partition's lane, in figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Entries in both streams.
    pub entries: u64,
    /// Of these, delivered and not ended.
    pub in_flight: u64,
    /// Age of the oldest.
    pub oldest: Duration,
}

/// The first entry of each of these streams of one partition. One round trip; no entry is sent.
pub(super) async fn heads(link: &mut Link, streams: &[&str]) -> RedisResult<Vec<Option<EntryId>>> {
    let mut call = HEADS.call(streams.len());
    for stream in streams {
        call.arg(stream);
    }
    let ids: Vec<String> = redis::from_redis_value(HEADS.run(link, &call).await?)?;
    Ok(ids.iter().map(|id| id.parse().ok()).collect())
}

/// A lane's figures. O(1).
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

/// Bulk jobs that wait in the queue of a shared bucket. O(1).
pub async fn queued(link: &mut Link, keys: &Keys, bucket: SharedBucket) -> RedisResult<u64> {
    link.query(cmd("ZCARD").arg(keys.waiting(bucket))).await
}

/// Consumers of a stream that have nothing pending and have been silent for `idle`: removed. Bounded by the group's size.
pub async fn retire_idle(link: &mut Link, stream: &str, idle: Duration) -> RedisResult<usize> {
    let listed: RedisResult<Vec<std::collections::HashMap<String, Value>>> =
        link.query(cmd("XINFO").arg("CONSUMERS").arg(stream).arg(GROUP)).await;
    let consumers = match listed {
        Ok(consumers) => consumers,
        // No such stream, yet.
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

/// What trimming the completions did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// Completions removed.
    pub removed: u64,
    /// The byte budget went past a group that had not read them.
    pub past_readers: bool,
}

/// How large the completions may grow, and what one trim removes down to, in sixteenths of `max_bytes`: what is written
/// between two looks must fit as well.
const FULL_SIXTEENTHS: u64 = 15;
const TRIMMED_SIXTEENTHS: u64 = 14;

/// A worker looks again when it has written this part of `max_bytes`.
pub const LOOK_AFTER_PART: u64 = 64;

/// What an entry on a reader group's pending list takes: `MEMORY USAGE` counts that too, and trimming does not free it.
const PENDING_BYTES: u64 = 600;

/// `XTRIM` with `~` removes 10,000 entries at most; one trim repeats it this many times at most.
const MOST_TRIMS: usize = 1000;

/// Trims the completions by age, never past the slowest reader group; and by `max_bytes`, which goes past it if it must.
/// Each command is short; together they go on until the bounds are met.
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

/// A group that reads completions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaderGroup {
    /// Its name.
    pub name: String,
    /// Up to where it has read *and* acknowledged: the first that it has not acknowledged, else the last it was given.
    pub read: EntryId,
    /// Whether `read` itself is acknowledged.
    acknowledged: bool,
    /// How many it was given and has not acknowledged.
    pending: u64,
}

/// The groups of a completion stream. Bounded by their number.
pub async fn reader_groups(link: &mut Link, stream: &str) -> RedisResult<Vec<ReaderGroup>> {
    let groups: RedisResult<Vec<std::collections::HashMap<String, Value>>> =
        link.query(cmd("XINFO").arg("GROUPS").arg(stream)).await;
    let groups = match groups {
        Ok(groups) => groups,
        // No completions yet.
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

/// The oldest completion that a group has not read or not acknowledged; `None` where it has them all.
pub async fn oldest_unread(link: &mut Link, stream: &str, group: &ReaderGroup) -> RedisResult<Option<EntryId>> {
    let from = if group.acknowledged { format!("({}", group.read) } else { group.read.to_string() };
    let first: Vec<(String, Vec<String>)> =
        link.query(cmd("XRANGE").arg(stream).arg(from).arg("+").arg("COUNT").arg(1)).await?;
    Ok(first.first().and_then(|(id, _)| id.parse().ok()))
}

/// Removes dead letters, and what was kept of edited ones, older than `retention`; how many letters.
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

/// Waits until a replica has what this link wrote; tells how many have. `WAIT` holds up this connection alone.
pub async fn wait_for_replica(link: &mut Link, most: Duration) -> RedisResult<u64> {
    link.query(cmd("WAIT").arg(1).arg(millis(most))).await
}
