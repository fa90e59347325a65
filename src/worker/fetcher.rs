//! Reads a lane while the worker runs.

use super::{
    admission::Admitter,
    clock_steps,
    context::{Partition, WorkerContext},
    decode::{BackloggedJobs, DecodedJobs, Decoder},
    lane_reader::{BLOCK, SharedRead},
    paused_lane::PausedLane,
    redis_health::LoopHealth,
};
use crate::{
    contract::Lane,
    queue::{self, Keys, Link, RawEntry},
};
use redis::RedisResult;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

/// Maximum number of entries that one read takes from each of a lane's streams. With twice as many, Redis waits while the
/// worker decodes them.
const MAX_READ: usize = 128;

/// Maximum number of entries that one read takes for each free slot. Few jobs of a read that takes many more than there are
/// slots wait for slots, even if all jobs are on the direct path.
const MAX_PER_SLOT: usize = 8;

/// Number of batches that are read while another is admitted, so that Redis always has the next script to run.
const READ_AHEAD: usize = 2;

/// Maximum number of batches of backlogged callers' jobs that wait for deferred admission.
const SIDELINED: usize = 4;

/// A batch is read before it has slots only if the previous batch got its slots within this time. Behind calls that
/// hang, jobs thus stay in the stream, where any worker can take them.
const QUICK: Duration = Duration::from_millis(20);

/// A blocking read that took this long found an empty lane, and its job came alone.
const ALONE: Duration = Duration::from_millis(1);

/// How long the entries at the head of a lane count as light after they were measured. Others may write to the lane.
const LIGHT_FOR: Duration = Duration::from_millis(20);

/// How often cancelled jobs are looked for in a paused lane.
const CANCELLED_LOOK: Duration = Duration::from_millis(500);

/// Reads one lane of one partition.
pub(super) struct Fetcher {
    context: Arc<WorkerContext>,
    partition: usize,
    lane: Lane,
    link: Link,
    together: Option<SharedRead>,
    admitter: Admitter,
    /// Admission of the jobs of backlogged callers, on the deferred path.
    side: Admitter,
    stop: CancellationToken,
}

/// The half of a fetcher that reads; the other half admits.
struct LaneFetch<'a> {
    context: Arc<WorkerContext>,
    partition: usize,
    lane: Lane,
    link: Link,
    /// The shared blocking read on an empty lane; `None` if this fetcher waits on its own connection.
    together: Option<SharedRead>,
    decoder: Decoder,
    stop: CancellationToken,
    loop_health: LoopHealth,
    /// Number of failed shared reads in a row.
    failed_together: u32,
    /// Whether the last batch got its slots at once, or nearly so.
    quick: &'a AtomicBool,
    /// Number of entries to read for each free slot.
    per_slot: usize,
    /// Until when the entries at the head of the lane need not be measured.
    light_until: Option<Instant>,
    /// Number of batches sent on the direct path.
    sent: u64,
    taken_in: watch::Receiver<u64>,
}

impl Fetcher {
    pub(super) fn new(
        context: Arc<WorkerContext>,
        partition: usize,
        lane: Lane,
        together: Option<SharedRead>,
        [admitter, side]: [Admitter; 2],
        stop: CancellationToken,
    ) -> Self {
        let link = match (&together, lane) {
            (None, _) => context.connector.link(true),
            (Some(_), Lane::Interactive) => context.connector.shared_link("read interactive", partition, true),
            (Some(_), Lane::Bulk) => context.connector.shared_link("read bulk", partition, true),
        };
        Self { context, partition, lane, link, together, admitter, side, stop }
    }

    /// Reads until stopped and admits what was read. The next batches are read while one is admitted.
    pub(super) async fn run(self) {
        let Self { context, partition, lane, link, together, mut admitter, mut side, stop } = self;
        if !context.control.loaded(&stop).await {
            return;
        }
        let (read, mut batches) = mpsc::channel(READ_AHEAD);
        let (sidelined, mut backlogged_callers) = mpsc::channel(SIDELINED);
        let quick = AtomicBool::new(false);
        let (count, counted) = watch::channel(0);
        let decoder = admitter.decoder();
        let loop_health = context.health.loop_health();
        let reader = LaneFetch {
            context,
            partition,
            lane,
            link,
            together,
            decoder,
            stop,
            loop_health,
            failed_together: 0,
            quick: &quick,
            per_slot: 1,
            light_until: None,
            sent: 0,
            taken_in: counted,
        };
        let take_in = async {
            while let Some(decoded) = batches.recv().await {
                let waited = admitter.let_in(decoded).await;
                quick.store(waited < QUICK, Ordering::Relaxed);
                count.send_modify(|taken_in| *taken_in += 1);
            }
        };
        let put_aside = async {
            while let Some(backlogged) = backlogged_callers.recv().await {
                side.put_aside(backlogged).await;
            }
        };
        tokio::join!(reader.run(read, sidelined), take_in, put_aside);
    }
}

impl LaneFetch<'_> {
    /// Reads the lane. While it may have more jobs than were read, it signals demand to the other lane, which then does
    /// not take a slot that comes free during a round trip. Such a read does not block, so that an empty lane withdraws
    /// its demand at once.
    async fn run(mut self, out: mpsc::Sender<DecodedJobs>, sidelined: mpsc::Sender<BackloggedJobs>) {
        let context = Arc::clone(&self.context);
        let mut more = false;
        let mut demand = None;
        while !self.stop.is_cancelled() {
            if !context.gate.is_open() {
                (more, demand) = (false, None);
                if !context.gate.opened(&self.stop).await {
                    return;
                }
            }
            if context.control.is_lane_paused(self.lane, &context.clock) {
                // Nothing is read: the jobs keep their order, and the other lane can use all slots.
                (more, demand) = (false, None);
                // Meanwhile the watcher of rules reports whether Redis answers.
                self.loop_health.ok();
                self.while_paused(&out).await;
                continue;
            }
            // There is room while fewer than `READ_AHEAD` batches wait for admission.
            let Ok(room) = out.reserve().await else { return };
            if demand.is_none() && context.slots.free_now(self.lane) == 0 {
                demand = Some(context.slots.demand(self.lane));
            }
            // A full worker reads when an eighth of its slots are free: one round trip for several jobs.
            let full_batch = (context.slots.total() / 8).clamp(1, 64);
            let free = if more && self.quick.load(Ordering::Relaxed) && !context.slots.is_backed_up() {
                // Slots come free faster than a read takes, so it need not wait for them.
                context.slots.free_now(self.lane).max(full_batch)
            } else {
                let batch = if more { full_batch } else { 1 };
                tokio::select! {
                    biased;
                    () = self.stop.cancelled() => return,
                    free = context.slots.available(self.lane, batch) => free,
                }
            };
            let count = free.saturating_mul(self.per_slot).min(MAX_READ);
            let Partition { keys, aside, .. } = &context.partitions[self.partition];
            let asked_at_ms = context.clock.elapsed_ms();
            let asked = Instant::now();
            // The lane has delayed its maximum of jobs, so new ones wait. Resumed jobs belong to other routes, too.
            let only_due = aside.is_full(self.lane);
            let block = (only_due || demand.is_none()).then_some(BLOCK);
            // The size of an entry that ends a blocking read is not known, so only one is read.
            let count = if block.is_some() { 1 } else { count };
            let read = match (block, &self.together) {
                (Some(_), Some(together)) => {
                    let read = together.read(self.partition, only_due).await;
                    self.failed_together += u32::from(read.is_err());
                    read
                }
                _ if only_due => queue::read_due(&mut self.link, keys, self.lane, &context.consumer, BLOCK).await,
                _ => self.read(keys, count, block).await,
            };
            more = !only_due && read.as_ref().is_ok_and(|entries| entries.len() >= count);
            // A job that came during the wait came alone, as far as is known. The next read waits again and costs one
            // command; a look for more would cost three, and would be ahead of this job's admission.
            more &= block.is_none() || asked.elapsed() < ALONE;
            if !more {
                demand = None;
            } else if demand.is_none() {
                demand = Some(context.slots.demand(self.lane));
            }
            match read {
                Ok(entries) => {
                    self.loop_health.ok();
                    self.failed_together = 0;
                    if !entries.is_empty() {
                        // The lease counts from the question, because Redis counts from its answer, which may have been
                        // delayed or have reached a sleeping process. The lease runs, and is renewed, while the entries
                        // wait for admission.
                        if self.decoder.finds_future(&entries) {
                            // Unless this worker's estimate of the time is late. Without an answer the estimate counts.
                            let look = clock_steps::watcher::look(&context, &mut self.link, self.partition);
                            let _ = timeout(context.response_timeout, look).await;
                        }
                        let mut decoded = self.decoder.sort(entries, asked_at_ms);
                        let read = decoded.0.len();
                        let backlogged =
                            decoded.backlogged(&context.partitions[self.partition].backlogged_callers, &context.clock);
                        self.per_slot = per_slot(read, decoded.0.len());
                        if !decoded.is_empty() {
                            self.sent += 1;
                            room.send(decoded);
                        }
                        if !backlogged.is_empty() {
                            self.sideline(backlogged, &sidelined).await;
                        }
                    }
                }
                Err(error) => self.recover(error).await,
            }
        }
    }

    /// Returns when the lane is no longer paused, or the worker stops. Meanwhile cancelled jobs end, and nothing else in the lane
    /// is read.
    async fn while_paused(&mut self, out: &mpsc::Sender<DecodedJobs>) {
        let context = Arc::clone(&self.context);
        let mut resumed = std::pin::pin!(context.control.lane_resumed(self.lane, &context.clock));
        let mut paused = PausedLane::new(self.lane, self.partition);
        let mut wait = CANCELLED_LOOK;
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = &mut resumed => return,
                () = tokio::time::sleep(wait) => {}
            }
            let Ok(room) = out.reserve().await else { return };
            let asked_at_ms = context.clock.elapsed_ms();
            let cancelled = paused.step(&context, &mut self.link).await;
            wait = if cancelled.is_err() || paused.is_at_end() { CANCELLED_LOOK } else { Duration::ZERO };
            match cancelled {
                Ok(entries) if entries.is_empty() => {}
                Ok(entries) => {
                    self.sent += 1;
                    room.send(self.decoder.sort(entries, asked_at_ms));
                }
                // The next look asks again. Without a group there is nothing to end.
                Err(error) if error.code() == Some("NOGROUP") => {}
                Err(_) => context.metrics.redis_error("read"),
            }
        }
    }

    /// Reads up to `count` entries. If oversized entries are at the head of the lane, reads no more of each than a job
    /// may have, to bound memory.
    async fn read(&mut self, keys: &Keys, count: usize, block: Option<Duration>) -> RedisResult<Vec<RawEntry>> {
        let (lane, consumer) = (self.lane, &self.context.consumer);
        if block.is_some() {
            return queue::read_lane(&mut self.link, keys, lane, consumer, count, block).await;
        }
        // Each read measures what comes next, so that reads which follow each other closely take one round trip.
        let is_known_as_light = self.light_until.take().is_some_and(|until| Instant::now() < until);
        if is_known_as_light || queue::is_light(&mut self.link, keys, lane).await? {
            let (entries, is_light) = queue::read_lane_and_weigh(&mut self.link, keys, lane, consumer, count).await?;
            self.light_until = is_light.then(|| Instant::now() + LIGHT_FOR);
            return Ok(entries);
        }
        queue::read_cut(&mut self.link, keys, lane, consumer, count).await
    }

    /// Sends jobs to the deferred path after their callers' jobs on the direct path are admitted. If the path is full,
    /// reading waits here, which bounds memory.
    async fn sideline(&mut self, mut backlogged: BackloggedJobs, way: &mpsc::Sender<BackloggedJobs>) {
        if !backlogged.is_clear() {
            let sent = self.sent;
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return backlogged.release(),
                _ = self.taken_in.wait_for(|taken_in| *taken_in >= sent) => backlogged.cleared(),
            }
        }
        if let Err(refused) = way.send(backlogged).await {
            refused.0.release();
        }
    }

    /// Returns when Redis accepts writes again. The next read may have to wait for slots, and that wait must not look
    /// like a failure.
    async fn recover(&mut self, mut error: redis::RedisError) {
        let context = Arc::clone(&self.context);
        let keys = &context.partitions[self.partition].keys;
        loop {
            if error.code() == Some("NOGROUP") {
                // The stream is new, or someone removed the group or emptied the database.
                match queue::ensure_group(&mut self.link, keys).await {
                    Ok(()) => return,
                    Err(refused) => error = refused,
                }
            }
            context.metrics.redis_error("read");
            let wait = self.loop_health.failed("read", &error);
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            match queue::probe(&mut self.link, keys).await {
                // The probe has another connection. If that works and the shared one does not, the read is still
                // failing.
                Ok(()) if self.failed_together > 1 => return,
                Ok(()) => return self.loop_health.ok(),
                Err(refused) => error = refused,
            }
        }
    }
}

/// Number of entries to read for each free slot, if so many of the jobs `read` last took the direct path. Jobs on the
/// deferred path need no slots, so a read may take many of them.
fn per_slot(read: usize, direct: usize) -> usize {
    (read / direct.max(1)).clamp(1, MAX_PER_SLOT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_that_need_no_slots_are_read_beyond_the_slots() {
        assert_eq!(per_slot(0, 0), 1, "nothing is known");
        assert_eq!(per_slot(64, 64), 1);
        assert_eq!(per_slot(64, 33), 1);
        assert_eq!(per_slot(64, 16), 4);
        assert_eq!(per_slot(128, 0), MAX_PER_SLOT);
    }
}
