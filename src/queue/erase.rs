//! Deletes what completions, dead letters and replies hold of a customer. Every function is one bounded step.

use super::{Keys, Link};
use crate::contract::EntryId;
use redis::{RedisResult, cmd, pipe};

/// Maximum number of entries or reply lists in one step.
pub const MAX_ERASE: usize = 500;

/// Deletes entries of a stream. Returns how many of them existed. O(entries).
pub async fn delete_entries(link: &mut Link, stream: &str, entries: &[EntryId]) -> RedisResult<u64> {
    if entries.is_empty() {
        return Ok(0);
    }
    let mut delete = cmd("XDEL");
    delete.arg(stream);
    for entry in entries {
        delete.arg(entry.to_string());
    }
    link.query(&delete).await
}

/// Returns how many of these jobs have a reply that nobody has read. O(ids), one round trip.
pub async fn count_replies(link: &mut Link, keys: &Keys, ids: &[String]) -> RedisResult<u64> {
    if ids.is_empty() {
        return Ok(0);
    }
    let mut asked = pipe();
    for id in ids {
        asked.cmd("TYPE").arg(keys.reply(id));
    }
    let kinds: Vec<String> = link.pipeline(&asked).await?;
    Ok(kinds.iter().filter(|kind| *kind == "list").map(|_| 1).sum())
}

/// Deletes the replies of these jobs. Returns how many existed. O(ids), one round trip.
pub async fn delete_replies(link: &mut Link, keys: &Keys, ids: &[String]) -> RedisResult<u64> {
    if ids.is_empty() {
        return Ok(0);
    }
    // One key a command: that is a slot of a cluster in any case.
    let mut delete = pipe();
    for id in ids {
        delete.cmd("DEL").arg(keys.reply(id));
    }
    let deleted: Vec<u64> = link.pipeline(&delete).await?;
    Ok(deleted.iter().sum())
}
