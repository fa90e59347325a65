//! Reads a lane: first the jobs that come back, then new jobs.

use super::{
    GROUP, Keys, Link, RawEntry, Source,
    entry::{entries, text},
    script::{Script, script},
};
use crate::contract::{EntryId, Lane, MAX_JOB_BYTES, millis};
use redis::{Cmd, RedisError, RedisResult, Value, cmd};
use std::{collections::HashMap, sync::LazyLock, time::Duration};

static WEIGH: LazyLock<Script> = LazyLock::new(|| script!("deliveries/weigh"));
static READ_CUT: LazyLock<Script> = LazyLock::new(|| script!("deliveries/read_cut"));
static PEEK: LazyLock<Script> = LazyLock::new(|| script!("deliveries/peek"));

/// Maximum number of bytes read from a field. It is more than a job may have, so a job that was cut is rejected as too
/// large.
pub const MAX_FIELD_BYTES: usize = 2 * MAX_JOB_BYTES;

/// Number of nodes at the head of a stream whose size is measured. They contain the jobs in flight and those that are
/// read next.
const WEIGHED_NODES: usize = 128;

/// Maximum size of a node, in bytes, if all its entries have a size that jobs may have.
const MAX_NODE_BYTES: u64 = 2 * MAX_FIELD_BYTES as u64;

/// Maximum number of entries in one read if some are too large, because Redis copies them whole.
const CUT_AT_ONCE: usize = 8;

/// Maximum number of entries in one [`peek`].
const PEEKED_AT_ONCE: usize = 64;

/// How much longer than its blocking time a read may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether the entries at the head of a lane have a size that jobs may have. O(nodes measured), one round trip.
pub async fn is_light(link: &mut Link, keys: &Keys, lane: Lane) -> RedisResult<bool> {
    all_light(run_in_time(&WEIGH, link, &weighing(keys, lane)).await?)
}

fn weighing(keys: &Keys, lane: Lane) -> Cmd {
    let mut call = WEIGH.call(2);
    call.arg(keys.due(lane)).arg(keys.jobs(lane)).arg(WEIGHED_NODES).arg(MAX_NODE_BYTES);
    call
}

fn all_light(weights: Value) -> RedisResult<bool> {
    let weights: Vec<u64> = redis::from_redis_value(weights)?;
    Ok(weights.into_iter().all(|bytes| bytes <= MAX_NODE_BYTES))
}

/// Reads a few entries from each of a lane's two streams, with fields of at most [`MAX_FIELD_BYTES`]. Use it if
/// [`is_light`] returns `false`.
pub async fn read_cut(
    link: &mut Link,
    keys: &Keys,
    lane: Lane,
    consumer: &str,
    count: usize,
) -> RedisResult<Vec<RawEntry>> {
    let mut call = READ_CUT.call(2);
    call.arg(keys.due(lane)).arg(keys.jobs(lane)).arg(consumer).arg(count.clamp(1, CUT_AT_ONCE)).arg(MAX_FIELD_BYTES);
    Ok(of_streams(run_in_time(&READ_CUT, link, &call).await?, keys, lane))
}

/// Returns up to `count` entries (at most 64) of one of a lane's streams, in order, without delivering them: after the entry
/// `after`, up to the entry `last`. Fields have at most [`MAX_FIELD_BYTES`].
pub async fn peek(
    link: &mut Link,
    keys: &Keys,
    (lane, source): (Lane, Source),
    (after, last): (Option<EntryId>, EntryId),
    count: usize,
) -> RedisResult<Vec<RawEntry>> {
    let mut call = PEEK.call(1);
    call.arg(keys.stream(lane, source)).arg(after.map(|id| id.to_string()).unwrap_or_default()).arg(last.to_string());
    call.arg(count.clamp(1, PEEKED_AT_ONCE)).arg(MAX_FIELD_BYTES);
    let mut found = Vec::new();
    entries(run_in_time(&PEEK, link, &call).await?, lane, source, &mut found);
    Ok(found)
}

/// Reads up to `count` entries from each of a lane's two streams for `consumer`. With `block`, waits that long for the
/// first entry; `link` must then be a blocking one.
///
/// `XREADGROUP` is O(entries read). If a reply is lost, its entries stay pending and are taken over after the lease.
pub async fn read_lane(
    link: &mut Link,
    keys: &Keys,
    lane: Lane,
    consumer: &str,
    count: usize,
    block: Option<Duration>,
) -> RedisResult<Vec<RawEntry>> {
    let command = reading(keys, lane, consumer, count, block);
    Ok(of_streams(in_time(link, &command, block.unwrap_or_default()).await?, keys, lane))
}

/// Reads as [`read_lane`] does, without waiting for a first entry. In the same round trip it measures the entries that come
/// next, as [`is_light`] does: `false` if they have a size that no job may have, or if that is not known.
pub async fn read_lane_and_weigh(
    link: &mut Link,
    keys: &Keys,
    lane: Lane,
    consumer: &str,
    count: usize,
) -> RedisResult<(Vec<RawEntry>, bool)> {
    let (command, weighing) = (reading(keys, lane, consumer, count, None), weighing(keys, lane));
    let Ok(replies) = tokio::time::timeout(PATIENCE, link.query_with(&command, &weighing)).await else {
        return Err(too_late(link));
    };
    let (read, weights) = replies?;
    Ok((of_streams(read, keys, lane), weights.and_then(all_light).unwrap_or(false)))
}

fn reading(keys: &Keys, lane: Lane, consumer: &str, count: usize, block: Option<Duration>) -> Cmd {
    let mut command = cmd("XREADGROUP");
    command.arg("GROUP").arg(GROUP).arg(consumer).arg("COUNT").arg(count.max(1));
    if let Some(block) = block {
        command.arg("BLOCK").arg(millis(block).max(1));
    }
    command.arg("STREAMS").arg(keys.due(lane)).arg(keys.jobs(lane)).arg(">").arg(">");
    command
}

/// Waits for one of the jobs that come back to a lane and reads it. New jobs are not read.
pub async fn read_due(
    link: &mut Link,
    keys: &Keys,
    lane: Lane,
    consumer: &str,
    block: Duration,
) -> RedisResult<Vec<RawEntry>> {
    let mut command = cmd("XREADGROUP");
    command.arg("GROUP").arg(GROUP).arg(consumer).arg("COUNT").arg(1);
    command.arg("BLOCK").arg(millis(block).max(1));
    command.arg("STREAMS").arg(keys.due(lane)).arg(">");
    Ok(of_streams(in_time(link, &command, block).await?, keys, lane))
}

/// Like [`read_lane`], for several partitions of one server, with at most one entry from each stream. The result is
/// indexed by the partition's position in `wanted`. With `true` there, no new jobs of that partition are read.
///
/// O(streams) for the call, and O(streams) again when the wait ends.
pub async fn read_lanes(
    link: &mut Link,
    wanted: &[(&Keys, bool)],
    lane: Lane,
    consumer: &str,
    block: Duration,
) -> RedisResult<HashMap<usize, Vec<RawEntry>>> {
    let mut command = cmd("XREADGROUP");
    command.arg("GROUP").arg(GROUP).arg(consumer).arg("COUNT").arg(1);
    command.arg("BLOCK").arg(millis(block).max(1)).arg("STREAMS");
    let mut places = HashMap::with_capacity(wanted.len() * 2);
    for (place, (keys, only_due)) in wanted.iter().enumerate() {
        let streams = [(Source::Due, keys.due(lane)), (Source::Jobs, keys.jobs(lane))];
        for (source, stream) in streams.into_iter().take(if *only_due { 1 } else { 2 }) {
            command.arg(stream);
            places.insert(stream, (place, source));
        }
    }
    for _ in 0..places.len() {
        command.arg(">");
    }
    let mut found: HashMap<usize, Vec<RawEntry>> = HashMap::new();
    if let Value::Array(streams) = in_time(link, &command, block).await? {
        for stream in streams {
            let Value::Array(mut pair) = stream else { continue };
            let (Some(list), Some(name)) = (pair.pop(), pair.pop()) else { continue };
            if let Some((place, source)) = text(&name).and_then(|name| places.get(name)) {
                entries(list, lane, *source, found.entry(*place).or_default());
            }
        }
    }
    Ok(found)
}

/// Returns the entries of an `XREADGROUP` reply.
fn of_streams(reply: Value, keys: &Keys, lane: Lane) -> Vec<RawEntry> {
    let mut read = Vec::new();
    let Value::Array(streams) = reply else { return read };
    for stream in streams {
        let Value::Array(mut pair) = stream else { continue };
        let (Some(list), Some(name)) = (pair.pop(), pair.pop()) else { continue };
        let source = if text(&name) == Some(keys.due(lane)) { Source::Due } else { Source::Jobs };
        entries(list, lane, source, &mut read);
    }
    read
}

/// Runs a command with a timeout. A blocking connection has none, and a server that dies silently must not block the
/// caller for ever.
async fn in_time(link: &mut Link, command: &Cmd, block: Duration) -> RedisResult<Value> {
    if let Ok(reply) = tokio::time::timeout(block + PATIENCE, link.query(command)).await {
        return reply;
    }
    Err(too_late(link))
}

/// Runs a script with a timeout.
async fn run_in_time(script: &Script, link: &mut Link, call: &Cmd) -> RedisResult<Value> {
    if let Ok(reply) = tokio::time::timeout(PATIENCE, script.run(link, call)).await {
        return reply;
    }
    Err(too_late(link))
}

fn too_late(link: &mut Link) -> RedisError {
    link.reset();
    std::io::Error::new(std::io::ErrorKind::TimedOut, "Redis did not answer a read in time").into()
}

/// Tests whether Redis accepts a reader's commands. The test is a write that changes nothing: a replica refuses it, a
/// full Redis does not. O(1).
pub async fn probe(link: &mut Link, keys: &Keys) -> RedisResult<()> {
    let stream = keys.jobs(Lane::Interactive);
    in_time(link, cmd("XACK").arg(stream).arg(GROUP).arg("0-0"), Duration::ZERO).await.map(|_| ())
}

/// Creates the missing consumer groups on a partition's job streams, starting from the beginning of each stream. O(1)
/// each.
pub async fn ensure_group(link: &mut Link, keys: &Keys) -> RedisResult<()> {
    for lane in Lane::ALL {
        for stream in [keys.due(lane), keys.jobs(lane)] {
            let mut create = cmd("XGROUP");
            create.arg("CREATE").arg(stream).arg(GROUP).arg("0").arg("MKSTREAM");
            match in_time(link, &create, Duration::ZERO).await {
                Ok(_) => {}
                Err(error) if error.code() == Some("BUSYGROUP") => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}
