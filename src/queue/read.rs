//! Reading a lane: what comes back first, then what is new.

use super::{
    GROUP, Keys, Link, RawEntry, Source,
    entry::{entries, text},
};
use crate::contract::Lane;
use redis::{RedisResult, Value, cmd};
use std::time::Duration;

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
    // A blocking connection has no timeout of its own: a server that died without a word must not hold us for ever.
    let patience = block.unwrap_or_default() + Duration::from_secs(5);
    let Ok(reply) = tokio::time::timeout(patience, link.query(&command)).await else {
        link.reset();
        return Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer to a read").into());
    };
    let reply = reply?;
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

/// Creates the group on all of a partition's job streams, from the beginning, where it is missing. O(1) each.
pub async fn ensure_group(link: &mut Link, keys: &Keys) -> RedisResult<()> {
    for lane in Lane::ALL {
        for stream in [keys.due(lane), keys.jobs(lane)] {
            let created: RedisResult<Value> =
                link.query(cmd("XGROUP").arg("CREATE").arg(stream).arg(GROUP).arg("0").arg("MKSTREAM")).await;
            match created {
                Ok(_) => {}
                Err(error) if error.code() == Some("BUSYGROUP") => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}
