//! Completions as they lie in a partition's stream: for who keeps its own place in it.

use super::decode::{self, Completed};
use crate::{
    contract::EntryId,
    queue::{Keys, Link},
};
use redis::{RedisResult, cmd};

/// Up to `count` entries after `after`, without waiting: the last one's id (`None`: there are none), and what of them are
/// completions. `XRANGE` is O(entries read).
pub async fn page(
    link: &mut Link,
    keys: &Keys,
    after: EntryId,
    count: usize,
) -> RedisResult<(Option<EntryId>, Vec<Completed>)> {
    let mut range = cmd("XRANGE");
    range.arg(&keys.completions).arg(format!("({after}")).arg("+").arg("COUNT").arg(count);
    let entries = decode::entries(link.query(&range).await?, keys.partition);
    let last = entries.last().map(|(id, _)| *id);
    Ok((last, entries.into_iter().filter_map(|(_, completed)| completed).collect()))
}
