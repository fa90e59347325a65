//! The completions that are kept now, in the order of time, without waiting for more.

use super::{Backend, Error};
use crate::{
    completions::{Completed, Filter, extent, page},
    contract::EntryId,
};
use std::collections::VecDeque;

/// Entries read from one partition at a time.
const PAGE: usize = 256;

/// Reads the completions that were there when it was made, page by page, and then ends.
#[derive(Debug)]
pub struct KeptCompletions {
    partitions: Vec<Partition>,
    filter: Filter,
}

/// What is left of one partition's stream.
#[derive(Debug)]
struct Partition {
    number: u16,
    after: EntryId,
    last: EntryId,
    read: VecDeque<Completed>,
}

impl Partition {
    fn has_more(&self) -> bool {
        self.after < self.last
    }
}

impl KeptCompletions {
    /// The completions that match `filter`, after the entry `after` of each partition; `None`: from the oldest on.
    ///
    /// # Errors
    /// [`Error::Redis`].
    pub async fn start(backend: &mut Backend<'_>, after: Option<EntryId>, filter: Filter) -> Result<Self, Error> {
        let mut partitions = Vec::new();
        for keys in backend.keys() {
            let failed = backend.failed();
            let last = extent(&mut backend.link, &keys).await.map_err(failed)?.last;
            let after = after.unwrap_or(EntryId { ms: 0, seq: 0 });
            partitions.push(Partition { number: keys.partition, after, last, read: VecDeque::new() });
        }
        Ok(Self { partitions, filter })
    }

    /// The next completion; `None` at the end. Holds at most 256 completions of each partition.
    ///
    /// # Errors
    /// [`Error::Redis`].
    pub async fn next(&mut self, backend: &mut Backend<'_>) -> Result<Option<Completed>, Error> {
        for partition in &mut self.partitions {
            while partition.read.is_empty() && partition.has_more() {
                let (keys, failed) = (backend.keys_of(partition.number), backend.failed());
                let page = page(&mut backend.link, &keys, partition.after, PAGE).await.map_err(failed)?;
                // Without a last entry, the rest was trimmed in the meantime.
                partition.after = page.last.unwrap_or(partition.last);
                let last = partition.last;
                let wanted = |completed: &Completed| completed.entry_id <= last && self.filter.wants(completed);
                partition.read.extend(page.completed.into_iter().filter(wanted));
            }
        }
        let oldest = self.partitions.iter_mut().filter(|partition| !partition.read.is_empty());
        let oldest = oldest.min_by_key(|partition| partition.read.front().map(|completed| completed.entry_id));
        Ok(oldest.and_then(|partition| partition.read.pop_front()))
    }
}
