//! Reads a partition's completions page by page, for a caller that stores its own position.

use super::decode::{self, Completed};
use crate::{
    contract::EntryId,
    queue::{Keys, Link},
};
use redis::{RedisResult, cmd};

/// One page of a partition's stream.
#[derive(Debug)]
pub struct Page {
    /// Id of the last entry; `None` if the page is empty.
    pub last: Option<EntryId>,
    /// Number of entries. Any program can write to a stream, so some of them may not be completions.
    pub entries: usize,
    /// The entries that are completions.
    pub completed: Vec<Completed>,
}

/// Reads up to `count` entries after `after`, without waiting. `XRANGE` is O(entries read). Fails if Redis fails.
pub async fn page(link: &mut Link, keys: &Keys, after: EntryId, count: usize) -> RedisResult<Page> {
    let mut range = cmd("XRANGE");
    range.arg(&keys.completions).arg(format!("({after}")).arg("+").arg("COUNT").arg(count);
    let entries = decode::entries(link.query(&range).await?, keys.partition);
    Ok(Page {
        last: entries.last().map(|(id, _)| *id),
        entries: entries.len(),
        completed: entries.into_iter().filter_map(|(_, completed)| completed).collect(),
    })
}
