//! Reading a lane: what comes back first, then what is new.

use super::{
    GROUP, Keys, Link, RawEntry, Source,
    entry::{entries, text},
};
use crate::contract::Lane;
use redis::{Cmd, RedisResult, Value, cmd};
use std::time::Duration;

/// How much longer than it was to take a read may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reads up to `count` entries of each of a lane's two streams for `consumer`; with `block`, waits that long for the
/// first (then `link` must be a blocking one).
///
/// `XREADGROUP` is O(entries read). What a lost reply delivered stays pending, and is taken over after the lease.
pub async fn read_lane(
    link: &mut Link,
    keys: &Keys,
    lane: Lane,
    consumer: &str,
    count: usize,
    block: Option<Duration>,
) -> RedisResult<Vec<RawEntry>> {
    let mut command = cmd("XREADGROUP");
    command.arg("GROUP").arg(GROUP).arg(consumer).arg("COUNT").arg(count.max(1));
    if let Some(block) = block {
        command.arg("BLOCK").arg(u64::try_from(block.as_millis()).unwrap_or(u64::MAX).max(1));
    }
    command.arg("STREAMS").arg(keys.due(lane)).arg(keys.jobs(lane)).arg(">").arg(">");
    let reply = in_time(link, &command, block.unwrap_or_default()).await?;
    let mut read = Vec::new();
    let Value::Array(streams) = reply else { return Ok(read) };
    for stream in streams {
        let Value::Array(mut pair) = stream else { continue };
        let (Some(list), Some(name)) = (pair.pop(), pair.pop()) else { continue };
        let source = if text(&name) == Some(keys.due(lane)) { Source::Due } else { Source::Jobs };
        entries(list, lane, source, &mut read);
    }
    Ok(read)
}

/// A blocking connection has no timeout of its own: a server that died without a word must not hold us for ever.
async fn in_time(link: &mut Link, command: &Cmd, block: Duration) -> RedisResult<Value> {
    if let Ok(reply) = tokio::time::timeout(block + PATIENCE, link.query(command)).await {
        return reply;
    }
    link.reset();
    Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer to a read").into())
}

/// Whether Redis takes what a reader sends: a write that changes nothing, refused by a replica and not by a full Redis. O(1).
pub async fn probe(link: &mut Link, keys: &Keys) -> RedisResult<()> {
    let stream = keys.jobs(Lane::Interactive);
    in_time(link, cmd("XACK").arg(stream).arg(GROUP).arg("0-0"), Duration::ZERO).await.map(|_| ())
}

/// Creates the group on all of a partition's job streams, from the beginning, where it is missing. O(1) each.
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
