//! Completions as they lie in a partition's stream: for who keeps its own place in it.

use super::decode::{self, Completed};
use crate::{
    contract::EntryId,
    queue::{Keys, Link},
};
use redis::{RedisResult, cmd};

/// What was read at once.
#[derive(Debug)]
pub struct Page {
    /// The last entry; none where there was none.
    pub last: Option<EntryId>,
    /// How many entries there were: anybody can write to a stream, and not all need be completions.
    pub entries: usize,
    /// Those that are.
    pub completed: Vec<Completed>,
}

/// Up to `count` entries after `after`, without waiting. `XRANGE` is O(entries read).
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
