//! Takes over deliveries from lost workers, and restores deliveries that something other than a worker removed from the
//! pending list.
//!
//! A delivery is taken over if it was idle for a lease in two looks, between which its worker had time to renew it. One
//! look is not enough: a clock that steps ahead makes every delivery look idle, but living workers renew theirs.

use super::{
    admission::Admitter,
    context::WorkerContext,
    decode::{DecodedJobs, Decoder},
    lease::stream_place,
    redis_health::LoopHealth,
};
use crate::{
    contract::{EntryId, Lane},
    queue::{
        Link, Source, is_transient,
        rescue::{self, LeaseHolder, RescueTarget, Rescued, Round, Search, Terms},
        workers,
    },
};
use redis::RedisError;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;

const SOURCES: [Source; 2] = [Source::Due, Source::Jobs];

/// Minimum time between two looks. The interval is a quarter of the shortest lease, because a worker with a shorter
/// lease than those known may have started.
const SOONEST_LOOK: Duration = Duration::from_millis(100);
const LATEST_LOOK: Duration = Duration::from_secs(5);

/// Maximum number of steps that one look takes through a stream's pending list, and through its delivered entries.
const MOST_STEPS: usize = 40;

/// Maximum number of idle deliveries of a stream that are remembered.
const MOST_SUSPECTS: usize = 256;

/// Maximum number of other workers whose leases are known. For the rest the longest lease counts.
const MOST_HOLDERS: usize = 512;

/// Knowledge of one stream between two looks.
#[derive(Debug, Default)]
struct Known {
    /// Deliveries idle for the lease of their worker: when that was first seen, on the process's clock, and that lease.
    idle: BTreeMap<EntryId, (i64, Duration)>,
    search: Search,
    /// Number of entries that something other than a worker had removed, at the last look.
    removed: Option<u64>,
}

/// Rescues the deliveries of one partition.
pub(super) struct Rescuer {
    context: Arc<WorkerContext>,
    partition: usize,
    link: Link,
    loop_health: LoopHealth,
    decoder: Decoder,
    /// Admission of rescued jobs, by [`Lane`]. Jobs wait there for slots without delaying the other lane or the next
    /// look.
    ways_in: [mpsc::Sender<DecodedJobs>; 2],
    /// By [`stream_place`].
    known: [Known; 4],
    /// The other workers, at the last look.
    holders: Arc<[LeaseHolder]>,
    /// The last backward step of Redis's clock after which idle times were restarted; `None` before the first look.
    restamped: Option<u32>,
}

impl Rescuer {
    /// Rescues a partition's deliveries until `stop`. `intakes` admit the jobs of each lane.
    pub(super) async fn run(
        context: Arc<WorkerContext>,
        partition: usize,
        intakes: [Admitter; 2],
        stop: CancellationToken,
    ) {
        let link = context.link("rescue", partition);
        let loop_health = context.health.pulse_aside();
        let decoder = intakes[0].decoder();
        let ((interactive, of_interactive), (bulk, of_bulk)) = (mpsc::channel(1), mpsc::channel(1));
        let rescuer = Self {
            context,
            partition,
            link,
            loop_health,
            decoder,
            ways_in: [interactive, bulk],
            known: Default::default(),
            holders: Arc::default(),
            restamped: None,
        };
        let [interactive, bulk] = intakes;
        tokio::join!(rescuer.look_until(stop), take_in(interactive, of_interactive), take_in(bulk, of_bulk));
    }

    async fn look_until(mut self, stop: CancellationToken) {
        if !self.context.control.loaded(&stop).await {
            return;
        }
        let mut next = Duration::ZERO;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(next) => {}
            }
            match self.look().await {
                Ok(()) => self.loop_health.ok(),
                Err(error) if error.code() == Some("NOGROUP") => {}
                Err(error) => {
                    self.context.metrics.redis_error("rescue");
                    self.context.whole_script_failed("rescue", &error);
                    tokio::time::sleep(self.loop_health.failed("rescue", &error)).await;
                }
            }
            let terms = Terms { own: self.context.lease, holders: &self.holders };
            next = (terms.shortest() / 4).clamp(SOONEST_LOOK, LATEST_LOOK);
        }
    }

    async fn look(&mut self) -> Result<(), RedisError> {
        self.restamp().await?;
        self.ask_for_holders().await?;
        for lane in Lane::ALL {
            for source in SOURCES {
                self.count_removed(lane, source).await?;
                self.find_adrift(lane, source).await?;
                if self.context.gate.is_open() && !self.context.control.is_lane_paused(lane, &self.context.clock) {
                    self.take_over(lane, source).await?;
                }
            }
        }
        Ok(())
    }

    /// Restarts idle times after Redis's clock went back, because they mean nothing until the clock has caught up.
    async fn restamp(&mut self) -> Result<(), RedisError> {
        let context = Arc::clone(&self.context);
        let partition = &context.partitions[self.partition];
        let steps = partition.steps.all();
        let first = self.restamped.is_none();
        if self.restamped.replace(steps.last_number()) == Some(steps.last_number()) {
            return Ok(());
        }
        let Some(step) = steps.last() else { return Ok(()) };
        let caught_up_ms = step.to_ms.saturating_add(step.by_ms);
        if first && context.clock.now_ms() >= caught_up_ms {
            return Ok(());
        }
        for lane in Lane::ALL {
            for source in SOURCES {
                let place = RescueTarget { lane, source, consumer: &context.consumer };
                let mut round = Round::default();
                for _ in 0..MOST_STEPS {
                    let step = rescue::restamp(&mut self.link, &partition.keys, place, &mut round).await;
                    if step.inspect_err(|_| self.restamped = None)?.at_end {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads which workers exist, and their leases. If the list cannot be read, the previous one remains in use.
    async fn ask_for_holders(&mut self) -> Result<(), RedisError> {
        let context = Arc::clone(&self.context);
        match workers::workers(&mut self.link, &context.partitions[0].keys).await {
            Ok(listed) => {
                let now_ms = context.clock.now_ms();
                let others = listed.into_iter().filter(|(name, _)| *name != context.consumer);
                self.holders = others
                    .filter_map(|(consumer, beat)| {
                        let silent = Duration::from_millis(now_ms.saturating_sub(beat.seen_at_ms));
                        Some(LeaseHolder { consumer, lease: beat.lease()?, silent })
                    })
                    .take(MOST_HOLDERS)
                    .collect();
                Ok(())
            }
            Err(error) if is_transient(&error) => Err(error),
            Err(error) => {
                // A fault of this key is no reason to abandon lost jobs.
                context.metrics.redis_error("rescue");
                tracing::debug!(%error, "the list of workers could not be read");
                Ok(())
            }
        }
    }

    /// Takes over deliveries of a stream that have been idle for long enough.
    async fn take_over(&mut self, lane: Lane, source: Source) -> Result<(), RedisError> {
        let context = Arc::clone(&self.context);
        let way_in = self.ways_in[lane as usize].clone();
        if way_in.capacity() == 0 {
            // Jobs taken over earlier still wait for their slots.
            return Ok(());
        }
        let keys = &context.partitions[self.partition].keys;
        let place = RescueTarget { lane, source, consumer: &context.consumer };
        let asked_at_ms = context.clock.elapsed_ms();
        let holders = Arc::clone(&self.holders);
        let terms = Terms { own: context.lease, holders: &holders };
        // A worker renews four times within a lease.
        let would_be_renewed = |(since_ms, lease): &(i64, Duration)| {
            asked_at_ms.saturating_sub(*since_ms) >= i64::try_from(lease.as_millis() / 2).unwrap_or(i64::MAX)
        };
        let known = &mut self.known[stream_place(lane, source)];
        let suspects = known.idle.iter().filter(|(_, idle)| would_be_renewed(idle));
        let mut round = Round::new(suspects.map(|(id, _)| *id).collect());
        let mut idle = BTreeMap::new();
        for _ in 0..MOST_STEPS {
            // At most the number of free slots. The rest is for other workers, or for the next round.
            let (running, _) = context.slots.in_use();
            let most = context.slots.total().saturating_sub(running).clamp(1, 128);
            let Rescued { idle: found, taken, removed, at_end } =
                rescue::rescue(&mut self.link, keys, place, &terms, most, &mut round).await?;
            idle.extend(found);
            if !removed.is_empty() {
                self.removed(lane, source, removed).await?;
            }
            if !taken.is_empty() {
                context.metrics.reclaimed(u64::try_from(taken.len()).unwrap_or(0));
                let decoded = self.decoder.sort(taken, asked_at_ms);
                if let Err(refused) = way_in.send(decoded).await {
                    refused.0.release();
                }
            }
            if at_end || way_in.capacity() == 0 {
                break;
            }
        }
        let known_idle = &mut self.known[stream_place(lane, source)].idle;
        known_idle.retain(|id, _| idle.contains_key(id));
        for (id, lease) in idle {
            if known_idle.len() >= MOST_SUSPECTS {
                break;
            }
            known_idle.entry(id).or_insert((asked_at_ms, lease));
        }
        Ok(())
    }

    /// Handles deliveries whose entries were removed. A living worker can still complete its job; without one the job
    /// is lost.
    async fn removed(&mut self, lane: Lane, source: Source, removed: Vec<(EntryId, String)>) -> Result<(), RedisError> {
        let context = Arc::clone(&self.context);
        let partition = &context.partitions[self.partition];
        let living = workers::workers(&mut self.link, &context.partitions[0].keys).await?;
        let now_ms = context.clock.now_ms();
        for (id, consumer) in removed {
            let held = if consumer == context.consumer {
                partition.leases.holds(&(lane, source, id))
            } else {
                living.get(&consumer).is_some_and(|worker| worker.is_recent(now_ms))
            };
            let stream = partition.keys.stream(lane, source);
            if !held && rescue::forget(&mut self.link, stream, id).await? {
                context.metrics.entries_removed(lane, partition.keys.partition, 1);
                tracing::error!(
                    stream,
                    entry = %id,
                    consumer,
                    "something other than a worker removed the entry of a lost worker's job: the job is lost"
                );
            }
        }
        Ok(())
    }

    async fn find_adrift(&mut self, lane: Lane, source: Source) -> Result<(), RedisError> {
        let keys = &self.context.partitions[self.partition].keys;
        let stream = keys.stream(lane, source);
        let search = &mut self.known[stream_place(lane, source)].search;
        for _ in 0..MOST_STEPS {
            let (found, at_end) = rescue::find_adrift(&mut self.link, stream, search).await?;
            if found > 0 {
                self.context.metrics.adrift(found);
                tracing::warn!(
                    stream,
                    found,
                    "deliveries were missing from the pending list and are executed again: something other than a worker \
                     deleted a consumer of the group `workers`, acknowledged its entries or set it ahead"
                );
            }
            if at_end {
                break;
            }
        }
        Ok(())
    }

    async fn count_removed(&mut self, lane: Lane, source: Source) -> Result<(), RedisError> {
        if source == Source::Due {
            return Ok(());
        }
        let keys = &self.context.partitions[self.partition].keys;
        let stream = keys.jobs(lane);
        let known = &mut self.known[stream_place(lane, source)].removed;
        let (count, more) = rescue::count_removed(&mut self.link, keys, lane, *known).await?;
        *known = count;
        if more > 0 {
            self.context.metrics.entries_removed(lane, keys.partition, more);
            tracing::error!(
                stream,
                jobs = more,
                "something other than a worker removed jobs that had not ended: a producer's XADD with MAXLEN, an XTRIM or an XDEL"
            );
        }
        Ok(())
    }
}

/// Admits the rescued jobs of one lane until the channel closes.
async fn take_in(mut admitter: Admitter, mut taken: mpsc::Receiver<DecodedJobs>) {
    while let Some(decoded) = taken.recv().await {
        admitter.let_in(decoded).await;
    }
}
