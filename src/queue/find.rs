//! Finding one job, or looking at some, without touching anything. Every function is a bounded step; how many are taken is
//! the caller's choice.

use super::{GROUP, Keys, Link, RawEntry, Source, control::Parked, entry::entries};
use crate::contract::{EntryId, Lane, Origin};
use redis::{RedisResult, Value, cmd, pipe};
use std::collections::{BTreeMap, HashMap};

/// The origin of the job that reserved an id.
pub async fn reserved_by(link: &mut Link, keys: &Keys, id: &str) -> RedisResult<Option<Origin>> {
    let origin: Option<String> = link.query(cmd("GET").arg(keys.id(id))).await?;
    // The latest stands first.
    Ok(origin.and_then(|origins| origins.split(' ').next()?.parse().ok()))
}

/// A parked job, and until when it is, in milliseconds on Redis's clock.
pub async fn parked(link: &mut Link, keys: &Keys, origin: Origin) -> RedisResult<Option<(Parked, u64)>> {
    let name = origin.to_string();
    let mut asked = pipe();
    asked.cmd("ZSCORE").arg(&keys.delayed).arg(&name);
    asked.cmd("HGET").arg(&keys.delayed_jobs).arg(&name);
    let (due_ms, kept): (Option<f64>, Option<Vec<u8>>) = link.pipeline(&asked).await?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time; the cast saturates")]
    let due_ms = due_ms.map(|ms| ms.ceil() as u64);
    Ok(kept.and_then(|kept| Parked::parse(&name, &kept)).zip(due_ms))
}

/// One entry of one of a lane's streams.
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

/// Up to `count` entries of one of a lane's streams, in order, after that one.
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

/// Who has a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// The worker, by its name in the group.
    pub consumer: String,
    /// Since its last sign of life for this delivery, in milliseconds.
    pub idle_ms: u64,
    /// How many times it was delivered.
    pub deliveries: u64,
}

/// Who has that entry; none where nobody has read it.
pub async fn pending(link: &mut Link, stream: &str, id: EntryId) -> RedisResult<Option<Pending>> {
    let id = id.to_string();
    let asked: RedisResult<Vec<(String, String, u64, u64)>> =
        link.query(cmd("XPENDING").arg(stream).arg(GROUP).arg(&id).arg(&id).arg(1)).await;
    match asked {
        Ok(mut rows) => {
            Ok(rows.pop().map(|(_, consumer, idle_ms, deliveries)| Pending { consumer, idle_ms, deliveries }))
        }
        // No worker ever started.
        Err(error) if error.code() == Some("NOGROUP") => Ok(None),
        Err(error) => Err(error),
    }
}

/// The entry of a stream that was read last; none where nothing was.
pub async fn last_read(link: &mut Link, stream: &str) -> RedisResult<Option<EntryId>> {
    let groups: RedisResult<Vec<HashMap<String, Value>>> = link.query(cmd("XINFO").arg("GROUPS").arg(stream)).await;
    let groups = match groups {
        Ok(groups) => groups,
        // No such stream, yet.
        Err(error) if error.code() == Some("ERR") => return Ok(None),
        Err(error) => return Err(error),
    };
    let text = |group: &HashMap<String, Value>, name: &str| {
        group.get(name).and_then(|value| redis::from_redis_value::<String>(value.clone()).ok())
    };
    let group = groups.iter().find(|group| text(group, "name").as_deref() == Some(GROUP));
    Ok(group.and_then(|group| text(group, "last-delivered-id")).and_then(|id| id.parse().ok()))
}

/// A stream's entry as text.
pub type TextEntry = (EntryId, BTreeMap<String, String>);

/// Up to `count` entries of a stream, backwards, before that one. What is not text is left out.
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
