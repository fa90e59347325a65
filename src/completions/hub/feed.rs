//! One follower of the completions.

use super::{
    catch_up::CatchUp,
    cursor::FeedCursor,
    ring::{HubCompletion, Item},
    shared::{ReaderTask, Shared},
};
use crate::{
    completions::Filter,
    contract::EntryId,
    net::Backoff,
    queue::{QueueError, is_transient},
};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::sync::watch;

/// Maximum number of completions that a feed has not taken yet.
const MAX_WAITING: usize = 256;
/// Maximum size of the completions that a feed has not taken yet, in bytes of their JSON. One is taken in any case.
const MAX_WAITING_BYTES: usize = 1 << 20;
/// Items looked at before the ring is unlocked.
const LOOK: usize = 64;
/// Delays between attempts to read a page.
const FIRST_DELAY: Duration = Duration::from_millis(50);
const LONGEST_DELAY: Duration = Duration::from_millis(1600);

/// What a feed reports.
#[derive(Debug, Clone)]
pub enum FeedEvent {
    /// A completion that matches the filter.
    Completion {
        /// Continues after this completion.
        cursor: FeedCursor,
        /// The completion.
        completion: Arc<HubCompletion>,
    },
    /// Completions may have been trimmed before this feed read them.
    Gap {
        /// The partition of the completions.
        partition: u16,
        /// The first entry after the gap.
        lost_before: EntryId,
    },
    /// Too many completions wait to be taken, and the feed has ended. It reports nothing else from now on.
    TooSlow {
        /// Continues where this feed ended.
        resume: FeedCursor,
    },
}

/// Follows the completions that match a filter. First it reads from Redis, page by page, as fast as they are taken; then
/// it follows the hub. Completions of one partition come in order, and each comes once.
///
/// When it follows the hub, at most 256 completions or 1 MiB wait to be taken; then it reports
/// [`FeedEvent::TooSlow`] and ends. Dropping a feed ends it.
#[derive(Debug)]
pub struct Feed {
    shared: Arc<Shared>,
    end: watch::Receiver<Option<u64>>,
    filter: Filter,
    /// By partition: everything up to here was returned or does not match.
    returned: Vec<EntryId>,
    /// By partition: everything up to here was looked at.
    looked: Vec<EntryId>,
    waiting: VecDeque<Item>,
    catch_up: CatchUp,
    stage: Stage,
    /// Delays after failed attempts to read a page.
    backoff: Backoff,
    _task: Arc<ReaderTask>,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    /// Reads from Redis. `partition` is the next one to look at.
    CatchingUp {
        partition: usize,
    },
    /// Reads the ring from item `next`. `live` once it has reached the end of the ring.
    Following {
        next: u64,
        live: bool,
    },
    Ended,
}

impl Feed {
    pub(super) fn new(shared: Arc<Shared>, task: Arc<ReaderTask>, after: Vec<EntryId>, filter: Filter) -> Self {
        Self {
            end: shared.end.subscribe(),
            filter,
            returned: after.clone(),
            catch_up: CatchUp::new(shared.link(), after.len()),
            looked: after,
            waiting: VecDeque::new(),
            stage: Stage::CatchingUp { partition: 0 },
            backoff: Backoff::new(FIRST_DELAY, LONGEST_DELAY),
            shared,
            _task: task,
        }
    }

    /// Continues after the last event that [`next`](Self::next) returned.
    pub fn cursor(&self) -> FeedCursor {
        FeedCursor::new(&self.returned)
    }

    /// Waits for the next event. Cancel-safe: dropping the future loses nothing.
    ///
    /// # Errors
    /// Redis refuses to read older completions. Lost connections are not errors: they are retried.
    pub async fn next(&mut self) -> Result<FeedEvent, QueueError> {
        loop {
            if let Some(item) = self.waiting.pop_front() {
                return Ok(self.event(item));
            }
            match self.stage {
                Stage::Ended => return Ok(FeedEvent::TooSlow { resume: self.cursor() }),
                Stage::CatchingUp { partition } => self.catch_up(partition).await?,
                Stage::Following { next, live } => {
                    // Marked as seen before looking: a later change is not missed.
                    self.end.borrow_and_update();
                    self.stage = self.look(next, live);
                    if self.waiting.is_empty() {
                        self.returned.clone_from(&self.looked);
                        if matches!(self.stage, Stage::Following { live: true, .. }) {
                            self.changed().await;
                        }
                    }
                }
            }
        }
    }

    fn event(&mut self, item: Item) -> FeedEvent {
        if self.waiting.is_empty() {
            self.returned.clone_from(&self.looked);
        } else {
            let (partition, entry) = item.place();
            if let Some(returned) = self.returned.get_mut(partition) {
                *returned = entry.max(*returned);
            }
        }
        match item {
            Item::Completion(completion) => FeedEvent::Completion { cursor: self.cursor(), completion },
            Item::Gap { partition, lost_before } => FeedEvent::Gap { partition, lost_before },
        }
    }

    async fn changed(&mut self) {
        // The sender lives as long as this feed does.
        let _ = self.end.changed().await;
    }

    /// Reads one page of a partition that the ring does not continue, or begins to follow.
    async fn catch_up(&mut self, first: usize) -> Result<(), QueueError> {
        let count = self.looked.len();
        let behind = self.shared.ring.read().as_ref().map(|ring| {
            let tail = ring.tail();
            let is_behind = |index: &usize| tail.get(*index).is_some_and(|tail| self.looked[*index] < *tail);
            match (0..count).map(|index| (first + index) % count).find(is_behind) {
                Some(index) => Err((index, tail[index])),
                None => Ok(Stage::Following { next: ring.first(), live: false }),
            }
        });
        let (index, tail) = match behind {
            // The hub does not read yet.
            None => {
                self.changed().await;
                return Ok(());
            }
            Some(Ok(following)) => {
                self.stage = following;
                return Ok(());
            }
            Some(Err(behind)) => behind,
        };
        let after = self.looked[index];
        let page = match self.shared.pages.acquire().await {
            Ok(_permit) => self.catch_up.page(&self.shared.keys[index], after, &self.filter).await,
            // The semaphore is never closed.
            Err(_) => return Ok(()),
        };
        match page {
            Ok(page) => {
                self.backoff.reset();
                self.looked[index] = page.last.unwrap_or_else(|| tail.max(after));
                self.waiting.extend(page.items);
                self.stage = Stage::CatchingUp { partition: (index + 1) % count };
                if self.waiting.is_empty() {
                    self.returned.clone_from(&self.looked);
                }
                Ok(())
            }
            Err(error) if is_transient(&error) => {
                tokio::time::sleep(self.backoff.next_delay()).await;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Takes what matches from the ring. Returns the next stage.
    fn look(&mut self, mut next: u64, mut live: bool) -> Stage {
        let mut bytes = 0;
        loop {
            let items = self.shared.ring.read().as_ref().and_then(|ring| ring.items(next, LOOK));
            let Some(items) = items else {
                return if live { Stage::Ended } else { Stage::CatchingUp { partition: 0 } };
            };
            if items.is_empty() {
                live = true;
                return Stage::Following { next, live };
            }
            for item in items {
                let (partition, entry) = item.place();
                let is_new = self.looked.get(partition).is_some_and(|looked| *looked < entry);
                let is_wanted = match &item {
                    Item::Completion(completion) => is_new && self.filter.wants(completion),
                    Item::Gap { .. } => is_new,
                };
                if is_wanted {
                    if let Item::Completion(completion) = &item {
                        bytes += completion.json().len();
                    }
                    let has_room = self.waiting.len() < MAX_WAITING && bytes <= MAX_WAITING_BYTES;
                    if !has_room && !self.waiting.is_empty() {
                        return if live { Stage::Ended } else { Stage::Following { next, live } };
                    }
                    self.waiting.push_back(item);
                }
                if is_new {
                    self.looked[partition] = entry;
                }
                next += 1;
            }
        }
    }
}
