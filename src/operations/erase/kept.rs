//! What is kept of jobs about a customer that have ended.

use super::customer::Matcher;
use crate::{
    contract::EntryId,
    operations::{Backend, Progress},
    queue::{
        Keys,
        erase::{self, MAX_ERASE},
        find,
        list::{self, FIRST_COUNT, next_count},
    },
};
use redis::RedisResult;
use std::collections::BTreeSet;

/// Dead letters and edits that one step reads. Each may hold a job of 64 KiB or two.
const STEP: usize = 100;

/// Maximum number of dead letters that one run erases: their ids are kept in memory, to find their completions.
const MOST_DEAD_LETTERS: usize = 10_000;

/// What is kept of jobs that have ended, by kind.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct KeptCounts {
    pub(super) completions: u64,
    pub(super) replies: u64,
    pub(super) dead_letters: u64,
    pub(super) edits: u64,
}

/// Finds what is kept, and erases it if asked to.
pub(super) struct Kept<'a, 'b> {
    backend: &'a mut Backend<'b>,
    matcher: &'a Matcher<'a>,
    progress: &'a dyn Progress,
    deletes: bool,
    pub(super) found: KeptCounts,
    pub(super) erased: KeptCounts,
    /// There are more dead letters.
    pub(super) has_more: bool,
}

impl<'a, 'b> Kept<'a, 'b> {
    pub(super) fn new(
        backend: &'a mut Backend<'b>,
        matcher: &'a Matcher<'a>,
        progress: &'a dyn Progress,
        deletes: bool,
    ) -> Self {
        let (found, erased) = (KeptCounts::default(), KeptCounts::default());
        Self { backend, matcher, progress, deletes, found, erased, has_more: false }
    }

    /// Goes through all partitions. `ids` are those of jobs about the customer that had not ended.
    pub(super) async fn run(&mut self, ids: impl Iterator<Item = String>) -> RedisResult<()> {
        let mut ids: BTreeSet<String> = ids.collect();
        for keys in self.backend.keys() {
            let letters = self.dead_letters(&keys, &mut ids).await?;
            self.completions(&keys, &ids).await?;
            self.edits(&keys).await?;
            // Last: after an interruption, the next run finds the ids of the completions here again.
            if self.deletes {
                for step in letters.chunks(MAX_ERASE) {
                    self.erased.dead_letters += erase::delete_entries(&mut self.backend.link, &keys.dead, step).await?;
                }
            }
        }
        Ok(())
    }

    /// Finds the dead letters, and adds the ids of their jobs.
    async fn dead_letters(&mut self, keys: &Keys, ids: &mut BTreeSet<String>) -> RedisResult<Vec<EntryId>> {
        let (mut letters, mut before) = (Vec::new(), None);
        loop {
            let page = find::page_back(&mut self.backend.link, &keys.dead, before, STEP).await?;
            let Some((last, _)) = page.last() else { return Ok(letters) };
            before = Some(*last);
            self.progress.advance(u64::try_from(page.len()).unwrap_or(0));
            for (entry, mut fields) in page {
                let id = fields.remove("id").unwrap_or_default();
                let text = |name: &str| fields.get(name).map_or("", String::as_str).as_bytes();
                let is_named = ids.contains(&id) || self.matcher.is_named(&id);
                if !is_named && !["job", "error"].into_iter().any(|name| self.matcher.fits(text(name))) {
                    continue;
                }
                self.found.dead_letters += 1;
                if letters.len() < MOST_DEAD_LETTERS {
                    letters.push(entry);
                    ids.extend(Some(id).filter(|id| !id.is_empty()));
                } else {
                    self.has_more = true;
                }
            }
        }
    }

    /// Completions that name the customer, and those of the jobs with these ids, each with its reply.
    async fn completions(&mut self, keys: &Keys, ids: &BTreeSet<String>) -> RedisResult<()> {
        let (mut before, mut count) = (None, FIRST_COUNT);
        loop {
            let page = list::completions_page(&mut self.backend.link, keys, before, count).await?;
            let Some(last) = page.last() else { return Ok(()) };
            before = Some(last.entry);
            self.progress.advance(u64::try_from(page.len()).unwrap_or(0));
            count = next_count(page.iter().map(|completion| completion.event.len() + 200).sum(), page.len());
            let named = page.into_iter().filter(|completion| {
                let id = &completion.id;
                ids.contains(id) || self.matcher.is_named(id) || self.matcher.fits(&completion.event)
            });
            let (entries, named): (Vec<EntryId>, Vec<String>) =
                named.map(|completion| (completion.entry, completion.id)).unzip();
            self.found.completions += u64::try_from(entries.len()).unwrap_or(0);
            let link = &mut self.backend.link;
            for (entries, named) in entries.chunks(MAX_ERASE).zip(named.chunks(MAX_ERASE)) {
                if self.deletes {
                    // The reply first: without its completion, the next run would not find it.
                    let replies = erase::delete_replies(link, keys, named).await?;
                    self.found.replies += replies;
                    self.erased.replies += replies;
                    self.erased.completions += erase::delete_entries(link, &keys.completions, entries).await?;
                } else {
                    self.found.replies += erase::count_replies(link, keys, named).await?;
                }
            }
        }
    }

    /// Jobs before and after an operator edited them.
    async fn edits(&mut self, keys: &Keys) -> RedisResult<()> {
        let mut before = None;
        loop {
            let page = find::page_back(&mut self.backend.link, &keys.edits, before, STEP).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            before = Some(*last);
            let is_named = |fields: &std::collections::BTreeMap<String, String>| {
                ["job", "original"]
                    .into_iter()
                    .filter_map(|name| fields.get(name))
                    .any(|job| self.matcher.fits(job.as_bytes()))
            };
            let entries: Vec<EntryId> =
                page.iter().filter(|(_, fields)| is_named(fields)).map(|(entry, _)| *entry).collect();
            self.found.edits += u64::try_from(entries.len()).unwrap_or(0);
            if self.deletes {
                self.erased.edits += erase::delete_entries(&mut self.backend.link, &keys.edits, &entries).await?;
            }
        }
    }
}
