//! Reads completions from Redis that are older than the ring.

use super::ring::{HubCompletion, Item};
use crate::{
    completions::{Filter, decode, gap::Position},
    contract::EntryId,
    queue::{Keys, Link},
};
use redis::{RedisResult, cmd};
use std::sync::Arc;

/// Entries in one page.
const PAGE: usize = 64;

/// A feed's way to the entries of all partitions that it has not read yet.
#[derive(Debug)]
pub(super) struct CatchUp {
    link: Link,
    /// What is known of each partition, to find gaps.
    positions: Vec<Position>,
}

/// What one page holds for the feed.
#[derive(Debug)]
pub(super) struct FeedPage {
    pub(super) items: Vec<Item>,
    /// The last entry read. `None` if there is nothing left.
    pub(super) last: Option<EntryId>,
}

impl CatchUp {
    pub(super) fn new(link: Link, partitions: usize) -> Self {
        Self { link, positions: vec![Position::default(); partitions] }
    }

    /// Reads the page after `after`. If the future is dropped, nothing has changed.
    pub(super) async fn page(&mut self, keys: &Keys, after: EntryId, filter: &Filter) -> RedisResult<FeedPage> {
        let partition = keys.partition;
        let index = usize::from(partition);
        let mut position = self.positions.get(index).copied().unwrap_or_default();
        let before = crate::completions::extent(&mut self.link, keys).await?;
        let mut is_gap = position.look(partition, after, &before).is_some();
        let mut range = cmd("XRANGE");
        range.arg(&keys.completions).arg(format!("({after}")).arg("+").arg("COUNT").arg(PAGE);
        let entries = decode::entries(self.link.query(&range).await?, partition);
        let ids: Vec<EntryId> = entries.iter().map(|(entry, _)| *entry).collect();
        let extent = crate::completions::extent(&mut self.link, keys).await?;
        is_gap |= position.advance(partition, after, &ids, &extent).is_some();
        let mut items = Vec::new();
        if is_gap {
            let end = EntryId { ms: extent.last.ms, seq: extent.last.seq.saturating_add(1) };
            let lost_before = ids.first().copied().or(extent.first).unwrap_or(end);
            items.push(Item::Gap { partition, lost_before });
        }
        let wanted = entries.into_iter().filter_map(|(_, completed)| completed.filter(|found| filter.wants(found)));
        items.extend(wanted.map(|completed| Item::Completion(Arc::new(HubCompletion::new(completed)))));
        if let Some(known) = self.positions.get_mut(index) {
            *known = position;
        }
        Ok(FeedPage { items, last: ids.last().copied() })
    }
}
