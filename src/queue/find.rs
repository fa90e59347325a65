//! Finds one job or examines several, without changing anything. Every function is one bounded step, and the caller
//! decides how many steps to take.

use super::{GROUP, Keys, Link, RawEntry, Source, entry::entries, rules::DelayedJob};
use crate::contract::{EntryId, Lane, Origin};
use redis::{RedisResult, Value, cmd, pipe};
use std::collections::{BTreeMap, HashMap};

/// Returns a delayed job, and when it is due in milliseconds on Redis's clock.
pub async fn parked(link: &mut Link, keys: &Keys, origin: Origin) -> RedisResult<Option<(DelayedJob, u64)>> {
    let name = origin.to_string();
    let mut asked = pipe();
    asked.cmd("ZSCORE").arg(&keys.delayed).arg(&name);
    asked.cmd("HGET").arg(&keys.delayed_jobs).arg(&name);
    let (due_ms, kept): (Option<f64>, Option<Vec<u8>>) = link.pipeline(&asked).await?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time; the cast saturates")]
    let due_ms = due_ms.map(|ms| ms.ceil() as u64);
    Ok(kept.and_then(|kept| DelayedJob::parse(&name, &kept)).zip(due_ms))
}

/// Returns one entry of one of a lane's streams.
pub async fn entry(
    link: &mut Link,
    keys: &Keys,
    lane: Lane,
    source: Source,
    id: EntryId,
) -> RedisResult<Option<RawEntry>> {
    let id = id.to_string();
    let list = link.query(cmd("XRANGE").arg(keys.stream(lane, source)).arg(&id).arg(&id)).await?;
    let mut found = Vec::new();
    entries(list, lane, source, &mut found);
    Ok(found.pop())
}

/// Returns up to `count` entries of one of a lane's streams, in order, starting after the entry `after`.
pub async fn page(
    link: &mut Link,
    keys: &Keys,
    lane: Lane,
    source: Source,
    after: Option<EntryId>,
    count: usize,
) -> RedisResult<Vec<RawEntry>> {
    let from = after.map_or_else(|| "-".to_owned(), |id| format!("({id}"));
    let mut range = cmd("XRANGE");
    range.arg(keys.stream(lane, source)).arg(from).arg("+").arg("COUNT").arg(count);
    let mut found = Vec::new();
    entries(link.query(&range).await?, lane, source, &mut found);
    Ok(found)
}

/// The consumer that has a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// The worker's name in the consumer group.
    pub consumer: String,
    /// Time since the worker read this delivery or last renewed it, in milliseconds.
    pub idle_ms: u64,
    /// How many times the entry was delivered.
    pub deliveries: u64,
}

/// Returns the consumer that has an entry. `None` if the entry is not pending.
pub async fn pending(link: &mut Link, stream: &str, id: EntryId) -> RedisResult<Option<Pending>> {
    let id = id.to_string();
    let asked: RedisResult<Vec<(String, String, u64, u64)>> =
        link.query(cmd("XPENDING").arg(stream).arg(GROUP).arg(&id).arg(&id).arg(1)).await;
    match asked {
        Ok(mut rows) => {
            Ok(rows.pop().map(|(_, consumer, idle_ms, deliveries)| Pending { consumer, idle_ms, deliveries }))
        }
        // The group does not exist, because no worker has started yet.
        Err(error) if error.code() == Some("NOGROUP") => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the entry of a stream that was read last. `None` if none was read.
pub async fn last_read(link: &mut Link, stream: &str) -> RedisResult<Option<EntryId>> {
    let groups: RedisResult<Vec<HashMap<String, Value>>> = link.query(cmd("XINFO").arg("GROUPS").arg(stream)).await;
    let groups = match groups {
        Ok(groups) => groups,
        // The stream does not exist yet.
        Err(error) if error.code() == Some("ERR") => return Ok(None),
        Err(error) => return Err(error),
    };
    let text = |group: &HashMap<String, Value>, name: &str| {
        group.get(name).and_then(|value| redis::from_redis_value::<String>(value.clone()).ok())
    };
    let group = groups.iter().find(|group| text(group, "name").as_deref() == Some(GROUP));
    Ok(group.and_then(|group| text(group, "last-delivered-id")).and_then(|id| id.parse().ok()))
}

/// A stream entry, with its fields as text.
pub type TextEntry = (EntryId, BTreeMap<String, String>);

/// Returns up to `count` entries of a stream in reverse order, starting before the entry `before`. Invalid UTF-8 is
/// replaced.
pub async fn page_back(
    link: &mut Link,
    stream: &str,
    before: Option<EntryId>,
    count: usize,
) -> RedisResult<Vec<TextEntry>> {
    let from = before.map_or_else(|| "+".to_owned(), |id| format!("({id}"));
    let list: Vec<(String, Vec<Vec<u8>>)> =
        link.query(cmd("XREVRANGE").arg(stream).arg(from).arg("-").arg("COUNT").arg(count)).await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let fields = |flat: Vec<Vec<u8>>| flat.chunks_exact(2).map(|pair| (text(&pair[0]), text(&pair[1]))).collect();
    Ok(list.into_iter().filter_map(|(id, flat)| Some((id.parse().ok()?, fields(flat)))).collect())
}
