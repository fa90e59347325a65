//! Reads jobs page by page, for lists. Every function is one bounded step: the caller keeps the position between two steps.

use super::{Keys, Link, rules::DelayedJob};
use crate::contract::{EntryId, Origin};
use redis::{RedisResult, cmd};

/// Approximate size in bytes of one page of a list.
const PAGE_BYTES: usize = 1 << 20;

/// Number of entries of the first page, whose size is not known yet.
pub const FIRST_COUNT: usize = 100;

/// How many entries the next page may have, after a page of `entries` entries with `bytes` bytes in all.
pub fn next_count(bytes: usize, entries: usize) -> usize {
    (PAGE_BYTES / (bytes / entries.max(1)).max(1)).clamp(10, 1000)
}

/// The position of a job in the order of the delayed jobs: by due time, then by origin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DelayedPosition {
    /// The score in `delayed`: when the job is due, in milliseconds on Redis's clock.
    pub score: f64,
    /// Where the job was first enqueued.
    pub origin: Origin,
    /// The number of delayed jobs up to this one, when it was read. It may have changed since.
    pub rank: u64,
}

/// Returns up to `count` delayed jobs in the order in which they are due, starting after `after`. A job without content has
/// moved meanwhile. O(log(delayed jobs)²) to find the position.
pub async fn delayed_page(
    link: &mut Link,
    keys: &Keys,
    after: Option<DelayedPosition>,
    count: usize,
) -> RedisResult<Vec<(DelayedPosition, Option<DelayedJob>)>> {
    let from = match after {
        Some(after) => rank_after(link, keys, after).await?,
        None => 0,
    };
    let members = members(link, keys, from, u64::try_from(count).unwrap_or(u64::MAX)).await?;
    if members.is_empty() {
        return Ok(Vec::new());
    }
    let mut command = cmd("HMGET");
    command.arg(&keys.delayed_jobs);
    for (origin, _) in &members {
        command.arg(origin);
    }
    let contents: Vec<Option<Vec<u8>>> = link.query(&command).await?;
    let jobs = members.into_iter().zip(contents).zip(from + 1..);
    Ok(jobs
        .filter_map(|(((name, score), content), rank)| {
            let position = DelayedPosition { score, origin: name.parse().ok()?, rank };
            Some((position, content.and_then(|content| DelayedJob::parse(&name, &content))))
        })
        .collect())
}

/// Members of `delayed` with their scores, by rank.
async fn members(link: &mut Link, keys: &Keys, from: u64, count: u64) -> RedisResult<Vec<(String, f64)>> {
    let to = from.saturating_add(count).saturating_sub(1);
    link.query(cmd("ZRANGE").arg(&keys.delayed).arg(from).arg(to).arg("WITHSCORES")).await
}

/// The rank of the first delayed job after a position. Jobs before it may have left since, and the job there, too.
async fn rank_after(link: &mut Link, keys: &Keys, after: DelayedPosition) -> RedisResult<u64> {
    let name = after.origin.to_string();
    let is_after = |member: &(String, f64)| (member.1, member.0.as_str()) > (after.score, name.as_str());
    if let Some(last) = after.rank.checked_sub(1) {
        let around = members(link, keys, last, 1).await?;
        if around.first().is_some_and(|(origin, score)| *origin == name && score.total_cmp(&after.score).is_eq()) {
            return Ok(after.rank);
        }
    }
    let (mut low, mut high): (u64, u64) = (0, link.query(cmd("ZCARD").arg(&keys.delayed)).await?);
    while low < high {
        let middle = low + (high - low) / 2;
        if members(link, keys, middle, 1).await?.first().is_none_or(is_after) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Ok(low)
}

/// A completion as it stands in the stream.
#[derive(Debug)]
pub struct CompletionEntry {
    /// The stream entry.
    pub entry: EntryId,
    /// The id of the job.
    pub id: String,
    /// The job type; empty if a rejected job had none.
    pub job_type: String,
    /// The status.
    pub status: String,
    /// The completion's JSON; empty if the entry is not a completion.
    pub event: Vec<u8>,
}

/// Returns up to `count` completions of a partition, the newest first, starting before the entry `before`.
pub async fn completions_page(
    link: &mut Link,
    keys: &Keys,
    before: Option<EntryId>,
    count: usize,
) -> RedisResult<Vec<CompletionEntry>> {
    let from = before.map_or_else(|| "+".to_owned(), |id| format!("({id}"));
    let list: Vec<(String, Vec<Vec<u8>>)> =
        link.query(cmd("XREVRANGE").arg(&keys.completions).arg(from).arg("-").arg("COUNT").arg(count)).await?;
    Ok(list.into_iter().filter_map(|(entry, fields)| Some(completion(entry.parse().ok()?, fields))).collect())
}

fn completion(entry: EntryId, fields: Vec<Vec<u8>>) -> CompletionEntry {
    let (mut id, mut job_type, mut status, mut event) = (String::new(), String::new(), String::new(), Vec::new());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap_or_default();
    let mut fields = fields.into_iter();
    while let (Some(name), Some(content)) = (fields.next(), fields.next()) {
        match name.as_slice() {
            b"id" => id = text(content),
            b"type" => job_type = text(content),
            b"status" => status = text(content),
            b"event" => event = content,
            _ => {}
        }
    }
    CompletionEntry { entry, id, job_type, status, event }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_about_a_mebibyte() {
        assert_eq!([next_count(0, 0), next_count(60_000, 100), next_count(50_000_000, 100)], [1000, 1000, 10]);
        assert_eq!(next_count(1_000_000, 100), 104);
    }

    #[test]
    fn an_entry_that_is_no_completion_has_no_event() {
        let fields = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>();
        let entry = EntryId { ms: 5, seq: 1 };
        assert!(completion(entry, fields(&["id", "a", "odd"])).event.is_empty());
        let read = completion(entry, fields(&["id", "a", "type", "CheckUser", "status", "failed", "event", "{}"]));
        assert_eq!((read.id.as_str(), read.status.as_str(), read.event), ("a", "failed", b"{}".to_vec()));
    }
}
