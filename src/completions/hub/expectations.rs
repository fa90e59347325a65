//! Jobs whose completions are expected, by id.

use super::ring::HubCompletion;
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

/// Maximum number of expectations at once.
pub(super) const MAX_EXPECTATIONS: usize = 10_000;

/// What is known about an expected job.
#[derive(Debug, Clone, Default)]
struct Known {
    completion: Option<Arc<HubCompletion>>,
    /// Number of completions with this id so far.
    completions: u64,
    /// Number of gaps so far.
    gaps: u64,
}

/// All expectations of a hub.
#[derive(Debug, Default)]
pub(super) struct Expectations {
    waiting: Mutex<Waiting>,
    next: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    by_id: HashMap<Box<str>, Vec<(u64, watch::Sender<Known>)>>,
    count: usize,
}

impl Expectations {
    /// Registers an expectation. `None` if there are too many.
    pub(super) fn register(&self, id: &str) -> Option<(u64, Watching)> {
        let (sender, receiver) = watch::channel(Known::default());
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut waiting = self.waiting.lock();
        if waiting.count >= MAX_EXPECTATIONS {
            return None;
        }
        waiting.count += 1;
        waiting.by_id.entry(id.into()).or_default().push((number, sender));
        Some((number, Watching { known: receiver, completions: 0, gaps: 0 }))
    }

    pub(super) fn unregister(&self, id: &str, number: u64) {
        let mut waiting = self.waiting.lock();
        let Some(of_id) = waiting.by_id.get_mut(id) else { return };
        let before = of_id.len();
        of_id.retain(|(registered, _)| *registered != number);
        let (after, is_empty) = (of_id.len(), of_id.is_empty());
        if is_empty {
            waiting.by_id.remove(id);
        }
        waiting.count = waiting.count.saturating_sub(before - after);
    }

    pub(super) fn count(&self) -> usize {
        self.waiting.lock().count
    }

    pub(super) fn tell(&self, completion: &Arc<HubCompletion>) {
        let waiting = self.waiting.lock();
        for (_, sender) in waiting.by_id.get(completion.id.as_str()).into_iter().flatten() {
            sender.send_modify(|known| {
                known.completion = Some(Arc::clone(completion));
                known.completions += 1;
            });
        }
    }

    pub(super) fn tell_gap(&self) {
        let waiting = self.waiting.lock();
        for (_, sender) in waiting.by_id.values().flatten() {
            sender.send_modify(|known| known.gaps += 1);
        }
    }
}

/// One reader of an expectation, and what it has seen.
#[derive(Debug)]
pub(super) struct Watching {
    known: watch::Receiver<Known>,
    completions: u64,
    gaps: u64,
}

/// How a wait for a completion ended.
#[derive(Debug, Clone)]
pub enum Expected {
    /// The job has ended.
    Completion(Arc<HubCompletion>),
    /// Completions may have been missed, perhaps this job's. Look where the job is, then wait on.
    Gap,
    /// The time is over.
    TimedOut,
}

impl Watching {
    pub(super) async fn completion(&mut self, deadline: Instant) -> Expected {
        loop {
            {
                let known = self.known.borrow_and_update();
                if let Some(completion) = known.completion.as_ref().filter(|_| known.completions > self.completions) {
                    self.completions = known.completions;
                    return Expected::Completion(Arc::clone(completion));
                }
                if known.gaps > self.gaps {
                    self.gaps = known.gaps;
                    return Expected::Gap;
                }
            }
            match timeout_at(deadline, self.known.changed()).await {
                Ok(Ok(())) => {}
                // The sender lives as long as the expectation is registered.
                Ok(Err(_)) | Err(_) => return Expected::TimedOut,
            }
        }
    }
}
