//! Takes over from lost workers, and takes up what a foreign hand has left to nobody.
//!
//! A delivery is taken over once it has been idle for a lease in two looks between which its holder has had the time to renew it:
//! a clock that steps ahead makes every delivery look idle, and those of living workers only until they are renewed.

use super::{
    health::Pulse,
    intake::Intake,
    lease::stream_place,
    shared::Shared,
    sorter::{Sorted, Sorter},
};
use crate::{
    contract::{EntryId, Lane},
    queue::{
        Link, Source, is_transient,
        rescue::{self, Holder, Place, Rescued, Round, Search, Terms},
        workers::{self, SILENT_MS},
    },
};
use redis::RedisError;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;

const SOURCES: [Source; 2] = [Source::Due, Source::Jobs];

/// The time between two looks: a quarter of the shortest lease, within these bounds. A worker with a shorter lease than those
/// known may have come since.
const SOONEST_LOOK: Duration = Duration::from_millis(100);
const LATEST_LOOK: Duration = Duration::from_secs(5);

/// How many steps one look takes through a stream's pending list, and through its delivered entries, at most.
const MOST_STEPS: usize = 40;

/// How many deliveries of a stream are remembered as idle, at most.
const MOST_SUSPECTS: usize = 256;

/// How many other workers' leases are asked for, at most. For the rest the longest of all counts.
const MOST_HOLDERS: usize = 512;

/// What is known of one stream between two looks.
#[derive(Debug, Default)]
struct Known {
    /// Idle for the lease of its holder: since when that is known, on the process's clock, and that lease.
    idle: BTreeMap<EntryId, (i64, Duration)>,
    search: Search,
    /// How many entries a foreign hand removed, as of the last look.
    removed: Option<u64>,
}

/// Looks after the deliveries of one partition.
pub(super) struct Rescuer {
    shared: Arc<Shared>,
    partition: usize,
    link: Link,
    pulse: Pulse,
    sorter: Sorter,
    /// By [`Lane`]: what was taken over waits for its slots there, and neither the other lane nor the looking waits with it.
    ways_in: [mpsc::Sender<Sorted>; 2],
    /// By [`stream_place`].
    known: [Known; 4],
    /// The other workers, as of the last look.
    holders: Arc<[Holder]>,
    /// The last step back of Redis's clock after which idle times began anew; `None` before the first look.
    restamped: Option<u32>,
}

impl Rescuer {
    /// Looks after a partition until `stop`; `intakes` are the ways in of its lanes.
    pub(super) async fn run(shared: Arc<Shared>, partition: usize, intakes: [Intake; 2], stop: CancellationToken) {
        let link = shared.link("rescue", partition);
        let pulse = shared.health.pulse_aside();
        let sorter = intakes[0].sorter();
        let ((interactive, of_interactive), (bulk, of_bulk)) = (mpsc::channel(1), mpsc::channel(1));
        let rescuer = Self {
            shared,
            partition,
            link,
            pulse,
            sorter,
            ways_in: [interactive, bulk],
            known: Default::default(),
            holders: Arc::default(),
            restamped: None,
        };
        let [interactive, bulk] = intakes;
        tokio::join!(rescuer.look_until(stop), take_in(interactive, of_interactive), take_in(bulk, of_bulk));
    }

    async fn look_until(mut self, stop: CancellationToken) {
        if !self.shared.control.loaded(&stop).await {
            return;
        }
        let mut next = Duration::ZERO;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(next) => {}
            }
            match self.look().await {
                Ok(()) => self.pulse.well(),
                Err(error) if error.code() == Some("NOGROUP") => {}
                Err(error) => {
                    self.shared.metrics.redis_error("rescue");
                    self.shared.whole_script_failed("rescue", &error);
                    tokio::time::sleep(self.pulse.ill("rescue", &error)).await;
                }
            }
            let terms = Terms { own: self.shared.lease, holders: &self.holders };
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
                if self.shared.gate.is_open() && !self.shared.control.is_lane_paused(lane, &self.shared.clock) {
                    self.take_over(lane, source).await?;
                }
            }
        }
        Ok(())
    }

    /// After Redis's clock went back its idle times say nothing until it has caught up: they begin anew.
    async fn restamp(&mut self) -> Result<(), RedisError> {
        let shared = Arc::clone(&self.shared);
        let partition = &shared.partitions[self.partition];
        let steps = partition.steps.all();
        let first = self.restamped.is_none();
        if self.restamped.replace(steps.last_number()) == Some(steps.last_number()) {
            return Ok(());
        }
        let Some(step) = steps.last() else { return Ok(()) };
        let caught_up_ms = step.to_ms.saturating_add(step.by_ms);
        if first && shared.clock.now_ms() >= caught_up_ms {
            return Ok(());
        }
        for lane in Lane::ALL {
            for source in SOURCES {
                let place = Place { lane, source, consumer: &shared.consumer };
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

    /// Which workers there are, and how long their leases. Where the list cannot be read the one before serves.
    async fn ask_for_holders(&mut self) -> Result<(), RedisError> {
        let shared = Arc::clone(&self.shared);
        match workers::workers(&mut self.link, &shared.partitions[0].keys).await {
            Ok(listed) => {
                let now_ms = shared.clock.now_ms();
                let others = listed.into_iter().filter(|(name, _)| *name != shared.consumer);
                self.holders = others
                    .filter_map(|(consumer, beat)| {
                        let silent = Duration::from_millis(now_ms.saturating_sub(beat.seen_at_ms));
                        Some(Holder { consumer, lease: beat.lease()?, silent })
                    })
                    .take(MOST_HOLDERS)
                    .collect();
                Ok(())
            }
            Err(error) if is_transient(&error) => Err(error),
            Err(error) => {
                // What is wrong with this key is no reason to leave lost jobs alone.
                shared.metrics.redis_error("rescue");
                tracing::debug!(%error, "the list of workers cannot be read");
                Ok(())
            }
        }
    }

    /// Takes over from a stream what has been idle for long enough.
    async fn take_over(&mut self, lane: Lane, source: Source) -> Result<(), RedisError> {
        let shared = Arc::clone(&self.shared);
        let way_in = self.ways_in[lane as usize].clone();
        if way_in.capacity() == 0 {
            // Those that were taken over before still wait for their slots.
            return Ok(());
        }
        let keys = &shared.partitions[self.partition].keys;
        let place = Place { lane, source, consumer: &shared.consumer };
        let asked_at_ms = shared.clock.elapsed_ms();
        let holders = Arc::clone(&self.holders);
        let terms = Terms { own: shared.lease, holders: &holders };
        // A holder renews four times a lease.
        let would_be_renewed = |(since_ms, lease): &(i64, Duration)| {
            asked_at_ms.saturating_sub(*since_ms) >= i64::try_from(lease.as_millis() / 2).unwrap_or(i64::MAX)
        };
        let known = &mut self.known[stream_place(lane, source)];
        let suspects = known.idle.iter().filter(|(_, idle)| would_be_renewed(idle));
        let mut round = Round::new(suspects.map(|(id, _)| *id).collect());
        let mut idle = BTreeMap::new();
        for _ in 0..MOST_STEPS {
            // As many as there are slots for at the moment: the rest is for other workers, or the next round.
            let (running, _) = shared.slots.in_use();
            let most = shared.slots.total().saturating_sub(running).clamp(1, 128);
            let Rescued { idle: found, taken, removed, at_end } =
                rescue::rescue(&mut self.link, keys, place, &terms, most, &mut round).await?;
            idle.extend(found);
            if !removed.is_empty() {
                self.removed(lane, source, removed).await?;
            }
            if !taken.is_empty() {
                shared.metrics.reclaimed(u64::try_from(taken.len()).unwrap_or(0));
                let sorted = self.sorter.sort(taken, asked_at_ms);
                if let Err(refused) = way_in.send(sorted).await {
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

    /// The entries of these deliveries are gone. Whoever holds one can end it; without a holder it is lost.
    async fn removed(&mut self, lane: Lane, source: Source, removed: Vec<(EntryId, String)>) -> Result<(), RedisError> {
        let shared = Arc::clone(&self.shared);
        let partition = &shared.partitions[self.partition];
        let living = workers::workers(&mut self.link, &shared.partitions[0].keys).await?;
        let now_ms = shared.clock.now_ms();
        for (id, consumer) in removed {
            let held = if consumer == shared.consumer {
                partition.leases.holds(&(lane, source, id))
            } else {
                living.get(&consumer).is_some_and(|worker| worker.seen_at_ms.saturating_add(SILENT_MS) > now_ms)
            };
            let stream = partition.keys.stream(lane, source);
            if !held && rescue::forget(&mut self.link, stream, id).await? {
                shared.metrics.entries_removed(lane, partition.keys.partition, 1);
                tracing::error!(
                    stream,
                    entry = %id,
                    consumer,
                    "something else than a worker removed this entry while a worker held it that is gone: the job is lost"
                );
            }
        }
        Ok(())
    }

    async fn find_adrift(&mut self, lane: Lane, source: Source) -> Result<(), RedisError> {
        let keys = &self.shared.partitions[self.partition].keys;
        let stream = keys.stream(lane, source);
        let search = &mut self.known[stream_place(lane, source)].search;
        for _ in 0..MOST_STEPS {
            let (found, at_end) = rescue::find_adrift(&mut self.link, stream, search).await?;
            if found > 0 {
                self.shared.metrics.adrift(found);
                tracing::warn!(
                    stream,
                    found,
                    "nobody held these deliveries: something else than a worker deleted a consumer of the group `workers`, \
                     acknowledged its entries or set it ahead; they are taken up again"
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
        let keys = &self.shared.partitions[self.partition].keys;
        let stream = keys.jobs(lane);
        let known = &mut self.known[stream_place(lane, source)].removed;
        let (count, more) = rescue::count_removed(&mut self.link, keys, lane, *known).await?;
        *known = count;
        if more > 0 {
            self.shared.metrics.entries_removed(lane, keys.partition, more);
            tracing::error!(
                stream,
                jobs = more,
                "something else than a worker removed jobs that had not ended: a producer's XADD with MAXLEN, an XTRIM, an XDEL"
            );
        }
        Ok(())
    }
}

/// Takes in what was taken over of one lane, until there will be no more.
async fn take_in(mut intake: Intake, mut taken: mpsc::Receiver<Sorted>) {
    while let Some(sorted) = taken.recv().await {
        intake.let_in(sorted).await;
    }
}
