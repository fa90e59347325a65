//! Ends the cancelled jobs of a paused lane. Nothing else in it is read: the other jobs keep their order.

use super::context::{Partition, WorkerContext};
use crate::{
    contract::{EntryId, Lane, Origin, ParseContext, parse_job},
    jobs::JobState,
    queue::{
        self, Link, RawEntry, Source, find,
        rescue::{self, RescueTarget},
    },
    rules::{RuleSet, Subject},
};
use redis::RedisResult;
use tokio::time::Instant;

/// How many entries of a stream one step looks at.
const PAGE: usize = 64;

/// Two walks through a paused lane, for cancelled jobs: one through the jobs that came back, one through new jobs.
///
/// They begin again after each change of the rules. After a lease the first one does, too, and the second one does if it had to leave a
/// cancelled job to another worker: if that worker was lost, the job is free by then.
pub(super) struct PausedLane {
    lane: Lane,
    partition: usize,
    /// Number of times that the rules were loaded when the walks began.
    loads: u64,
    begun: Instant,
    due: Option<Walk>,
    jobs: Option<Walk>,
}

/// A position in one of the lane's streams.
struct Walk {
    /// The entry that workers read last.
    read: Option<EntryId>,
    after: Option<EntryId>,
    last: EntryId,
    /// The last step found all of the rest.
    at_end: bool,
    /// Another worker has a cancelled job.
    left_some: bool,
}

impl PausedLane {
    pub(super) fn new(lane: Lane, partition: usize) -> Self {
        Self { lane, partition, loads: 0, begun: Instant::now(), due: None, jobs: None }
    }

    /// Whether the last step saw the end of both streams.
    pub(super) fn is_at_end(&self) -> bool {
        [&self.due, &self.jobs].into_iter().flatten().all(|walk| walk.at_end)
    }

    /// Takes the cancelled jobs of the next page of each stream.
    pub(super) async fn step(&mut self, context: &WorkerContext, link: &mut Link) -> RedisResult<Vec<RawEntry>> {
        let loads = *context.control.changes().borrow();
        if loads != self.loads {
            (self.due, self.jobs, self.begun, self.loads) = (None, None, Instant::now(), loads);
        } else if self.begun.elapsed() >= context.lease {
            self.begun = Instant::now();
            self.due = None;
            self.jobs = self.jobs.take().filter(|walk| !walk.left_some);
        }
        let rules = context.control.rules();
        let mut taken = self.page(context, link, Source::Due, &rules).await?;
        taken.extend(self.page(context, link, Source::Jobs, &rules).await?);
        Ok(taken)
    }

    async fn page(
        &mut self,
        context: &WorkerContext,
        link: &mut Link,
        source: Source,
        rules: &RuleSet,
    ) -> RedisResult<Vec<RawEntry>> {
        let Partition { keys, .. } = &context.partitions[self.partition];
        let lane = self.lane;
        let walk = match source {
            Source::Due => &mut self.due,
            Source::Jobs => &mut self.jobs,
        };
        if walk.is_none() {
            let read = find::last_read(link, keys.stream(lane, source)).await?;
            *walk = Some(Walk::begin(source, read, rules.latest_cancellation_ms(lane)));
        }
        let Some(walk) = walk else { return Ok(Vec::new()) };
        // What comes back may be cancelled later. A new job is enqueued after every cancellation in force.
        if walk.at_end && source == Source::Jobs {
            return Ok(Vec::new());
        }
        let page = queue::peek(link, keys, (lane, source), (walk.after, walk.last), PAGE).await?;
        walk.at_end = page.len() < PAGE;
        walk.after = page.last().map(|entry| entry.id).or(walk.after);
        let now_ms = context.clock.now_ms();
        let mut cancelled: Vec<RawEntry> =
            page.into_iter().filter(|entry| walk.is_cancelled(entry, context, keys.partition, rules, now_ms)).collect();
        if !cancelled.is_empty() {
            let place = RescueTarget { lane, source, consumer: &context.consumer };
            let ids: Vec<EntryId> = cancelled.iter().map(|entry| entry.id).collect();
            let claimed = rescue::claim_unread(link, keys, place, context.lease, &ids).await?;
            walk.left_some |= claimed.len() < ids.len();
            cancelled.retain(|entry| claimed.contains(&entry.id));
        }
        Ok(cancelled)
    }
}

impl Walk {
    /// Begins a walk through all jobs that came back, or through the unread new jobs up to the time of the last
    /// cancellation.
    fn begin(source: Source, read: Option<EntryId>, latest_cancellation_ms: Option<u64>) -> Self {
        let (after, last_ms, at_end) = match source {
            Source::Due => (None, u64::MAX, false),
            Source::Jobs => (read, latest_cancellation_ms.unwrap_or(0), latest_cancellation_ms.is_none()),
        };
        Self { read, after, last: EntryId { ms: last_ms, seq: u64::MAX }, at_end, left_some: false }
    }

    /// Whether an entry is a cancelled job that no worker calls XCO for.
    fn is_cancelled(
        &self,
        entry: &RawEntry,
        context: &WorkerContext,
        partition: u16,
        rules: &RuleSet,
        now_ms: u64,
    ) -> bool {
        let state = entry.state.as_deref().and_then(JobState::from_json);
        if state.as_ref().is_some_and(|state| state.cancelled) {
            return true;
        }
        // A worker has it, and ends it after its call.
        if self.read.is_some_and(|read| entry.id <= read) {
            return false;
        }
        let here = Origin { lane: entry.lane, partition, entry: entry.id };
        let (origin, enqueued_at_ms, generation) = state.map_or((here, entry.id.ms, entry.generation), |state| {
            (state.origin, state.enqueued_at_ms(), state.generation)
        });
        let default_id = origin.to_string();
        let parse_context = ParseContext {
            allow_missing_caller_id: context.allow_missing_caller_id,
            default_id: &default_id,
            generation,
        };
        parse_job(&entry.job, parse_context).is_ok_and(|job| {
            let id = job.id.as_ref().map_or(default_id.as_str(), |id| id.as_str());
            rules.cancels(&Subject::of(&job, id, entry.lane, enqueued_at_ms), now_ms).is_some()
        })
    }
}
